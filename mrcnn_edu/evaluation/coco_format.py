"""Detections in COCO's results format, which every COCO tool reads.

Boxes as xywh, masks as run-lengths, raw category ids. Chapter 11.
"""

from collections.abc import Callable, Collection
from typing import Any

import torch

from mrcnn_edu import boxes as box_ops
from mrcnn_edu import masks as mask_ops
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.record import Detections


def to_coco(
    detections: Detections,
    image_id: int,
    image_size: tuple[int, int],
    to_category_id: Callable[[int], int],
    config: ModelConfig,
    keypoint_labels: Collection[int] | None = None,
) -> list[dict[str, Any]]:
    """Write the detections of one image as COCO results.

    COCO's joints are pixel indices, ours places: half a pixel is taken off, as half a pixel was
    added to those of the targets.

    Args:
        detections: in pixels of the image.
        image_id: the id to write.
        image_size: (height, width) of the image, to which the masks are pasted.
        to_category_id: label 1..K -> category id.
        config: `mask_paste`, `mask_threshold` and `keypoint_shift` of it are used.
        keypoint_labels: the labels whose objects have joints; None: all.

    Returns:
        one dictionary a detection; with `segmentation` if the model has a mask head, and with
        `keypoints`, x, y and 1 of each joint, if it has a keypoint head.
    """
    xywh = box_ops.to_xywh(detections.boxes).tolist()
    labels, scores = detections.labels.tolist(), detections.scores.tolist()
    results: list[dict[str, Any]] = [
        {
            "image_id": int(image_id),
            "category_id": int(to_category_id(label)),
            "bbox": [round(v, 3) for v in box],
            "score": round(score, 6),
        }
        for box, label, score in zip(xywh, labels, scores, strict=True)
    ]
    if detections.masks is not None:
        rles = mask_ops.paste_to_rle(
            detections.masks.cpu(),
            detections.boxes.cpu(),
            image_size,
            threshold=config.mask_threshold,
            dialect=config.mask_paste,
        )
        for result, rle in zip(results, rles, strict=True):
            counts = rle["counts"].decode("ascii")
            result["segmentation"] = {"size": rle["size"], "counts": counts}
    if detections.keypoints is not None:
        shift = torch.tensor([config.keypoint_shift, config.keypoint_shift, 0.0])
        joints = (detections.keypoints.cpu() - shift).flatten(1).tolist()  # [D, 3 · J]
        for result, label, numbers in zip(results, labels, joints, strict=True):
            if keypoint_labels is None or label in keypoint_labels:
                result["keypoints"] = [round(v, 3) for v in numbers]
    return results
