"""Which detections are compared with which objects, and how much each pair overlaps.

A group is what one matching sees: the detections of one image and class, best first and no more
than the limit, and the objects there. `mrcnn_edu.coco_ap.breakdown` takes an image with all its
classes. Chapter 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mrcnn_edu.coco_ap import overlap_kernels as kernels
from mrcnn_edu.coco_ap.load import (
    Bools,
    Floats,
    Instances,
    Ints,
    IouType,
    Runs,
    constants,
    load_results,
    load_truth,
)
from mrcnn_edu.kernels import threads


@dataclass(frozen=True)
class Groups:
    """D detections and G objects, sorted into C groups; a group is a stretch of each."""

    key: Ints  # [C]
    found: Ints  # [D] rows of the detections, best first within a group
    found_start: Ints  # [C + 1]
    rank: Ints  # [D] 0 for the best detection of its group
    truth: Ints  # [G] rows of the objects, in the file's order within a group
    truth_start: Ints  # [C + 1]
    block: Ints  # [C] where the group's overlaps [D, G] begin in the flat array of all
    pairs: int  # the length of that array


class Pairs(NamedTuple):
    """One class in one image, as plain arrays: all that matching asks for."""

    ious: Floats  # [D, G] detections best first
    scores: Floats  # [D]
    sizes: Floats  # [D] px² of the detections
    crowd: Bools  # [G]
    ignore: Bools  # [G] crowds, and people without joints
    area: Floats  # [G] px² of the objects


def pairs_by_class(
    ground_truth: dict[str, Any],
    results: Sequence[dict[str, Any]],
    iou_type: IouType,
    limit: int,
    sigmas: Floats | None = None,
) -> list[list[Pairs]]:
    """For each class, in order of the ids, its images that have an object or a detection of it.

    Args:
        ground_truth: the content of an annotation file.
        results: detections in COCO's results format.
        iou_type: "bbox", "segm" or "keypoints".
        limit: of each image and class the best detections stay, no more than this.
        sigmas: [J] the keypoints' constants; None: see `constants`.

    Raises:
        UserError: see `mrcnn_edu.coco_ap.load`.
    """
    sigmas = constants(ground_truth, iou_type, sigmas)
    index, truth = load_truth(ground_truth, iou_type, len(sigmas))
    found = load_results(results, index, iou_type, len(sigmas))
    n = len(index.image_ids)
    keys = found.label * n + found.image, truth.label * n + truth.image
    groups = group(keys[0], found.score, keys[1], limit)
    flat = overlaps(found, truth, groups, sigmas, 0.0)
    classes: list[list[Pairs]] = [[] for _ in index.category_ids]
    for c, key in enumerate(groups.key):
        d = groups.found[groups.found_start[c] : groups.found_start[c + 1]]
        g = groups.truth[groups.truth_start[c] : groups.truth_start[c + 1]]
        ious = flat[groups.block[c] :][: len(d) * len(g)].reshape(len(d), len(g))
        flags = truth.crowd[g], truth.ignore[g], truth.area[g]
        classes[key // n].append(Pairs(ious, found.score[d], found.area[d], *flags))
    return classes


def group(found_key: Ints, score: Floats, truth_key: Ints, limit: int) -> Groups:
    """Sort detections and objects by key; of each key the `limit` best detections stay.

    Args:
        found_key: [D] the group of each detection.
        score: [D]; of equal scores the earlier detection comes first, as in pycocotools.
        truth_key: [G] the group of each object.
        limit: detections of a group that count.
    """
    found = np.lexsort((-score, found_key))
    truth = np.argsort(truth_key, kind="stable")
    keys = np.union1d(found_key, truth_key)
    start = np.searchsorted(found_key[found], keys)
    rank = np.arange(len(found)) - np.repeat(start, np.diff(start, append=len(found)))
    found, rank = found[rank < limit], rank[rank < limit]
    found_start = np.append(np.searchsorted(found_key[found], keys), len(found))
    truth_start = np.append(np.searchsorted(truth_key[truth], keys), len(truth))
    ends = np.cumsum(np.diff(found_start) * np.diff(truth_start))
    block = np.append(0, ends)[:-1] if len(keys) else np.zeros(0, np.int64)
    pairs = int(ends[-1]) if len(keys) else 0
    return Groups(keys, found, found_start, rank, truth, truth_start, block, pairs)


def overlaps(
    found: Instances, truth: Instances, groups: Groups, sigmas: Floats, lowest: float
) -> Floats:
    """How much the detections of each group overlap its objects, as one flat array [pairs].

    Boxes and masks: intersection over union, or over the detection's area where the object is a
    crowd. Keypoints: object keypoint similarity.

    Args:
        found: the detections.
        truth: the objects, with the same geometry.
        groups: which to compare.
        sigmas: [J], see `constants`.
        lowest: mask IoUs below may be given as 0, which is faster.
    """
    result = np.empty(groups.pairs)
    starts = (groups.found_start, groups.truth_start, groups.block)
    crowd = truth.crowd[groups.truth]
    workers = threads.threads_for(20 * groups.pairs)
    if found.runs is not None and truth.runs is not None:
        busy = np.repeat(np.diff(groups.truth_start) > 0, np.diff(groups.found_start))
        sought = np.repeat(np.diff(groups.found_start) > 0, np.diff(groups.truth_start))
        threads.run(
            kernels.mask_overlaps,
            workers,
            *(*_decode(found.runs, groups.found[busy]), groups.found),
            *(*_decode(truth.runs, groups.truth[sought]), groups.truth),
            *(crowd, *starts, lowest, result),
        )
    elif found.keypoints is not None and truth.keypoints is not None:
        threads.run(
            kernels.keypoint_overlaps,
            workers,
            *(found.keypoints[groups.found], truth.keypoints[groups.truth]),
            *(truth.boxes[groups.truth], truth.area[groups.truth], (2 * sigmas) ** 2),
            *(*starts, result),
        )
    else:
        boxes = (found.boxes[groups.found], truth.boxes[groups.truth])
        threads.run(kernels.box_overlaps, workers, *boxes, crowd, *starts, result)
    return result


def _decode(masks: Runs, rows: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Runs [., 2], where each mask's begin [n + 1], boxes [n, 4] xyxy, areas [n]; `rows` only."""
    wanted: Bools = np.zeros(len(masks.ends), np.bool_)
    wanted[rows] = True
    offset = np.append(0, np.cumsum(np.where(wanted, masks.count, 0)))
    runs, boxes = np.empty((offset[-1], 2), np.int64), np.zeros((len(wanted), 4), np.int64)
    threads.run(
        kernels.decode_runs,
        threads.threads_for(10 * int(offset[-1])),
        *(masks.chars, masks.ends, masks.sizes[:, 0].copy(), wanted, offset, runs, boxes),
    )
    return runs, offset, boxes, masks.area
