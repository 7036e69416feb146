"""What COCO publishes of a list of results: average precision and recall. Chapter 11."""

from collections.abc import Sequence
from typing import Any

from mrcnn_edu import coco_ap
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.data.dataset import Dataset

HEADLINE = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def coco_metrics(
    ground_truth: dict[str, Any],
    results: Sequence[dict[str, Any]],
    iou_type: coco_ap.IouType,
    max_detections: int | None = None,
) -> dict[str, float | None]:
    """The numbers that COCO publishes, by `mrcnn_edu.coco_ap`.

    Args:
        ground_truth: the content of an annotation file.
        results: as `coco_results` writes them.
        iou_type: "bbox", "segm" or "keypoints".
        max_detections: detections of an image and class that count, best first; None for COCO's
            100, for keypoints 20.

    Returns:
        in percent, None where there is no ground truth in the range: AP, AP50, AP75, APs, APm,
        APl, and average recall, AR1, AR10, AR100 (at 1, 10 and `max_detections`), ARs, ARm,
        ARl. Keypoints have no small range; their recalls are AR, AR50, AR75, ARm, ARl.

    Raises:
        UserError: image or category ids of the results are not those of the ground truth, or
            something else is wrong with either; see `mrcnn_edu.coco_ap.load`.
    """
    limits = recall_limits(iou_type, max_detections)
    return coco_ap.evaluate(ground_truth, results, iou_type, limits).summary()


def measure(
    dataset: Dataset, results: Sequence[dict[str, Any]], config: ModelConfig
) -> dict[str, dict[str, float | None]]:
    """`coco_metrics` of boxes, masks and joints, as far as a model has such heads.

    Args:
        dataset: whose ground truth counts.
        results: as `coco_results` writes them.
        config: of the model; its `detections_per_image` count, for joints COCO's 20.

    Returns:
        `box`, and `mask` and `keypoints` where there are heads for them, and outlines for masks.
    """
    truth, most = dataset.ground_truth(), config.detections_per_image
    found = {"box": coco_metrics(truth, results, "bbox", most)}
    if config.mask_head != "none" and dataset.has_masks:
        found["mask"] = coco_metrics(truth, results, "segm", most)
    if config.keypoints:
        # Only some classes have joints: of COCO's and Shapes' the person alone.
        jointed = [r for r in results if "keypoints" in r]
        found["keypoints"] = coco_metrics(truth, jointed, "keypoints")
    return found


def recall_limits(iou_type: coco_ap.IouType, max_detections: int | None) -> list[int] | None:
    """At how many detections recall is told: COCO's 1 and 10, and the limit itself."""
    if max_detections is None:
        return None
    if iou_type == "keypoints":
        return [max_detections]
    return [n for n in (1, 10) if n < max_detections] + [max_detections]
