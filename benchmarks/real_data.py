"""Real images: nuclei from scratch, and small models that learn COCO photographs by heart.

    MRCNN_DATA=… python -m benchmarks.real_data nuclei     # at most 20 minutes on two CPU cores
    MRCNN_DATA=… python -m benchmarks.real_data coco       # a few minutes: eight photographs
    MRCNN_DATA=… python -m benchmarks.real_data coco_cc    # 15 minutes: 92, measured on 46 others
    python -m benchmarks.real_data shapes --device cuda    # the generated set, at full length

All go on where they were when they are started again. They write results/NAME.json (coco:
coco_overfit), on a GPU results/NAME_cuda.json; pictures stay in runs/, since the images are not
ours to publish.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import skimage.data
from rich.console import Console

from mrcnn_edu.cli import main as command_line
from mrcnn_edu.cli.quickstart import metrics_table
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.data.coco import CocoDataset
from mrcnn_edu.data.dataset import Dataset, InMemory
from mrcnn_edu.data.shapes import ShapesDataset, default_sets
from mrcnn_edu.data.subset import Subset
from mrcnn_edu.evaluation.detect import coco_results
from mrcnn_edu.evaluation.examples import save_examples
from mrcnn_edu.evaluation.measure import measure
from mrcnn_edu.files import write_json
from mrcnn_edu.presets import TINY_FPN
from mrcnn_edu.provenance import provenance
from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.run_log import STEP_LOG, read_metrics
from mrcnn_edu.training.stop import TrainingInterruptedError
from mrcnn_edu.training.train import train

ROOT = Path(__file__).resolve().parent.parent

NUCLEI_MODEL = dataclasses.replace(
    TINY_FPN,
    num_classes=1,
    short_side=0,
    anchor_sizes=(10, 20, 40, 80, 160),
    roi_canonical_size=64,
    rpn_samples=256,
    rpn_top_before_nms=(600, 1000),
    rpn_top_after_nms=(300, 600),
    box_samples=96,
    detections_per_image=300,
)
NUCLEI_TRAIN = TrainConfig(
    steps=6500, crop=160, vertical_flip_probability=0.5, quarter_turns=True, average_decay=0.998
)

COCO_MODEL = dataclasses.replace(
    TINY_FPN,
    num_classes=80,
    short_side=256,
    long_side=384,
    anchor_sizes=(16, 32, 64, 128, 256),
    roi_canonical_size=128,
    box_samples=64,
)
COCO_TRAIN = TrainConfig(steps=900)
COCO_CC_TRAIN = TrainConfig(steps=2400)
SHAPES_TRAIN = TrainConfig(steps=20_000, average_decay=0.998)  # 53 epochs


def first_images(whole: CocoDataset, count: int) -> Subset:
    """The first images of a set that have at least one object and no crowd."""
    plain = [
        i
        for i in range(len(whole))
        if whole.annotations(i) and not any(a["iscrowd"] for a in whole.annotations(i))
    ]
    return Subset(whole, plain[:count])


def run(
    name: str,
    model_config: ModelConfig,
    train_config: TrainConfig,
    training_set: Dataset,
    validation_set: Dataset,
    photographs: Sequence[Path] = (),
    seen: Dataset | None = None,
    device: str = "cpu",
) -> None:
    """Train, measure, draw, predict on `photographs`, and write `results/NAME.json`.

    With `seen` the model is measured on that set too: images that it was trained on.
    """
    name = name if device == "cpu" else f"{name}_{device.split(':')[0]}"
    folder = ROOT / "runs" / name
    configs = {
        "model": dataclasses.asdict(model_config),
        "train": dataclasses.asdict(train_config),
        "training_images": len(training_set),
        "validation_images": len(validation_set),
    }
    origin = provenance(configs, train_config.seed)  # the commit that runs, not a later one
    model = train(model_config, train_config, training_set, folder, device)
    start = time.perf_counter()
    results = coco_results(model, validation_set)
    evaluate_seconds = time.perf_counter() - start
    metrics = measure(validation_set, results, model_config)
    result = {
        **origin,
        "train_seconds": round(sum(m["seconds"] for m in read_metrics(folder / STEP_LOG)), 1),
        "evaluate_seconds": round(evaluate_seconds, 1),
        **metrics,
        "predicted": predict_photographs(folder, photographs),
    }
    if seen is not None:
        result["seen"] = measure(seen, coco_results(model, seen), model_config)
        Console().print(metrics_table(result["seen"], f"{name}: {len(seen)} images it has seen"))
    write_json(ROOT / "results" / f"{name}.json", result)
    save_examples(folder / "detections.png", model, validation_set, range(6))
    Console().print(metrics_table(metrics, f"{name}: {len(validation_set)} images"))


def predict_photographs(run_folder: Path, photographs: Sequence[Path]) -> dict[str, int]:
    """Run `mrcnn-edu predict` on pictures nobody trained on; count the detections it wrote."""
    if not photographs:
        return {}
    out = run_folder / "predicted"
    command_line(
        ["predict", *map(str, photographs), "--checkpoint", str(run_folder), "--out", str(out)]
    )
    return {
        p.name: len(json.loads((out / f"{p.stem}_detections.json").read_text())["annotations"])
        for p in photographs
    }


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["nuclei", "coco", "coco_cc", "shapes"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, help="another length than the one that is recorded")
    arguments = parser.parse_args()
    if arguments.what != "shapes" and "MRCNN_DATA" not in os.environ:
        parser.error("MRCNN_DATA must name the folder with nuclei/ and coco_cc/")
    try:
        measure_one(arguments.what, arguments.device, arguments.steps)
    except TrainingInterruptedError as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        sys.exit(130)


def measure_one(what: str, device: str, steps: int | None) -> None:
    """One of the four."""

    def split(folder: str, name: str) -> CocoDataset:
        data = Path(os.environ["MRCNN_DATA"]) / folder
        return CocoDataset(data / name, data / f"annotations/instances_{name}.json")

    def length(config: TrainConfig) -> TrainConfig:
        return dataclasses.replace(config, steps=steps) if steps else config

    if what == "nuclei":
        training, others = InMemory(split("nuclei", "train")), split("nuclei", "val")
        config = length(NUCLEI_TRAIN)
        run("nuclei", NUCLEI_MODEL, config, training, others, device=device)
    elif what == "coco":
        photos = split("coco_cc", "train2017")
        eight = first_images(photos, 8)
        pictures = [
            photos.folder / eight.images[0]["file_name"],
            Path(skimage.data.data_dir) / "astronaut.png",
        ]
        config = length(COCO_TRAIN)
        run("coco_overfit", COCO_MODEL, config, InMemory(eight), eight, pictures, device=device)
    elif what == "coco_cc":
        training, others = InMemory(split("coco_cc", "train2017")), split("coco_cc", "val2017")
        config = length(COCO_CC_TRAIN)
        run("coco_cc", COCO_MODEL, config, training, others, seen=training, device=device)
    else:
        shapes = [ShapesDataset(s) for s in default_sets()]
        config = length(SHAPES_TRAIN)
        run("shapes", TINY_FPN, config, InMemory(shapes[0]), shapes[1], device=device)


if __name__ == "__main__":
    main()
