"""A zoo of failures: one healthy training, and eight that each have one thing wrong.

All runs see the same images in the same order, for the same number of steps, by recipe `tiny` on
the easy Shapes of chapter 13. One thing differs, and the file of a run says what came of it: every
loss at every step, the norm of the gradient, losses on unseen images, AP, and what is detected in
three of them. BatchNorm is tried with two images a step, so GroupNorm is too, as its control.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python -m benchmarks.failures --seeds 0 1

Writes results/failures/NAME_seedS.json after every run; one that is there is not made again. About
a minute of one core a run. Chapter 13.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.data.shapes import ShapesConfig, ShapesDataset, generate
from mrcnn_edu.data.subset import Subset
from mrcnn_edu.errors import TrainingDivergedError
from mrcnn_edu.evaluation.detect import coco_results
from mrcnn_edu.evaluation.measure import measure
from mrcnn_edu.files import write_atomically
from mrcnn_edu.presets import TINY_FPN
from mrcnn_edu.processes import Processes
from mrcnn_edu.provenance import provenance
from mrcnn_edu.training.batches import Sample, load_sample, make_batch
from mrcnn_edu.training.config import TrainConfig, recipe
from mrcnn_edu.training.distributed import distribute
from mrcnn_edu.training.order import Place, make_order
from mrcnn_edu.training.schedule import learning_rate
from mrcnn_edu.training.train import make_state, train_step
from mrcnn_edu.training.validation import validation_losses

ROOT = Path(__file__).resolve().parent.parent
EASY = ShapesConfig(
    classes=("disc", "triangle", "cross"),
    image_size=96,
    max_objects=3,
    min_object_size=20,
    max_turn=0,
    overlap=0.3,
    min_contrast=180,
    texture=0,
    lines=0,
    noise=2,
)
SIDE = 128  # of the network's input: small objects then cover more cells
TRAINING_IMAGES, VALIDATION_IMAGES = 400, 100
LOSS_IMAGES = 16  # whose losses are measured on the way
LOSS_EVERY = 50
SHOWN = (8, 15, 33)  # validation images whose detections are kept
KEPT, LOWEST = 12, 0.05  # detections of each: at most so many, with at least this score
KINDS = ("box", "mask")
ALONE = Processes(0, 1, "cpu")

MODEL = dataclasses.replace(
    TINY_FPN,
    num_classes=len(EASY.classes),
    short_side=SIDE,
    long_side=SIDE,
    anchor_sizes=(12, 24, 48, 80, 112),
    roi_canonical_size=64,
    rpn_samples=64,
    rpn_top_after_nms=(100, 50),
    box_samples=16,
)
TRAIN = dataclasses.replace(recipe("tiny"), steps=300, warmup_steps=30, average_decay=0.97)

Target = dict[str, Tensor]
# What a mistake makes of a target; the other argument is the same image's target before the flip.
Change = Callable[[Target, Target], Target]


def xywh(target: Target, _: Target) -> Target:
    """Width and height where the second corner belongs."""
    boxes = target["boxes"]  # [G, 4]
    return target | {"boxes": torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1)}


def from_zero(target: Target, _: Target) -> Target:
    """The first class gets the number of the background, and its objects are background."""
    labels = target["labels"] - 1  # [G]
    new = {key: value[labels > 0] for key, value in target.items() if value.dim()}
    return target | new | {"labels": labels[labels > 0]}


def masks_stay(target: Target, unflipped: Target) -> Target:
    """Image and boxes are mirrored, masks are not."""
    return target | {"masks": unflipped["masks"]}


@dataclass(frozen=True)
class Arm:
    """One training: what it is called, and the one thing that it does in its own way."""

    title: str
    model: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    change: Change | None = None
    zero_grad: bool = True


ARMS = {
    "healthy": Arm("healthy"),
    "rate": Arm("rate × 10", train={"learning_rate": 10 * TRAIN.learning_rate}),
    "no_warmup": Arm("no warm-up", train={"warmup_steps": 0}),
    "xywh": Arm("boxes as xywh", change=xywh),
    "labels": Arm("labels from 0", change=from_zero),
    "batch_norm": Arm(
        "BatchNorm, 2 images a step",
        model={"backbone_norm": "batch_norm", "head_norm": "batch_norm"},
        train={"batch_size": 2},
    ),
    "group_norm": Arm("GroupNorm, 2 images a step", train={"batch_size": 2}),  # its control
    "masks": Arm("masks not flipped", change=masks_stay),
    "anchors": Arm(
        "anchors of a quarter of the size",
        model={"anchor_sizes": tuple(size / 4 for size in MODEL.anchor_sizes)},
    ),
    "zero_grad": Arm("no zero_grad", zero_grad=False),
}


def run(arm: Arm, seed: int) -> dict[str, Any]:
    """Train and measure one arm with one seed."""
    model_config = dataclasses.replace(MODEL, **arm.model)
    config = dataclasses.replace(TRAIN, seed=seed, **arm.train)
    training = ShapesDataset(generate(EASY, TRAINING_IMAGES, seed=1))
    validation = ShapesDataset(generate(EASY, VALIDATION_IMAGES, seed=2))
    watched = Subset(validation, range(LOSS_IMAGES))
    state = make_state(model_config, config, "cpu")
    if not arm.zero_grad:
        state.optimizer.zero_grad = lambda set_to_none=True: None  # type: ignore[method-assign]
    losses_of = distribute(state.model.train(), ALONE)
    order, steps, unseen, stopped = make_order(training, config), [], [], None
    start = time.process_time()
    for step in range(config.steps):
        places = order.step(step, config.batch_size)
        batch = make_batch([sample(training, p, config, model_config, arm) for p in places])
        try:
            rate = learning_rate(step, config)
            numbers, _ = train_step(state, losses_of, [batch], rate, config, ALONE)
        except TrainingDivergedError as error:
            stopped = str(error)
            break
        steps.append(numbers)
        if (step + 1) % LOSS_EVERY == 0:
            found = validation_losses(state.to_use, watched, config, ALONE)
            unseen.append({"step": step + 1, **found})
    seconds = time.process_time() - start
    model = state.to_use.eval()
    results = coco_results(model, validation, batch_size=8, progress=False)
    metrics = measure(validation, results, model_config)
    return {
        "title": arm.title,
        "steps": len(steps),
        "stopped": stopped,
        "train_processor_seconds": round(seconds, 1),
        "train": columns(steps),
        "unseen": columns(unseen),
        "metrics": {
            kind: {k: metrics[kind][k] for k in ("AP", "AP50")} for kind in ("box", "mask")
        },
        "detections": [shown(results, validation.image_ids[i]) for i in SHOWN],
    }


def sample(
    dataset: ShapesDataset, place: Place, config: TrainConfig, model: ModelConfig, arm: Arm
) -> Sample:
    """One image ready for the network, with the arm's mistake made after all checks."""
    good = load_sample(dataset, place, config, model)
    if arm.change is None:
        return good
    plain = load_sample(dataset, place, dataclasses.replace(config, flip_probability=0), model)
    return dataclasses.replace(good, target=arm.change(good.target, plain.target))


def columns(rows: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    """Rows of numbers as a list for each name, to four digits."""
    names = rows[0] if rows else ()
    return {name: [_short(row[name]) for row in rows] for name in names}


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def shown(results: list[dict[str, Any]], image_id: int) -> list[dict[str, Any]]:
    """The best detections of an image: box xywh, class, score, and the mask's run lengths."""
    of_image = [r for r in results if r["image_id"] == image_id and r["score"] >= LOWEST]
    best = sorted(of_image, key=lambda r: -r["score"])[:KEPT]
    return [
        {
            "bbox": [round(v, 1) for v in r["bbox"]],
            "label": r["category_id"],
            "score": round(r["score"], 3),
            "mask": r["segmentation"]["counts"],
        }
        for r in best
    ]


def write(path: Path, result: dict[str, Any]) -> None:
    """A result as JSON, one field a line, whole or not at all."""
    lines = [f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in result.items()]
    write_atomically(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def main() -> None:
    """Run what is missing, and write each result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "failures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in options.seeds:
        for name in options.arms:
            path = options.out / f"{name}_seed{seed}.json"
            if path.exists():
                continue
            arm = ARMS[name]
            settings = {
                "model": dataclasses.asdict(dataclasses.replace(MODEL, **arm.model)),
                "train": dataclasses.asdict(dataclasses.replace(TRAIN, seed=seed, **arm.train)),
                "shapes": dataclasses.asdict(EASY),
                "images": [TRAINING_IMAGES, VALIDATION_IMAGES],
                "shown": list(SHOWN),
            }
            origin = provenance(settings, seed)
            result = {**origin, **run(arm, seed)}
            write(path, result)
            print(name, seed, result["metrics"], result["stopped"] or "", flush=True)


if __name__ == "__main__":
    main()
