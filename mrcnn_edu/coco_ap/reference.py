"""What average precision is, in plain NumPy: the definitions that the kernels must equal.

One group of detections and objects at a time, one IoU threshold, and nothing hidden. Chapter 11
builds these. The tests compare the kernels with them, and both with pycocotools.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrcnn_edu.coco_ap.load import Bools, Floats, Ints


def box_overlaps(found: Floats, truth: Floats, crowd: Bools) -> Floats:
    """IoU of boxes: of every detection with every object.

    A crowd is a region that holds many objects, so a detection inside it is right wherever it lies:
    the union is then the detection alone.

    Args:
        found: detections [D, 4], xywh in pixels.
        truth: objects [G, 4], likewise.
        crowd: [G], whether an object is a crowd.

    Returns:
        [D, G] in 0..1.
    """
    low = np.maximum(found[:, None, :2], truth[None, :, :2])  # [D, G, 2]
    ends = found[:, None, :2] + found[:, None, 2:], truth[None, :, :2] + truth[None, :, 2:]
    sides = (np.minimum(*ends) - low).clip(min=0)  # [D, G, 2]
    both = sides.prod(axis=2)  # [D, G]
    area = found[:, 2:].prod(axis=1)[:, None]  # [D, 1]
    either = np.where(crowd, area, area + truth[:, 2:].prod(axis=1) - both)  # [D, G]
    return np.divide(both, either, out=np.zeros_like(both), where=both > 0)


def mask_overlaps(found: NDArray[np.uint8], truth: NDArray[np.uint8], crowd: Bools) -> Floats:
    """IoU of bitmaps: of every detection with every object.

    Args:
        found: detections [D, H, W], 0 or 1.
        truth: objects [G, H, W], likewise.
        crowd: [G], whether an object is a crowd, as in `box_overlaps`.

    Returns:
        [D, G] in 0..1.
    """
    pixels = found.shape[1] * found.shape[2]
    d, g = (m.reshape(len(m), pixels).astype(np.float64) for m in (found, truth))  # [., H·W]
    both = d @ g.T  # [D, G]
    area = d.sum(axis=1)[:, None]  # [D, 1]
    either = np.where(crowd, area, area + g.sum(axis=1) - both)  # [D, G]
    return np.divide(both, either, out=np.zeros_like(both), where=both > 0)


def keypoint_overlaps(
    found: Floats, truth: Floats, boxes: Floats, area: Floats, sigmas: Floats
) -> Floats:
    """Object keypoint similarity: of every detection with every object.

    The mean over the object's labelled joints of exp(−d² / (2 s² (2σ)²)), where d is the distance,
    s² the object's area and σ the joint's constant. An object without labelled joints is only ever
    ignored; what it may excuse is decided by the distance to its box, made three times as large.

    Args:
        found: detections [D, J, 3]: x, y in pixels, and a third number that is not looked at.
        truth: objects [G, J, 3]: x, y, visibility; 0 is not labelled.
        boxes: of the objects [G, 4], xywh.
        area: of the objects [G], in square pixels.
        sigmas: [J], how far annotators disagree about a joint.

    Returns:
        [D, G] in 0..1.
    """
    result = np.zeros((len(found), len(truth)))
    for g, joints in enumerate(truth):
        labelled = joints[:, 2] > 0  # [J]
        if labelled.any():
            away = found[:, labelled, :2] - joints[labelled, :2]  # [D, J', 2]
            constants = sigmas[labelled]
        else:
            low, high = boxes[g, :2] - boxes[g, 2:], boxes[g, :2] + 2 * boxes[g, 2:]
            points = found[:, :, :2]
            away = (low - points).clip(min=0) + (points - high).clip(min=0)  # [D, J, 2]
            constants = sigmas
        distance2 = (away**2).sum(axis=2)  # [D, J']
        exponent = distance2 / (2 * (area[g] + np.spacing(1)) * (2 * constants) ** 2)
        result[:, g] = np.exp(-exponent).mean(axis=1)
    return result


def match(
    overlaps: Floats, crowd: Bools, outside: Bools, threshold: float
) -> tuple[Ints, NDArray[np.bool_]]:
    """Let detections, best first, choose objects.

    A detection takes the object that it overlaps most, among those of at least `threshold` that are
    still free; of equal overlaps the later object. Objects that do not count in this range are
    looked at only when no other fits; what they take is neither right nor wrong. A crowd is never
    taken.

    Args:
        overlaps: [D, G], detections in order of their score.
        crowd: [G].
        outside: [G] objects that do not count: crowds, and those of other sizes.
        threshold: the least overlap.

    Returns:
        [D] the object of each detection or −1, and [D] whether what it found does not count.
    """
    free = np.ones(len(crowd), np.bool_)
    matches = np.full(len(overlaps), -1, np.int64)
    for d, row in enumerate(overlaps):
        for candidates in (~outside & free, outside & (free | crowd)):
            fits = candidates & (row >= min(threshold, 1 - 1e-10))
            if fits.any():
                best = np.flatnonzero(fits & (row == row[fits].max()))[-1]
                matches[d], free[best] = best, False
                break
    ignored = np.array([m >= 0 and outside[m] for m in matches], np.bool_)
    return matches, ignored


def precision_recall(
    scores: Floats, right: Bools, counts: Bools, objects: int
) -> tuple[Floats, Floats, Ints]:
    """The curve of one class.

    Args:
        scores: [D] of all detections, of all images.
        right: [D] whether the detection found an object.
        counts: [D] False for those that are ignored.
        objects: how many there are to find, 1 or more.

    Returns:
        precision [D] and recall [D] of the best 1, 2, …, D detections, and their order [D].
        Precision is the best at this recall or a higher one, so that it falls monotonically.
    """
    order = np.argsort(-scores, kind="stable")
    true = np.cumsum((right & counts)[order])  # [D]
    false = np.cumsum((~right & counts)[order])  # [D]
    precision = true / (true + false + np.spacing(1))
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return precision, true / objects, order


def at_recalls(precision: Floats, recall: Floats, points: Floats) -> Floats:
    """Precision where the curve first reaches each recall; 0 where it never does.

    Args:
        precision: [D], of the first 1, 2, .. detections.
        recall: [D], likewise; it never falls.
        points: [Q], the recalls to read at.

    Returns:
        [Q].
    """
    place = np.searchsorted(recall, points, side="left")  # [Q]
    return np.append(precision, 0.0)[place]
