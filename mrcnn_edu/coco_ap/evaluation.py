"""Average precision and average recall as COCO defines them. The whole of it on one page.

For each image and class, detections choose objects, best score first; that says which are right.
For each class, all its detections in one row by score give precision and recall, and the area
under that curve is the AP, at one IoU threshold, one range of object sizes, one limit on
detections an image. COCO's AP is the mean over ten thresholds and all classes.

Lin et al., "Microsoft COCO: Common Objects in Context", arXiv:1405.0312, and cocodataset.org,
"Detection Evaluation"; Mask R-CNN, §4. Numbers are pycocotools', to the last bit. Chapter 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mrcnn_edu.coco_ap import match_kernels as kernels
from mrcnn_edu.coco_ap.groups import group, overlaps
from mrcnn_edu.coco_ap.load import (
    Floats,
    Index,
    Instances,
    IouType,
    constants,
    load_results,
    load_truth,
)
from mrcnn_edu.kernels import threads

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # T
RECALL_POINTS = np.linspace(0, 1, 101)  # Q
# Ranges of an object's area in px², both ends included, in pycocotools' order. A stands for them.
AREAS: dict[str, tuple[float, float]] = {
    "all": (0, 1e10),
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e10),
}


@dataclass(frozen=True)
class Evaluation:
    """Precision and recall for T thresholds, K classes, A area ranges, M limits.

    −1 marks a class without an object in the range: nothing can be said about it there. The arrays
    are `COCOeval.eval["precision"]`, `["recall"]` and `["scores"]`.
    """

    precision: Floats  # [T, Q, K, A, M] at Q recalls
    recall: Floats  # [T, K, A, M] the highest that is reached
    scores: Floats  # [T, Q, K, A, M] the score of the detection that reaches each recall
    iou_thresholds: Floats  # [T]
    areas: tuple[str, ...]  # A names
    max_detections: tuple[int, ...]  # M limits, ascending
    category_ids: tuple[int, ...]  # K
    iou_type: IouType

    def ap(
        self, iou: float | None = None, area: str = "all", category_id: int | None = None
    ) -> float | None:
        """AP in percent at the highest limit; None where there is no ground truth.

        Args:
            iou: one of the thresholds; None for the mean of all.
            area: one of `areas`.
            category_id: None for the mean of all classes.
        """
        return self._mean(self.precision, iou, area, category_id, -1)

    def ar(
        self,
        iou: float | None = None,
        area: str = "all",
        category_id: int | None = None,
        max_detections: int | None = None,
    ) -> float | None:
        """Average recall in percent: the highest recall, averaged like `ap`.

        Args:
            iou, area, category_id: as in `ap`.
            max_detections: one of the limits; None for the highest.
        """
        m = -1 if max_detections is None else self.max_detections.index(max_detections)
        return self._mean(self.recall, iou, area, category_id, m)

    def summary(self) -> dict[str, float | None]:
        """The numbers that COCO publishes: twelve for boxes and masks, ten for keypoints.

        AP, AP50, AP75, APs, APm, APl; then AR1, AR10, AR100 (at the limits that were evaluated),
        ARs, ARm, ARl; for keypoints AR, AR50, AR75 and no small objects. In percent, to three
        decimals; None where there is no ground truth in the range.
        """
        ranges = {f"{area[0]}": area for area in self.areas if area != "all"}
        found = {"AP": self.ap(), "AP50": self.ap(0.5), "AP75": self.ap(0.75)}
        found |= {f"AP{letter}": self.ap(area=area) for letter, area in ranges.items()}
        if self.iou_type == "keypoints":
            found |= {"AR": self.ar(), "AR50": self.ar(0.5), "AR75": self.ar(0.75)}
        else:
            found |= {f"AR{m}": self.ar(max_detections=m) for m in self.max_detections}
        found |= {f"AR{letter}": self.ar(area=area) for letter, area in ranges.items()}
        return {name: None if v is None else round(v, 3) for name, v in found.items()}

    def _mean(
        self, values: Floats, iou: float | None, area: str, category_id: int | None, m: int
    ) -> float | None:
        values = values[..., self.areas.index(area), m]  # [T, .., K]
        if iou is not None:
            at = np.flatnonzero(np.isclose(self.iou_thresholds, iou))
            if not at.size:
                raise ValueError(f"IoU {iou} was not evaluated, only {self.iou_thresholds}.")
            values = values[at]
        if category_id is not None:
            values = values[..., self.category_ids.index(category_id)]
        known = values[values > -1]
        return 100 * float(known.mean()) if known.size else None


def evaluate(
    ground_truth: dict[str, Any],
    results: Sequence[dict[str, Any]],
    iou_type: IouType,
    max_detections: Sequence[int] | None = None,
    iou_thresholds: Floats = IOU_THRESHOLDS,
    sigmas: Floats | None = None,
) -> Evaluation:
    """Measure COCO results against a COCO ground truth.

    Args:
        ground_truth: the content of an annotation file.
        results: detections in COCO's results format.
        iou_type: "bbox", "segm" or "keypoints".
        max_detections: limits on the detections of an image and class, best first; by default
            COCO's: 1, 10 and 100, for keypoints 20.
        iou_thresholds: [T] ascending. At keypoints they are thresholds of the similarity.
        sigmas: [J] the keypoints' constants; None: those of the categories' joints.

    Raises:
        UserError: what is wrong with the file or the results; see
            `mrcnn_edu.coco_ap.load`.
        ValueError: an unknown `iou_type`, or limits below 1.
    """
    if iou_type not in ("bbox", "segm", "keypoints"):
        raise ValueError(f"iou_type is 'bbox', 'segm' or 'keypoints', got {iou_type!r}.")
    defaults = (20,) if iou_type == "keypoints" else (1, 10, 100)
    limits = sorted(set(defaults if max_detections is None else max_detections))
    if not limits or limits[0] < 1:
        raise ValueError(f"max_detections must be 1 or more, got {max_detections}.")
    sigmas = constants(ground_truth, iou_type, sigmas)
    index, truth = load_truth(ground_truth, iou_type, len(sigmas))
    found = load_results(results, index, iou_type, len(sigmas))
    # COCO's person annotations have no joints on small people, so keypoints have no such range.
    areas = {k: v for k, v in AREAS.items() if (k, iou_type) != ("small", "keypoints")}
    arrays = _measure(index, truth, found, areas, limits, iou_thresholds, sigmas)
    ids = tuple(index.category_ids)
    return Evaluation(*arrays, iou_thresholds, tuple(areas), tuple(limits), ids, iou_type)


def _measure(
    index: Index,
    truth: Instances,
    found: Instances,
    areas: dict[str, tuple[float, float]],
    limits: list[int],
    thresholds: Floats,
    sigmas: Floats,
) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and scores, as `Evaluation` holds them."""
    n_images, n_classes = len(index.image_ids), len(index.category_ids)
    n_areas, n_limits = len(areas), len(limits)
    # A group is an image and a class. Sorted by class first, so that classes are stretches.
    groups = group(
        found.label * n_images + found.image,
        found.score,
        truth.label * n_images + truth.image,
        limits[-1],
    )
    ious = overlaps(found, truth, groups, sigmas, float(thresholds[0]))  # [pairs]

    low, high = np.array(list(areas.values()), np.float64).T[:, :, None]  # [A, 1] each
    truth_area, found_area = truth.area[groups.truth], found.area[groups.found]
    outside = (truth_area < low) | (truth_area > high) | truth.ignore[groups.truth]  # [A, G]
    found_outside = (found_area < low) | (found_area > high)  # [A, D]

    n_found = len(groups.found)
    matches = np.empty((n_areas, len(thresholds), n_found), np.int32)
    ignored = np.empty(matches.shape, np.bool_)
    threads.run(
        kernels.match,
        threads.threads_for(len(thresholds) * n_areas * (groups.pairs + n_found)),
        *(ious, groups.block, groups.found_start, groups.truth_start),
        *(truth.crowd[groups.truth], outside, found_outside, thresholds, matches, ignored),
    )

    label, score = found.label[groups.found], found.score[groups.found]
    order = np.lexsort((-score, label))  # all images in one row; equal scores in image order
    class_start = np.searchsorted(label[order], np.arange(n_classes + 1))
    positives = np.zeros((n_classes, n_areas), np.int64)
    for a in range(n_areas):
        positives[:, a] = np.bincount(truth.label[groups.truth][~outside[a]], minlength=n_classes)
    shape = (len(thresholds), len(RECALL_POINTS), n_classes, n_areas, n_limits)
    precision, scores = np.full(shape, -1.0), np.full(shape, -1.0)
    recall = np.full(shape[:1] + shape[2:], -1.0)
    threads.run(
        kernels.accumulate,
        threads.threads_for(len(thresholds) * n_areas * n_limits * n_found),
        *(matches, ignored, score, groups.rank, order, class_start, positives),
        *(np.array(limits), RECALL_POINTS, precision, recall, scores),
    )
    return precision, recall, scores
