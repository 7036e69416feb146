"""How good is the model by now? Losses and average precision on images it is not trained on.

A loss on unseen images shows overfitting; AP is what counts; a picture shows what neither does.
Images are taken whole, at the model's own size, and their RoIs are sampled with the same generators
at every evaluation, so that two evaluations differ by the weights alone. Chapters 11 and 13.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mrcnn_edu.data.dataset import Dataset
from mrcnn_edu.evaluation.detect import coco_results
from mrcnn_edu.evaluation.examples import save_examples
from mrcnn_edu.evaluation.measure import measure
from mrcnn_edu.nn.detector import Detector
from mrcnn_edu.processes import Processes
from mrcnn_edu.training.batches import load_sample, make_batch
from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.precision import autocast

_LOSS_IMAGES = 500  # enough for a curve; AP takes them all
_PICTURES = 6
_PICTURE_SIDE = 400  # smaller images are enlarged about to this, so that labels do not cover them


def validate(
    model: Detector,
    dataset: Dataset,
    config: TrainConfig,
    step: int,
    folder: Path,
    group: Processes,
) -> dict[str, Any]:
    """Measure a model on a validation set and draw what it sees.

    Args:
        model: its mode is restored afterwards.
        dataset: of the same classes as the training set.
        config: seed and precision.
        step: of the run; it is in the names.
        folder: where `detections_STEP.png` is written.
        group: the processes that share the work; all must call.

    Returns:
        `step`, each loss and their sum `loss`, the metrics of boxes, and of masks and joints
        where there are heads for them (`mrcnn_edu.evaluation.measure.measure`), `seconds`.
        In processes other than the first, the losses only.
    """
    start = time.perf_counter()
    was_training = model.training
    model.eval()
    try:
        line: dict[str, Any] = {"step": step, **validation_losses(model, dataset, config, group)}
        results = coco_results(model, dataset, progress=False)  # each process its share
        if group.first:
            line |= measure(dataset, results, model.config)
            shown = _spread(len(dataset), _PICTURES)
            picture = folder / f"detections_{step:07d}.png"
            scale = max(1, _PICTURE_SIDE // max(dataset[shown[0]][0].shape))
            save_examples(picture, model, dataset, shown, scale)
    finally:
        model.train(was_training)
    group.wait()
    return {**line, "seconds": round(time.perf_counter() - start, 2)}


@torch.no_grad()
def validation_losses(
    model: Detector, dataset: Dataset, config: TrainConfig, group: Processes
) -> dict[str, float]:
    """The mean over at most 500 images of each loss, and the mean of their sum, `loss`.

    Args:
        model: in the mode that it is in.
        dataset: the images, taken at equal distances and without augmentation.
        config: of the run: its precision and seed.
        group: the processes that share the work.

    Returns:
        the same numbers in every process, by name.
    """
    plain = dataclasses.replace(
        config,
        short_sides=(),
        grow=False,
        flip_probability=0.0,
        vertical_flip_probability=0.0,
        quarter_turns=False,
        crop=0,
    )
    names: list[str] = []
    sums = torch.zeros(0)
    for index in group.share(_spread(len(dataset), _LOSS_IMAGES)):
        batch = make_batch([load_sample(dataset, (0, index), plain, model.config)])
        batch = batch.to(group.device)
        with autocast(config.precision, group.device):
            record = model(batch.images)
            losses = model.losses(
                record, batch.targets, batch.generators(config.seed, group.device)
            )
        names = list(losses)
        values = torch.stack([torch.ones_like(losses[names[0]]), *losses.values()]).float()
        sums = values if not len(sums) else sums + values
    images, *totals = group.mean(sums).tolist()
    means = {name: round(total / images, 6) for name, total in zip(names, totals, strict=True)}
    return {**means, "loss": round(sum(means.values()), 6)}


def score(line: dict[str, Any]) -> float:
    """By which of two evaluations is the better: mask AP, or box AP where there are no masks."""
    for kind in ("mask", "box"):
        value = line.get(kind, {}).get("AP")
        if value is not None:
            return float(value)
    return float("-inf")


def _spread(length: int, count: int) -> Sequence[int]:
    """At most `count` indices, evenly over a data set: its order may mean something."""
    count = min(count, length)
    return [i * length // count for i in range(count)]
