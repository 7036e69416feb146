"""`mrcnn-edu evaluate`: a checkpoint, or a file of results, measured on a data set."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from mrcnn_edu.cli.common import Data, Device, find_device, mistakes_of_the_user
from mrcnn_edu.cli.terminal import say, show
from mrcnn_edu.cli.trained import Trained
from mrcnn_edu.errors import UserError
from mrcnn_edu.files import read_json

if TYPE_CHECKING:
    from mrcnn_edu.data.dataset import Dataset


@dataclass
class Evaluate:
    """Measure a checkpoint, or a file of results, on a data set as COCO does.

    With torchrun, each process takes its share of the images. With --out, an evaluation that was
    interrupted goes on where it was.
    """

    trained: tyro.conf.OmitArgPrefixes[Trained] = field(default_factory=Trained)
    results: Path | None = None
    """Instead of a model: detections in COCO's results format. Needs no --images."""
    data: tyro.conf.OmitArgPrefixes[Data] = field(default_factory=Data)
    max_detections: int = 100
    """Detections of an image that count. Dense sets such as nuclei need 300."""
    batch_size: int = 1
    """Images at a time."""
    out: Path | None = None
    """Folder for detections, numbers, classes, mistakes, curves and pictures; else none is kept."""
    device: Device = "cpu"

    def run(self) -> None:
        """Run the command."""
        model_given = self.trained.checkpoint is not None or self.trained.weights is not None
        if model_given == (self.results is not None):
            raise UserError(
                "Give a model (--checkpoint or --weights) or --results, to say what is to be "
                "measured."
            )
        for name in ("max_detections", "batch_size"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise UserError(f"--{option} is {getattr(self, name)}; it must be 1 or more.")
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)  # a bad folder fails now, not in the end
        if self.results is not None:
            dataset = self._data_for_results()
            self._report(dataset, read_results(self.results))
            return
        from mrcnn_edu.evaluation.detect import coco_results
        from mrcnn_edu.processes import processes

        loaded = self.trained.load()
        dataset = self.data.load("val")
        _check_classes(loaded.categories.names, dataset)
        with processes(find_device(self.device)) as group:
            model = loaded.model.to(group.device)
            model.config = dataclasses.replace(
                model.config, detections_per_image=self.max_detections
            )
            with mistakes_of_the_user():  # an image that cannot be read
                results = coco_results(model, dataset, self.batch_size, folder=self.out)
            if group.first:
                self._report(dataset, results)

    def _report(self, dataset: "Dataset", results: list[dict[str, Any]]) -> None:
        """Print the numbers; write everything, and pictures where there are images."""
        from mrcnn_edu.data.coco import BROKEN
        from mrcnn_edu.evaluation import report as reports

        for reason, count in dataset.left_out.items():
            if reason.startswith(BROKEN):  # crowd regions are left out of training alone
                say(f"Left out of the ground truth: {count} {reason}")
        truth = dataset.ground_truth()
        report = reports.make_report(truth, results, self.max_detections)
        show(reports.summary_table(report))
        show(reports.error_table(report))
        if self.out is not None:
            reports.save_report(self.out, report)
            if not _without_images(dataset):
                chosen = range(min(6, len(dataset)))
                with mistakes_of_the_user():
                    path = self.out / reports.PICTURES_FILE
                    reports.save_pictures(path, dataset, results, chosen)
            say(f"Everything is in {self.out}/.")

    def _data_for_results(self) -> "Dataset":
        """The data set; with annotations alone, one that has no images."""
        from mrcnn_edu.data.coco import CocoFormatDataset

        if self.data.images is not None or self.data.annotations is None:
            return self.data.load("val")
        with mistakes_of_the_user():
            truth = _read_json(self.data.annotations, "annotations")
            skip = self.data.skip_bad_annotations
            return CocoFormatDataset(truth, str(self.data.annotations), skip_broken=skip)


def read_results(path: Path) -> list[dict[str, Any]]:
    """Read a file of COCO results.

    Raises:
        UserError: there is none, or it is not a list of dictionaries.
    """
    results = _read_json(path, "results")
    if not isinstance(results, list) or not all(isinstance(r, dict) for r in results):
        raise UserError(
            f"{path} is not a file of COCO results, which is a list of dictionaries with image_id, "
            "category_id, score and bbox, segmentation or keypoints. (Annotations go to "
            "--annotations.)"
        )
    return results


def _read_json(path: Path, what: str) -> Any:
    if not path.is_file():
        raise UserError(f"There is no file {path} with {what}.")
    with mistakes_of_the_user():
        return read_json(path)


def _without_images(dataset: "Dataset") -> bool:
    from mrcnn_edu.data.coco import CocoFormatDataset

    return type(dataset) is CocoFormatDataset


def _check_classes(names: Sequence[str], dataset: "Dataset") -> None:
    from mrcnn_edu.weights import unnamed

    if unnamed(names) and len(names) == dataset.num_classes:
        return  # weights of another code base, which do not say what their classes are
    if list(names) == list(dataset.class_names):
        return
    if sorted(names) == sorted(dataset.class_names):
        raise UserError(
            f"The data set has the checkpoint's {len(names)} classes in another order: the "
            f"checkpoint counts {', '.join(names[:4])} …, the data set "
            f"{', '.join(dataset.class_names[:4])} …, in the order of the ids of its categories. "
            "Give the categories the ids that they had in training."
        )
    raise UserError(
        f"The checkpoint knows {len(names)} classes ({', '.join(names[:4])} …), the data set "
        f"{dataset.num_classes} ({', '.join(dataset.class_names[:4])} …). Evaluate on the data "
        "set the model was trained for: give --images and --annotations."
    )
