"""Every number of a training run on one page, and the recipes that people train COCO with.

`TrainConfig`, a frozen dataclass, says how a network is trained; its defaults train the preset
`tiny_fpn` from scratch on a CPU with AdamW, as every result does that was measured before there was
Muon. `RECIPES` holds today's own recipe (tiny) and the schedules of the paper, of detectron2 (1x,
2x, 3x) and of torchvision. What follows from the numbers, the rate of a step for example, is
`mrcnn_edu.training.schedule`'s. Chapters 13 and 14.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from mrcnn_edu.config import suggest
from mrcnn_edu.errors import UserError

_AT_LEAST_0 = (
    "epochs",
    "learning_rate",
    "muon_rate_factor",
    "weight_decay",
    "norm_weight_decay",
    "bias_weight_decay",
    "bias_rate_factor",
    "fan_in_limit",
    "clip_gradient_norm",
    "warmup_steps",
    "crop",
    "aspect_group",
    "checkpoint_seconds",
    "skip_nonfinite",
)
_SHARES = ("warmup_factor", "flip_probability", "vertical_flip_probability")


@dataclass(frozen=True)
class TrainConfig:
    """How the network is trained. `recipe("tiny")` trains `tiny_fpn` from scratch on a CPU."""

    # How long, and on how much at a time.
    steps: int = 1000  # steps of the optimiser
    epochs: float = 0  # if not 0, the number of steps follows from the size of the data set
    batch_size: int = 4  # images a step, over all processes
    accumulate: int = 1  # parts in which a process takes its images of a step, to save memory
    seed: int = 0  # of new weights, the order of images, sizes, flips and sampled RoIs

    # Optimiser. Normalisation layers and biases have rules of their own in every code base.
    optimizer: Literal["adamw", "sgd", "muon"] = "adamw"  # muon: convolutions; the rest by adamw
    learning_rate: float = 2e-3  # the highest, after the warm-up
    momentum: float = 0.9  # of SGD
    muon_rate_factor: float = 15.0  # times the learning rate, of what muon trains
    weight_decay: float = 1e-2  # of weights; those of normalisation and biases have their own
    norm_weight_decay: float = 0.0  # of the weights and biases of normalisation layers
    bias_weight_decay: float = 0.0  # of all other biases
    bias_rate_factor: float = 1.0  # times the learning rate, of biases
    # A weight matrix with more inputs than this takes a rate as much lower; 0: all the same rate.
    fan_in_limit: int = 0
    clip_gradient_norm: float = 10.0  # gradients are scaled down to this length; 0: never
    average_decay: float = 0.99  # moving average of the weights, which is evaluated; 0: none

    # The rate of a step: a linear warm-up from warmup_factor · rate, then a fall.
    warmup_steps: int = 100  # in which the rate rises in a straight line
    warmup_factor: float = 0.01  # what the warm-up begins with, times the learning rate
    schedule: Literal["cosine", "steps"] = "cosine"  # how the rate falls after the warm-up
    milestones: tuple[float, ...] = (2 / 3, 8 / 9)  # parts of the run; schedule steps: a tenth each

    # Images. Empty short_sides: the model's own size.
    short_sides: tuple[int, ...] = ()  # shorter sides in px; one is drawn for each image
    grow: bool = False  # of short_sides, one after the other takes its turn, each for as many steps
    flip_probability: float = 0.5  # of mirroring left and right, 0..1
    vertical_flip_probability: float = 0.0  # of mirroring top and bottom, 0..1
    quarter_turns: bool = False  # rotate by a random multiple of 90°
    crop: int = 0  # side of a random square crop; 0 takes the whole image
    skip_empty: bool = False  # leave images without objects out
    aspect_group: int = 0  # so many images in a row are all wide or all tall; 0: as they come
    decode_on_gpu: bool = False  # JPEG files; pixels differ from those of the CPU by a level or two

    # Arithmetic.
    precision: Literal["float32", "tf32", "bf16", "fp16"] = "float32"  # arithmetic
    compile: bool = False  # torch.compile of backbone, neck and heads

    # What changes no result.
    workers: int = 0  # processes that load images; 0 loads in the training process
    checkpoint_seconds: float = 60.0  # how often everything is saved; 0: after every step
    keep_last: int = 1  # checkpoints to keep, the newest included
    evaluate_every: int = 0  # steps between measurements; 0: none. Needs a validation set
    tensorboard: bool = False  # write the numbers for TensorBoard too

    # What may go wrong.
    skip_nonfinite: int = 0  # steps with a loss that is NaN or infinite to leave out at most

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with."""
        if self.steps < 1 or self.batch_size < 1 or self.accumulate < 1:
            raise ValueError(
                f"steps is {self.steps}, batch_size {self.batch_size} and accumulate "
                f"{self.accumulate}; all must be at least 1."
            )
        if self.keep_last < 1 or self.workers < 0 or self.evaluate_every < 0:
            raise ValueError(
                f"keep_last is {self.keep_last} (at least 1), workers {self.workers} and "
                f"evaluate_every {self.evaluate_every} (at least 0)."
            )
        if any(side < 1 for side in self.short_sides):
            raise ValueError(f"short_sides are {self.short_sides}; each must be at least 1 pixel.")
        if self.grow and not self.short_sides:
            raise ValueError("grow is set and short_sides is empty; name the sizes.")
        for name in _AT_LEAST_0:
            if not 0 <= getattr(self, name) < math.inf:  # refuses NaN too
                raise ValueError(f"{name} is {getattr(self, name)}; it is a number of at least 0.")
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it lies in 0..1.")
        for name in ("average_decay", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it lies in [0, 1).")
        if not all(0 < share <= 1 for share in self.milestones):
            raise ValueError(f"milestones are {self.milestones}; they are parts of the run, 0..1.")


# A run may go on with other values of these: they change how it is carried out, not what it is.
# (Another `accumulate`, like another number of processes, changes which images share a padding.)
CHANGEABLE = frozenset(
    {
        "accumulate",
        "workers",
        "checkpoint_seconds",
        "keep_last",
        "evaluate_every",
        "tensorboard",
        "skip_nonfinite",
    }
)

# What all recipes for COCO share: 16 images a step, SGD, no average of weights, no clipping.
_COCO = TrainConfig(
    batch_size=16,
    optimizer="sgd",
    learning_rate=0.02,
    weight_decay=1e-4,
    bias_weight_decay=1e-4,
    clip_gradient_norm=0.0,
    average_decay=0.0,
    warmup_steps=1000,
    warmup_factor=1e-3,
    schedule="steps",
    skip_empty=True,
    aspect_group=2,  # eight processes take two images each
    workers=4,
    checkpoint_seconds=600.0,
    keep_last=2,
    evaluate_every=10_000,
)
_JITTER = (640, 672, 704, 736, 768, 800)

RECIPES = {
    # From scratch on a CPU. The fully connected layer of the box head has 2,352 inputs; the limit
    # is a 3×3 convolution of 48 channels.
    "tiny": replace(TrainConfig(), optimizer="muon", fan_in_limit=432),
    # The paper, §3.1; the warm-up and the rule of biases are Detectron's.
    "paper": replace(
        _COCO,
        steps=160_000,
        milestones=(120 / 160,),
        warmup_steps=500,
        warmup_factor=1 / 3,
        bias_weight_decay=0.0,
        bias_rate_factor=2.0,
    ),
    # detectron2, configs/COCO-InstanceSegmentation.
    "1x": replace(_COCO, steps=90_000, milestones=(60 / 90, 80 / 90), short_sides=_JITTER),
    "2x": replace(_COCO, steps=180_000, milestones=(120 / 180, 160 / 180), short_sides=_JITTER),
    "3x": replace(_COCO, steps=270_000, milestones=(210 / 270, 250 / 270), short_sides=_JITTER),
    # torchvision, references/detection; there normalisation layers decay like everything else.
    "torchvision": replace(_COCO, epochs=26, milestones=(16 / 26, 22 / 26), norm_weight_decay=1e-4),
}


def recipe(name: str) -> TrainConfig:
    """Return the training configuration called `name`.

    Raises:
        UserError: there is no recipe of that name; the message lists those there are.
    """
    if name not in RECIPES:
        raise UserError(
            f"There is no recipe {name!r}{suggest(name, RECIPES)}. Recipes: {', '.join(RECIPES)}."
        )
    return RECIPES[name]
