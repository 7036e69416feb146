"""`mrcnn-edu quickstart` and `mrcnn-edu train`."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from mrcnn_edu.cli.common import Data, Device, find_device
from mrcnn_edu.cli.terminal import say
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.errors import UserError
from mrcnn_edu.presets import Dialect, preset
from mrcnn_edu.training.config import TrainConfig, recipe
from mrcnn_edu.training.schedule import describe_scaling, scale_to_batch

if TYPE_CHECKING:
    from mrcnn_edu.data.dataset import Dataset

DEFAULT = "tiny_fpn"  # the preset


@dataclass
class Quickstart:
    """Generate Shapes, train a small Mask R-CNN from scratch, measure it and draw what it sees."""

    out: Path = Path("runs/quickstart")
    """The run folder."""

    def run(self) -> None:
        """Run the command."""
        from mrcnn_edu.cli.quickstart import quickstart

        quickstart(self.out)


@dataclass
class _Recipe:
    """The one option that sets the defaults of others: it is read first, by itself."""

    recipe: str = "tiny"


@dataclass
class Train:
    """Train a model, or go on with the run in --out. Under torchrun, all processes train one."""

    system: str = "maskrcnn"
    """Which kind of detector: maskrcnn, or mnc or fcis at teaching size (Chapter 18)."""
    preset: str | None = None
    """Which Mask R-CNN, tiny_fpn by default; `mrcnn-edu config` lists them. Its number of classes
    follows the data."""
    dialect: Dialect | None = None
    """Whose constants it has: torchvision's by default, detectron2's or the paper's."""
    recipe: str = "tiny"
    """Which defaults the options of training have: tiny, paper, 1x, 2x, 3x or torchvision."""
    out: Path = Path("runs/train")
    """The run folder; if it holds an unfinished run, training goes on there."""
    data: tyro.conf.OmitArgPrefixes[Data] = field(default_factory=Data)
    val_images: Path | None = None
    """Folder of validation images, for --evaluate-every; leave it out for Shapes."""
    val_annotations: Path | None = None
    """COCO instances JSON that belongs to them."""
    weights: str | None = None
    """Begin from torchvision (its detector), imagenet (its backbone), or a file of weights."""
    train: tyro.conf.OmitArgPrefixes[TrainConfig] = field(default_factory=TrainConfig)
    short_side: int | None = None
    """Scale images to this shorter side; 0 takes them as they are. Default: the preset's."""
    device: Device = "cpu"

    @classmethod
    def default(cls, arguments: Sequence[str]) -> "Train":
        """The command before its options are read: `--recipe` sets the defaults of others."""
        chosen, _ = tyro.cli(_Recipe, args=arguments, return_unknown_args=True, add_help=False)
        return cls(recipe=chosen.recipe, train=recipe(chosen.recipe))

    def run(self) -> None:
        """Run the command."""
        from mrcnn_edu.training.train import train
        from mrcnn_edu.weights import begin_from
        from mrcnn_edu.weights.checkpoint import MODEL

        config = self.model_config()
        dataset = self.data.load("train")
        config = dataclasses.replace(config, num_classes=dataset.num_classes)
        if self.short_side is not None:
            if not 0 <= self.short_side <= 16_384:
                raise UserError(
                    f"--short-side is {self.short_side}; it is a number of pixels, or 0 to take "
                    "images as they are."
                )
            # The longer side may grow in COCO's proportion, 800 to 1333.
            long_side = max(config.long_side, round(self.short_side * 1333 / 800))
            config = dataclasses.replace(config, short_side=self.short_side, long_side=long_side)
        initial = None
        if self.weights is not None:
            names, seed = dataset.class_names, self.train.seed
            begun = begin_from(self.weights, self.preset or DEFAULT, config, names, seed)
            config, initial = begun.config, begun.weights
            for note in begun.notes:
                _say(note)
        train(
            config,
            self.scaled(),
            dataset,
            self.out,
            find_device(self.device),
            validation=self.validation_set(dataset),
            initial=initial,
        )
        _say(
            f"Done: {self.out / MODEL}. Measure it with "
            f"`mrcnn-edu evaluate --checkpoint {self.out}`, with --images and --annotations of "
            "pictures it has not seen."
        )

    def model_config(self) -> ModelConfig:
        """The model that the options name.

        Raises:
            UserError: there is none, or an option of Mask R-CNN is given with another system.
        """
        from mrcnn_edu.systems import system

        if self.system == "maskrcnn":
            return preset(self.preset or DEFAULT, self.dialect)
        teaching = system(self.system).teaching
        given = {"preset": self.preset, "dialect": self.dialect, "weights": self.weights}
        for name, value in given.items():
            if value is not None:
                raise UserError(
                    f"--{name} is for Mask R-CNN; {self.system} has one size and begins from new "
                    "weights. Leave it out."
                )
        return teaching

    def scaled(self) -> TrainConfig:
        """The options, with a recipe of SGD scaled to the batch where the user did not say."""
        base, config = recipe(self.recipe), self.train
        if config.batch_size == base.batch_size or config.optimizer != "sgd":
            return config
        after = scale_to_batch(base, config.batch_size)
        left = {
            name: getattr(after, name)
            for name in ("learning_rate", "steps", "warmup_steps")
            if getattr(config, name) == getattr(base, name)
        }
        config = dataclasses.replace(config, **left)
        _say(describe_scaling(base, config))
        return config

    def validation_set(self, training_set: "Dataset") -> "Dataset | None":
        """What is measured during training; none without --evaluate-every, or without images."""
        data = Data(self.val_images, self.val_annotations)
        own = self.data.images is not None
        if not self.train.evaluate_every or (own and data == Data()):
            return None
        dataset = data.load("val")
        if list(dataset.class_names) != list(training_set.class_names):
            raise UserError(
                f"The validation set has other classes ({', '.join(dataset.class_names[:4])} …) "
                f"than the training set ({', '.join(training_set.class_names[:4])} …)."
            )
        return dataset


def _say(text: str) -> None:
    """Print, in the first process only."""
    if os.environ.get("RANK", "0") == "0":
        say(text)
