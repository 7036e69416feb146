"""Run a model over a data set, and measure it as COCO does.

Detections become the list of dictionaries that every COCO tool reads (boxes as xywh, masks as
run-lengths, raw category ids); pycocotools turns that list and the ground truth into average
precision. Chapter 11.
"""

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from mrcnn_edu import boxes as box_ops
from mrcnn_edu import masks as mask_ops
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.data.dataset import Dataset
from mrcnn_edu.data.transforms import resize, to_float
from mrcnn_edu.errors import UserError
from mrcnn_edu.model import Detections, MaskRCNN

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
AREAS = {"all": 0, "s": 1, "m": 2, "l": 3}  # pycocotools' order


@torch.no_grad()
def predict(model: MaskRCNN, images: Sequence[Tensor]) -> list[Detections]:
    """Detect objects in images of any size; boxes come back in pixels of those images.

    Args:
        model: any; the mode it is in is restored afterwards.
        images: each uint8 [3, H, W], RGB.

    Returns:
        for each image its detections. Masks stay M×M inside their boxes; see
        :func:`mrcnn_edu.masks.paste`.
    """
    was_training = model.training
    model.eval()
    try:
        device = next(model.parameters()).device
        resized = [
            resize(to_float(x), model.config.short_side, model.config.long_side).to(device)
            for x in images
        ]
        found = model.detect(model(resized)).detections
    finally:
        model.train(was_training)
    return [
        _in_original_pixels(d, small.shape, image.shape)
        for d, small, image in zip(found, resized, images, strict=True)
    ]


def coco_results(
    model: MaskRCNN, dataset: Dataset, batch_size: int = 1, progress: bool = True
) -> list[dict[str, Any]]:
    """Detect on a whole data set, in COCO's results format.

    Args:
        model: any.
        dataset: images and their ids; targets are not used.
        batch_size: images at a time. Only images of one size are equal alone and in a batch:
            padding changes borders and GroupNorm's statistics.
        progress: show a bar.

    Returns:
        a list of dictionaries with ``image_id``, ``category_id``, ``bbox`` (xywh), ``score`` and
        ``segmentation`` (compressed RLE), ready for JSON.
    """
    results: list[dict[str, Any]] = []
    starts = range(0, len(dataset), batch_size)
    for start in tqdm(starts, desc="detecting", disable=not progress, leave=False):
        indices = range(start, min(start + batch_size, len(dataset)))
        images = [dataset[i][0] for i in indices]
        for i, image, detections in zip(indices, images, predict(model, images), strict=True):
            size = (image.shape[1], image.shape[2])
            results += to_coco(
                detections, dataset.image_ids[i], size, dataset.to_category_id, model.config
            )
    return results


def to_coco(
    detections: Detections,
    image_id: int,
    image_size: tuple[int, int],
    to_category_id: Callable[[int], int],
    config: ModelConfig,
) -> list[dict[str, Any]]:
    """Write the detections of one image as COCO results.

    Args:
        detections: in pixels of the image.
        image_id: the id to write.
        image_size: (height, width) of the image, to which the masks are pasted.
        to_category_id: label 1..K -> category id.
        config: ``mask_paste`` and ``mask_threshold`` of it are used.
    """
    rles = mask_ops.paste_to_rle(
        detections.masks.cpu(),
        detections.boxes.cpu(),
        image_size,
        threshold=config.mask_threshold,
        dialect=config.mask_paste,
    )
    xywh = box_ops.to_xywh(detections.boxes).tolist()
    labels, scores = detections.labels.tolist(), detections.scores.tolist()
    return [
        {
            "image_id": int(image_id),
            "category_id": int(to_category_id(label)),
            "bbox": [round(v, 3) for v in box],
            "score": round(score, 6),
            "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
        }
        for box, label, score, rle in zip(xywh, labels, scores, rles, strict=True)
    ]


def coco_metrics(
    ground_truth: Any,
    results: Sequence[dict[str, Any]],
    iou_type: str,
    max_detections: int = 100,
) -> dict[str, float | None]:
    """Average precision by pycocotools.

    AP is the mean of pycocotools' precision array (10 IoU thresholds, 101 recalls, classes with
    ground truth) at ``max_detections``; its own summary is −1 for any other number than 100.

    Args:
        ground_truth: a ``pycocotools.coco.COCO``.
        results: as :func:`coco_results` writes them.
        iou_type: "bbox" or "segm".
        max_detections: detections of an image that count, best first.

    Returns:
        AP, AP50, AP75, APs, APm, APl in percent, None where there is no ground truth in the range.

    Raises:
        UserError: image or category ids of the results are not those of the ground truth.
    """
    from pycocotools.cocoeval import COCOeval

    _check_ids(ground_truth, results)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it goes
        evaluator = COCOeval(ground_truth, _as_coco(ground_truth, results, iou_type), iou_type)
        evaluator.params.maxDets = [max_detections]
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"][..., -1]  # [IoU, recall, class, area]
    thresholds = evaluator.params.iouThrs

    def mean(area: str, iou: float | None = None) -> float | None:
        values = precision[..., AREAS[area]]
        if iou is not None:
            values = values[np.isclose(thresholds, iou)]
        values = values[values > -1]  # −1 marks a class without ground truth in the range
        return round(100 * float(values.mean()), 3) if values.size else None

    return {
        "AP": mean("all"),
        "AP50": mean("all", 0.5),
        "AP75": mean("all", 0.75),
        "APs": mean("s"),
        "APm": mean("m"),
        "APl": mean("l"),
    }


def _as_coco(ground_truth: Any, results: Sequence[dict[str, Any]], iou_type: str) -> Any:
    """Results as pycocotools' COCO object.

    For masks the boxes are left out: where they are given, pycocotools takes the box's area, not
    the mask's, to decide whether a detection is small, medium or large.
    """
    from pycocotools.coco import COCO

    if not results:  # loadRes looks at the first result
        empty = COCO()
        empty.dataset = {**ground_truth.dataset, "annotations": []}
        empty.createIndex()
        return empty
    with_masks = iou_type == "segm" and all("segmentation" in r for r in results)
    left_out = {"bbox"} if with_masks else set()
    # loadRes writes into what it is given, so it gets copies.
    return ground_truth.loadRes(
        [{k: v for k, v in r.items() if k not in left_out} for r in results]
    )


def _check_ids(ground_truth: Any, results: Sequence[dict[str, Any]]) -> None:
    """Refuse ids that do not match: the most common cause of an AP of zero."""
    for key, known, name in (
        ("image_id", set(ground_truth.getImgIds()), "image"),
        ("category_id", set(ground_truth.getCatIds()), "category"),
    ):
        unknown = sorted({r[key] for r in results} - known)
        if unknown:
            raise UserError(
                f"{len(unknown)} {name} ids of the detections are not in the ground truth, for "
                f"example {unknown[:5]}; the ground truth has {sorted(known)[:5]} and so on. "
                + (
                    "Labels 1..K must be turned into the data set's own category ids."
                    if name == "category"
                    else "Were the detections made on another data set or split?"
                )
            )


def _in_original_pixels(d: Detections, small: torch.Size, original: torch.Size) -> Detections:
    scale = torch.tensor(
        [original[2] / small[2], original[1] / small[1]] * 2, device=d.boxes.device
    )
    return Detections(d.boxes * scale, d.labels, d.scores, d.masks)
