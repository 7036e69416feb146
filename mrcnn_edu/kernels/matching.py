"""Matching boxes to ground truth on a CPU, one row of IoUs at a time. Chapter 03."""

import numpy as np

from mrcnn_edu.kernels.compiled import kernel

BELOW = -1  # IoU with every ground truth is under the lower threshold: a negative
BETWEEN = -2  # between the two thresholds: neither positive nor negative, ignored


@kernel(fastmath=False)
def match_rows(gt, boxes, fg_iou, bg_iou, allow_low_quality):  # type: ignore[no-untyped-def]
    """`match` on NumPy arrays: `gt` [G, 4], `boxes` [4, A], float32.

    One row of IoUs is computed, used for all three questions and forgotten.
    """
    n = boxes.shape[1]
    matches = np.full(n, BELOW, np.int64)
    if len(gt) == 0:
        return matches
    x1, y1, x2, y2 = boxes[0], boxes[1], boxes[2], boxes[3]
    zero = np.float32(0)
    row = np.empty(n, np.float32)
    best = np.full(n, -1, np.float32)
    best_gt = np.zeros(n, np.int32)
    is_best = np.zeros(n, np.bool_)
    for g in range(len(gt)):
        gx1, gy1, gx2, gy2 = gt[g, 0], gt[g, 1], gt[g, 2], gt[g, 3]
        gt_area = (gx2 - gx1) * (gy2 - gy1)
        for a in range(n):
            w = max(min(x2[a], gx2) - max(x1[a], gx1), zero)
            h = max(min(y2[a], gy2) - max(y1[a], gy1), zero)
            inter = w * h
            union = gt_area + (x2[a] - x1[a]) * (y2[a] - y1[a]) - inter
            row[a] = inter / union if union > zero else zero
        highest = zero
        for a in range(n):
            highest = max(highest, row[a])
            if row[a] > best[a]:
                best[a] = row[a]
                best_gt[a] = g
        if allow_low_quality and highest > zero:
            for a in range(n):
                is_best[a] |= row[a] == highest
    for a in range(n):
        if best[a] >= fg_iou or is_best[a]:
            matches[a] = best_gt[a]
        elif best[a] >= bg_iou:
            matches[a] = BETWEEN
    return matches
