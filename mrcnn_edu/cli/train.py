"""``mrcnn-edu quickstart`` and ``mrcnn-edu train``."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.console import Console

from mrcnn_edu.cli.common import Data, Device, find_device
from mrcnn_edu.presets import preset
from mrcnn_edu.quickstart import quickstart
from mrcnn_edu.run_folder import MODEL
from mrcnn_edu.train import train
from mrcnn_edu.train_config import TrainConfig


@dataclass
class Quickstart:
    """Generate Shapes, train a small Mask R-CNN from scratch, measure it and draw what it sees."""

    out: Path = Path("runs/quickstart")
    """The run folder."""

    def run(self) -> None:
        """Run the command."""
        quickstart(self.out)


@dataclass
class Train:
    """Train a model from scratch, or go on with the run in --out."""

    preset: str = "tiny_fpn"
    """Which model: tiny_fpn or r50_fpn. Its number of classes follows the data."""
    out: Path = Path("runs/train")
    """The run folder; if it holds an unfinished run, training goes on there."""
    data: tyro.conf.OmitArgPrefixes[Data] = field(default_factory=Data)
    train: tyro.conf.OmitArgPrefixes[TrainConfig] = field(default_factory=TrainConfig)
    short_side: int | None = None
    """Scale images to this shorter side; 0 takes them as they are. Default: the preset's."""
    device: Device = "cpu"

    def run(self) -> None:
        """Run the command."""
        config = preset(self.preset)
        dataset = self.data.load("train")
        config = dataclasses.replace(config, num_classes=dataset.num_classes)
        if self.short_side is not None:
            # The longer side may grow in COCO's proportion, 800 to 1333.
            long_side = max(config.long_side, round(self.short_side * 1333 / 800))
            config = dataclasses.replace(config, short_side=self.short_side, long_side=long_side)
        train(config, self.train, dataset, self.out, find_device(self.device))
        Console().print(
            f"Done: {self.out / MODEL}. Measure it with "
            f"`mrcnn-edu evaluate --checkpoint {self.out}`, with --images and --annotations of "
            "pictures it has not seen."
        )
