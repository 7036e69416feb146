"""One run of an experiment: an arm, a data set, a seed. Trained, measured, written as JSON.

Code and machine apart, a run is what its configuration says; its file is named by a hash of it. So
a run that several tables share is made once, what is there is never made again, and a file whose
configuration is another's cannot be mistaken for it. Chapter 15.
"""

import dataclasses
import hashlib
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mrcnn_edu.ablations.data import load
from mrcnn_edu.ablations.table import DataName
from mrcnn_edu.config import ModelConfig, current_fields, former_fields
from mrcnn_edu.data.dataset import Dataset
from mrcnn_edu.data.shapes import ShapesConfig
from mrcnn_edu.evaluation.detect import coco_results
from mrcnn_edu.evaluation.measure import measure
from mrcnn_edu.files import write_json
from mrcnn_edu.model import parameter_count
from mrcnn_edu.provenance import provenance
from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.run_folder import STATE
from mrcnn_edu.training.run_log import STEP_LOG, read_metrics
from mrcnn_edu.training.state import steps_done
from mrcnn_edu.training.train import train


@dataclass(frozen=True)
class Run:
    """What decides about the outcome of a run, but for the code and the machine.

    `first` is a run whose weights this one begins with; its backbone then stays as it is, so that
    all runs that share it have the same features and the same proposals.
    """

    data: DataName
    model: ModelConfig
    train: TrainConfig
    training_images: int
    validation_images: int
    shapes: ShapesConfig | None = None  # what is generated; None for nuclei
    first: "Run | None" = None

    def config(self) -> dict[str, Any]:
        """The run as plain JSON values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @property
    def name(self) -> str:
        """Data, seed, and a hash of what differs from the defaults of each configuration.

        So a field that is added later, with a default that changes nothing, renames no run.
        """
        return self._named_by(_differences(self.config()))

    @property
    def names(self) -> tuple[str, str]:
        """The names a file of this run may have: today's, and that of commit 73924fa."""
        return self.name, self._named_by(_former(_differences(self.config())))

    def _named_by(self, differences: dict[str, Any]) -> str:
        text = json.dumps(differences, sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=5).hexdigest()
        return f"{self.data}_{digest}_seed{self.train.seed}"

    def is_described_by(self, config: dict[str, Any]) -> bool:
        """Whether a file's configuration is this run's. Fields it lacks had their default then."""
        return _completed(config) == self.config()


_DEFAULTS: dict[str, dict[str, Any]] = {
    name: json.loads(json.dumps(dataclasses.asdict(default)))
    for name, default in (
        ("model", ModelConfig()),
        ("train", TrainConfig()),
        ("shapes", ShapesConfig()),
    )
}


def _differences(config: dict[str, Any]) -> dict[str, Any]:
    found = dict(config)
    for part, default in _DEFAULTS.items():
        if config[part] is not None:
            found[part] = {k: v for k, v in config[part].items() if v != default[k]}
    if config["first"] is not None:
        found["first"] = _differences(config["first"])
    return found


def _former(differences: dict[str, Any]) -> dict[str, Any]:
    found = dict(differences)
    for part in _DEFAULTS:
        if found[part] is not None:
            found[part] = former_fields(found[part])
    if found["first"] is not None:
        found["first"] = _former(found["first"])
    return found


def _completed(config: dict[str, Any]) -> dict[str, Any]:
    found = dict(config)
    for part, default in _DEFAULTS.items():
        if config.get(part) is not None:
            found[part] = default | current_fields(config[part])
    if config.get("first") is not None:
        found["first"] = _completed(config["first"])
    return found


def execute(run: Run, results: Path, work: Path, device: str, nuclei: Path | None) -> Path:
    """Train and measure one run, going on where an earlier attempt was stopped.

    Args:
        run: what to do.
        results: folder for `NAME.json`.
        work: folder for checkpoints, so that a killed run goes on. What is done is removed, but
            for first stages.
        device: "cpu" or "cuda".
        nuclei: folder of the nuclei set, if the run needs it.

    Returns:
        the file with the result.
    """
    origin = provenance(run.config(), run.train.seed)  # the commit that runs, not a later one
    training = load(run.data, "train", run.training_images, run.shapes, nuclei)
    validation = load(run.data, "val", run.validation_images, run.shapes, nuclei)
    initial = _first_weights(run.first, training, work, device) if run.first else None
    folder = work / run.name
    earlier = steps_done(folder / STATE) if (folder / STATE).exists() else 0
    start = time.process_time()
    model = train(run.model, run.train, training, folder, device, progress=False, initial=initial)
    busy, start = time.process_time() - start, time.perf_counter()
    found = coco_results(
        model, validation, batch_size=8 if run.model.short_side else 1, progress=False
    )
    steps = read_metrics(folder / STEP_LOG)
    now = run.train.steps - earlier  # the steps of this attempt
    result = {
        **origin,
        "device": "cpu" if device == "cpu" else torch.cuda.get_device_name(device),
        "threads": torch.get_num_threads(),
        "parameters": parameter_count(model)["total"],
        "step_seconds": _median([line["seconds"] for line in steps]),
        # Processor time does not grow when other programs want the same cores. Of a run that was
        # killed it is that of its last attempt.
        "step_processor_seconds": round(busy / now, 4) if now else None,
        "evaluate_seconds": round(time.perf_counter() - start, 1),
        "metrics": measure(validation, found, run.model),
    }
    path = results / f"{run.name}.json"
    write_json(path, result)
    shutil.rmtree(folder)  # a run without a result is made, not taken from an old one's weights
    return path


def _first_weights(
    first: Run, training: Dataset, work: Path, device: str
) -> dict[str, torch.Tensor]:
    """The weights of a first stage, trained if they are not there."""
    folder = work / first.name
    model = train(first.model, first.train, training, folder, device, progress=False)
    return model.state_dict()


def _median(values: list[float]) -> float:
    return round(sorted(values)[len(values) // 2], 4)
