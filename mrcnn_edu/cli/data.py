"""`mrcnn-edu data`: generate, check and convert data sets."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from mrcnn_edu.cli.common import Data, mistakes_of_the_user
from mrcnn_edu.cli.terminal import say
from mrcnn_edu.data.shapes_config import ShapesConfig
from mrcnn_edu.errors import UserError


@dataclass
class WriteShapes:
    """Write a Shapes set to disk in COCO's format."""

    out: Path
    """Folder for SPLIT/*.png and annotations/instances_SPLIT.json."""
    count: int = 1500
    """Images to generate."""
    seed: int = 1
    """Of the pictures; another number gives others."""
    split: str = "train"
    """Name of the split; an existing one is never overwritten."""
    shapes: tyro.conf.OmitArgPrefixes[ShapesConfig] = field(default_factory=ShapesConfig)

    def run(self) -> None:
        """Run the command."""
        from mrcnn_edu.data.shapes import generate, write_coco

        with mistakes_of_the_user():
            path = write_coco(generate(self.shapes, self.count, self.seed), self.out, self.split)
        say(f"Wrote {self.count} images and {path}")


@dataclass
class CheckData:
    """Look at every image and target of a data set before training on it."""

    data: tyro.conf.OmitArgPrefixes[Data] = field(default_factory=Data)
    max_images: int = 0
    """Look at the first so many only; 0 looks at all."""

    def run(self) -> None:
        """Run the command."""
        from mrcnn_edu.data.check import check_dataset

        with mistakes_of_the_user():
            summary = check_dataset(self.data.load("train"), self.max_images or None)
        say(str(summary))
        if summary.problems:
            raise UserError(f"{len(summary.problems)} problems, the first of them listed above.")


@dataclass
class ConvertNuclei:
    """Turn the official 2018 Data Science Bowl folder into COCO format."""

    source: Path
    """stage1_train.zip, or the folder it was unpacked to."""
    out: Path
    """Folder for train/, val/ and their annotations."""

    def run(self) -> None:
        """Run the command."""
        from mrcnn_edu.data.nuclei import convert_nuclei

        with mistakes_of_the_user():
            paths = convert_nuclei(self.source, self.out)
        say(f"Wrote {' and '.join(map(str, paths))}")


@dataclass
class CheckCoco:
    """Is COCO 2017 complete? Names every file that is missing or cut off, and where to get it."""

    check: Path
    """Folder that holds train2017/, val2017/ and annotations/."""
    md5: bool = False
    """Hash archives that lie there too; takes minutes."""

    def run(self) -> None:
        """Run the command."""
        from mrcnn_edu.data.coco_files import check_coco

        with mistakes_of_the_user():
            report = check_coco(self.check, hash_archives=self.md5)
        say(str(report))
        if not report.complete:
            raise UserError(f"{len(report.problems)} problems in {self.check}, listed above.")


@dataclass
class WriteRehearsal:
    """Write generated JPEG images with COCO's own statistics, to rehearse a full-size run."""

    out: Path
    """Folder for SPLIT/*.jpg and annotations/instances_SPLIT.json."""
    count: int = 1000
    """Images to generate; about 0.17 MB each."""
    seed: int = 0
    """Of the pictures; another number gives others."""
    split: str = "train"
    """Name of the split; an existing one is never overwritten."""

    def run(self) -> None:
        """Run the command."""
        from mrcnn_edu.data.rehearsal import write_rehearsal

        with mistakes_of_the_user():
            path = write_rehearsal(self.out, self.count, self.seed, self.split)
        say(f"Wrote {self.count} images and {path}")


@dataclass
class DataCommand:
    """Generate, check and convert data sets."""

    command: tyro.conf.OmitArgPrefixes[
        Annotated[WriteShapes, tyro.conf.subcommand("shapes")]
        | Annotated[CheckCoco, tyro.conf.subcommand("coco")]
        | Annotated[WriteRehearsal, tyro.conf.subcommand("rehearsal")]
        | Annotated[CheckData, tyro.conf.subcommand("check")]
        | Annotated[ConvertNuclei, tyro.conf.subcommand("nuclei")]
    ]

    def run(self) -> None:
        """Run the command."""
        self.command.run()
