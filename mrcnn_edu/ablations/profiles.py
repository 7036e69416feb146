"""How large the experiments are: a smoke test, a laptop, a GPU.

A profile gives every arm of a table the same budget: the same images, the same steps, the same
seeds. The difficulty (steps, image side) was chosen with seed 100, which is never reported, so that
arms lie neither near 0 nor near the ceiling. Chapter 15.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from mrcnn_edu.ablations.table import DataName
from mrcnn_edu.config import ModelConfig, suggest
from mrcnn_edu.errors import UserError
from mrcnn_edu.train_config import TrainConfig


@dataclass(frozen=True)
class Profile:
    """The size of every run of an experiment."""

    name: str
    train: TrainConfig
    side: int  # of the network's input, and of crops of larger images
    training_images: int
    validation_images: int
    seeds: int  # of a table without an entry below
    seeds_of: Mapping[str, int] = field(default_factory=dict)

    def seeds_for(self, key: str) -> int:
        """How many seeds a table is run with."""
        return self.seeds_of.get(key, self.seeds)

    def model(self, config: ModelConfig, data: DataName) -> ModelConfig:
        """A model at this profile's size; anchors grow with the input."""
        if data == "nuclei":  # at their own scale: 8 to 60 pixels, up to 300 an image
            return dataclasses.replace(
                config,
                num_classes=1,
                short_side=0,
                anchor_sizes=(10, 20, 40, 80, 160),
                roi_canonical_size=64,
                rpn_top_before_nms=(600, 1000),
                rpn_top_after_nms=(300, 600),
                detections_per_image=300,
            )
        scale = self.side / config.short_side  # the presets' own input is 192
        return dataclasses.replace(
            config,
            num_classes=1 if data == "persons" else 10,
            short_side=self.side,
            long_side=self.side,
            anchor_sizes=tuple(round(size * scale, 1) for size in config.anchor_sizes),
            roi_canonical_size=config.roi_canonical_size * scale,
            keypoint_channels=64,
            keypoint_convs=4,
        )

    def schedule(self, data: DataName, seed: int) -> TrainConfig:
        """The training run of an arm."""
        if data == "nuclei":
            return dataclasses.replace(
                self.train,
                seed=seed,
                crop=self.side,
                vertical_flip_probability=0.5,
                quarter_turns=True,
            )
        return dataclasses.replace(self.train, seed=seed)


PROFILES = {
    # Every arm for two steps: does a table come out?
    "smoke": Profile(
        "smoke", TrainConfig(steps=2, batch_size=2, warmup_steps=1), 64, 8, 4, seeds=1
    ),
    # A laptop: an arm takes a minute or two on one core.
    "cpu": Profile(
        "cpu",
        TrainConfig(steps=600, warmup_steps=50, checkpoint_seconds=30),
        128,
        1500,
        200,
        seeds=3,
        seeds_of={"2c": 5, "2d": 5},
    ),
    # One large GPU, several runs at a time, the whole within two hours.
    "gpu": Profile(
        "gpu",
        TrainConfig(steps=2000, batch_size=16, warmup_steps=100, checkpoint_seconds=60),
        192,
        6000,
        500,
        seeds=5,
    ),
}


def profile(name: str) -> Profile:
    """The profile called ``name``.

    Raises:
        UserError: there is none; the message lists those there are.
    """
    if name not in PROFILES:
        raise UserError(
            f"There is no profile {name!r}{suggest(name, PROFILES)}. "
            f"Profiles: {', '.join(PROFILES)}."
        )
    return PROFILES[name]
