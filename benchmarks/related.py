"""Mask R-CNN, MNC and FCIS, trained on the same pictures for the same number of steps.

The budget is that of one run of the ablations' profile `calm`: its Shapes, the recipe `tiny`, 600
steps. All three have the same backbone, neck and RPN. Mask R-CNN is table 2e's arm FCN, which is
the plain `tiny_fpn`; what results/calm.json holds of it is not made again.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python -m benchmarks.related

Writes results/related/SYSTEM_seedN.json after each run and leaves out those that are there.
`--keep FOLDER` also keeps the weights. About three minutes of one core a run.
"""

import argparse
import dataclasses
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from mrcnn_edu.ablations.data import load
from mrcnn_edu.ablations.profiles import PROFILES
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.evaluation.detect import coco_results
from mrcnn_edu.evaluation.measure import measure
from mrcnn_edu.files import write_json
from mrcnn_edu.model import parameter_count
from mrcnn_edu.provenance import provenance
from mrcnn_edu.systems import SYSTEMS
from mrcnn_edu.training.run_log import read_metrics
from mrcnn_edu.training.train import train
from mrcnn_edu.weights.checkpoint import MODEL

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "related"
PROFILE = PROFILES["calm"]
MEASURED = ("fcis", "mnc")  # trained here; Mask R-CNN's runs are those of benchmarks.calm


def config_of(name: str) -> ModelConfig:
    """The teaching size of a system at the profile's size of pictures."""
    return PROFILE.model(SYSTEMS[name].teaching, "shapes")


def run(name: str, seed: int, keep: Path | None) -> dict[str, Any]:
    """Train and measure one system with one seed.

    Args:
        name: of the system.
        seed: of weights, order and augmentation.
        keep: folder for the weights, or None.
    """
    config, schedule = config_of(name), PROFILE.schedule("shapes", seed)
    described = {
        "system": name,
        "model": dataclasses.asdict(config),
        "train": dataclasses.asdict(schedule),
        "shapes": dataclasses.asdict(PROFILE.shapes),
        "training_images": PROFILE.training_images,
        "validation_images": PROFILE.validation_images,
    }
    origin = provenance(described, seed)
    pictures = load("shapes", "train", PROFILE.training_images, PROFILE.shapes)
    unseen = load("shapes", "val", PROFILE.validation_images, PROFILE.shapes)
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        model = train(config, schedule, pictures, Path(folder), progress=False)
        busy, start = time.process_time() - start, time.process_time()
        seconds = sorted(line["seconds"] for line in read_metrics(Path(folder) / "metrics.jsonl"))
        found = coco_results(model, unseen, batch_size=8, progress=False)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            shutil.copy2(Path(folder) / MODEL, keep / f"{name}_seed{seed}.safetensors")
    return {
        **origin,
        "parameters": parameter_count(model)["total"],
        "threads": torch.get_num_threads(),
        "step_seconds": seconds[len(seconds) // 2],
        # Processor time does not grow when other programs want the same cores.
        "step_processor_seconds": round(busy / schedule.steps, 4),
        "evaluate_processor_seconds": round(time.process_time() - start, 1),
        "metrics": measure(unseen, found, config),
    }


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--systems", nargs="*", default=MEASURED)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    RESULTS.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        for name in arguments.systems:
            path = RESULTS / f"{name}_seed{seed}.json"
            if path.exists():
                continue
            result = run(name, seed, arguments.keep)
            write_json(path, result)
            ap = {kind: values["AP"] for kind, values in result["metrics"].items()}
            print(json.dumps({"run": path.stem, **ap}), flush=True)


if __name__ == "__main__":
    main()
