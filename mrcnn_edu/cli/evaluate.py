"""``mrcnn-edu evaluate``: a checkpoint measured on a data set."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.console import Console

from mrcnn_edu.checkpoint import load_model
from mrcnn_edu.cli.common import Data, Device, find_device, mistakes_of_the_user
from mrcnn_edu.data.dataset import Dataset
from mrcnn_edu.draw import save_examples
from mrcnn_edu.errors import UserError
from mrcnn_edu.evaluate import coco_results
from mrcnn_edu.provenance import write_json
from mrcnn_edu.quickstart import measure, metrics_table


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
        model = loaded.model.to(find_device(self.device))
        model.config = dataclasses.replace(model.config, detections_per_image=self.max_detections)
        with mistakes_of_the_user():  # an image that cannot be read
            results = coco_results(model, dataset)
        metrics = measure(dataset, results, self.max_detections)
        Console().print(metrics_table(metrics, f"{len(dataset)} images"))
        if self.out is not None:
            write_json(self.out / "detections.json", results)
            write_json(self.out / "metrics.json", metrics)
            save_examples(self.out / "examples.png", model, dataset, range(min(6, len(dataset))))


def _check_classes(names: Sequence[str], dataset: Dataset) -> None:
    if list(names) != list(dataset.class_names):
        raise UserError(
            f"The checkpoint knows {len(names)} classes ({', '.join(names[:4])} …), the data set "
            f"{dataset.num_classes} ({', '.join(dataset.class_names[:4])} …). Evaluate on the data "
            "set the model was trained for: give --images and --annotations."
        )
