"""The command line: ``mrcnn-edu quickstart | train | evaluate | predict | data``.

Each command is a dataclass of its options, which tyro turns into flags and help. A mistake of the
user ends in one sentence and exit code 1; everything else is a bug and shows its traceback.
"""

import dataclasses
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console

from mrcnn_edu import masks as mask_ops
from mrcnn_edu.checkpoint import LoadedModel, load_model
from mrcnn_edu.config import TrainConfig, preset
from mrcnn_edu.data import nuclei
from mrcnn_edu.data.check import check_dataset
from mrcnn_edu.data.coco import CocoDataset, read_rgb
from mrcnn_edu.data.dataset import Dataset
from mrcnn_edu.data.shapes import ShapesConfig, ShapesDataset, default_set, generate, write_coco
from mrcnn_edu.draw import draw_detections, to_image
from mrcnn_edu.errors import UserError
from mrcnn_edu.evaluate import coco_results, predict, to_coco
from mrcnn_edu.model import Detections
from mrcnn_edu.provenance import write_atomically, write_json
from mrcnn_edu.quickstart import measure, metrics_table, quickstart, save_examples
from mrcnn_edu.train import MODEL, TrainingInterruptedError, train


@contextmanager
def _mistakes_of_the_user() -> Iterator[None]:
    """What the data package raises about files and their content is the user's to put right."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error


Device = Annotated[str, tyro.conf.arg(help="cpu, cuda or cuda:1")]


@dataclass
class Data:
    """Where images come from: the generated Shapes set, or any set in COCO's format."""

    images: Path | None = None
    """Folder of images; leave it out for Shapes."""
    annotations: Path | None = None
    """COCO instances JSON that belongs to the images."""

    def load(self, split: Literal["train", "val"]) -> Dataset:
        """Return the data set; without paths the default Shapes set of ``split``."""
        if self.images is None and self.annotations is None:
            return ShapesDataset(default_set(split))
        if self.images is None or self.annotations is None:
            raise UserError("Give both --images and --annotations, or neither (Shapes).")
        with _mistakes_of_the_user():
            return CocoDataset(self.images, self.annotations)


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
        train(config, self.train, dataset, self.out, _device(self.device))
        Console().print(
            f"Done: {self.out / MODEL}. Measure it with "
            f"`mrcnn-edu evaluate --checkpoint {self.out}`, with --images and --annotations of "
            "pictures it has not seen."
        )


@dataclass
class Evaluate:
    """Measure a checkpoint on a data set as COCO does."""

    checkpoint: Path
    """A model.safetensors, or the run folder that holds one."""
    data: tyro.conf.OmitArgPrefixes[Data] = field(default_factory=Data)
    max_detections: int = 100
    """Detections of an image that count. Dense sets such as nuclei need 300."""
    out: Path | None = None
    """Folder for detections.json, metrics.json and examples.png; nothing is written without it."""
    device: Device = "cpu"

    def run(self) -> None:
        """Run the command."""
        loaded = load_model(self.checkpoint)
        dataset = self.data.load("val")
        _check_classes(loaded.categories.names, dataset)
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)  # a bad folder fails now, not in the end
        model = loaded.model.to(_device(self.device))
        model.config = dataclasses.replace(model.config, detections_per_image=self.max_detections)
        with _mistakes_of_the_user():  # an image that cannot be read
            results = coco_results(model, dataset)
        metrics = measure(dataset, results, self.max_detections)
        Console().print(metrics_table(metrics, f"{len(dataset)} images"))
        if self.out is not None:
            write_json(self.out / "detections.json", results)
            write_json(self.out / "metrics.json", metrics)
            save_examples(self.out / "examples.png", model, dataset, range(min(6, len(dataset))))


@dataclass
class Predict:
    """Detect objects in pictures: for each a PNG with the detections, and a COCO JSON."""

    pictures: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files."""
    checkpoint: Path
    """A model.safetensors, or the run folder that holds one."""
    out: Path = Path("runs/predict")
    """Where NAME_detections.png and NAME_detections.json go."""
    min_score: float = 0.5
    """Detections below this score are not drawn; the JSON holds them all."""
    device: Device = "cpu"

    def run(self) -> None:
        """Run the command."""
        if not self.pictures:
            raise UserError("Name at least one picture: mrcnn-edu predict PHOTO.jpg --checkpoint …")
        stems = [path.stem for path in self.pictures]
        if len(set(stems)) < len(stems):
            raise UserError("Two pictures have the same name; their results would be one file.")
        loaded = load_model(self.checkpoint)
        loaded.model.to(_device(self.device))
        for path in self.pictures:
            try:
                image = to_image(read_rgb(path))
            except (ValueError, OSError, SyntaxError) as error:
                raise UserError(f"Cannot read {path} as an image ({error}).") from error
            found = predict(loaded.model, [image])[0]
            # Not with_suffix: a stem may hold dots of its own, as in photo.v2.jpg.
            png, coco = (self.out / f"{path.stem}_detections.{kind}" for kind in ("png", "json"))
            try:
                write_json(coco, _coco_json(path, image, found, loaded))
                picture = io.BytesIO()
                draw_detections(
                    image,
                    found,
                    loaded.categories.names,
                    self.min_score,
                    scale=max(1, 512 // max(image.shape[1:])),
                    paste=loaded.model.config.mask_paste,
                    threshold=loaded.model.config.mask_threshold,
                ).save(picture, format="PNG")
                write_atomically(png, picture.getvalue())
            except OSError as error:
                raise UserError(
                    f"Cannot write to {self.out} ({error}). Choose a folder with --out."
                ) from error
            shown = int((found.scores >= self.min_score).sum())
            Console().print(
                f"{path}: {len(found.scores)} detections, {shown} with a score of at least "
                f"{self.min_score} drawn in {png}",
                highlight=False,
                soft_wrap=True,
            )


@dataclass
class WriteShapes:
    """Write a Shapes set to disk in COCO's format."""

    out: Path
    """Folder for SPLIT/*.png and annotations/instances_SPLIT.json."""
    count: int = 1500
    """Images to generate."""
    seed: int = 1
    split: str = "train"
    """Name of the split; an existing one is never overwritten."""
    shapes: tyro.conf.OmitArgPrefixes[ShapesConfig] = field(default_factory=ShapesConfig)

    def run(self) -> None:
        """Run the command."""
        with _mistakes_of_the_user():
            path = write_coco(generate(self.shapes, self.count, self.seed), self.out, self.split)
        Console().print(f"Wrote {self.count} images and {path}", soft_wrap=True)


@dataclass
class CheckData:
    """Look at every image and target of a data set before training on it."""

    data: tyro.conf.OmitArgPrefixes[Data] = field(default_factory=Data)
    max_images: int = 0
    """Look at the first so many only; 0 looks at all."""

    def run(self) -> None:
        """Run the command."""
        with _mistakes_of_the_user():
            summary = check_dataset(self.data.load("train"), self.max_images or None)
        Console().print(str(summary))


@dataclass
class ConvertNuclei:
    """Turn the official 2018 Data Science Bowl folder into COCO format."""

    source: Path
    """stage1_train.zip, or the folder it was unpacked to."""
    out: Path

    def run(self) -> None:
        """Run the command."""
        with _mistakes_of_the_user():
            paths = nuclei.convert_nuclei(self.source, self.out)
        Console().print(f"Wrote {' and '.join(map(str, paths))}", soft_wrap=True)


@dataclass
class DataCommand:
    """Generate, check and convert data sets."""

    command: tyro.conf.OmitArgPrefixes[
        Annotated[WriteShapes, tyro.conf.subcommand("shapes")]
        | Annotated[CheckData, tyro.conf.subcommand("check")]
        | Annotated[ConvertNuclei, tyro.conf.subcommand("nuclei")]
    ]

    def run(self) -> None:
        """Run the command."""
        self.command.run()


Command = (
    Annotated[Quickstart, tyro.conf.subcommand("quickstart")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Predict, tyro.conf.subcommand("predict")]
    | Annotated[DataCommand, tyro.conf.subcommand("data")]
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``mrcnn-edu``; exits with 0, 1 (a mistake of the user) or 130 (interrupted)."""
    command: Any = tyro.cli(
        Command,
        prog="mrcnn-edu",
        description="Mask R-CNN, built step by step: train, measure and use one.",
        args=arguments,
        config=(tyro.conf.OmitSubcommandPrefixes,),
    )
    try:
        command.run()
    except TrainingInterruptedError as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        sys.exit(130)
    except KeyboardInterrupt:
        print("\nStopped. What was saved before is kept.", file=sys.stderr)
        sys.exit(130)
    except UserError as error:
        print(f"mrcnn-edu: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"mrcnn-edu: {error}. Check the path, or choose another with --out.", file=sys.stderr)
        sys.exit(1)


def _device(name: str) -> str:
    try:
        kind = torch.device(name).type
    except RuntimeError as error:
        raise UserError(f"There is no device {name!r}; use cpu, cuda or cuda:1.") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError("PyTorch finds no CUDA GPU here. Leave --device out to run on the CPU.")
    return name


def _coco_json(
    path: Path, image: torch.Tensor, found: Detections, loaded: LoadedModel
) -> dict[str, Any]:
    """The detections of one picture as a COCO file: what pycocotools' ``COCO(path)`` reads."""
    categories = loaded.categories
    size = (image.shape[1], image.shape[2])
    results = to_coco(found, 1, size, lambda label: categories.ids[label - 1], loaded.model.config)
    for number, result in enumerate(results, start=1):
        area = int(mask_ops.decode(result["segmentation"]).sum())
        result.update(id=number, iscrowd=0, area=area)
    return {
        "images": [{"id": 1, "file_name": path.name, "height": size[0], "width": size[1]}],
        "annotations": results,
        "categories": [
            {"id": i, "name": name}
            for i, name in zip(categories.ids, categories.names, strict=True)
        ],
    }


def _check_classes(names: Sequence[str], dataset: Dataset) -> None:
    if list(names) != list(dataset.class_names):
        raise UserError(
            f"The checkpoint knows {len(names)} classes ({', '.join(names[:4])} …), the data set "
            f"{dataset.num_classes} ({', '.join(dataset.class_names[:4])} …). Evaluate on the data "
            "set the model was trained for: give --images and --annotations."
        )


if __name__ == "__main__":
    main()
