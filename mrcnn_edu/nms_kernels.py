"""The Numba kernel behind `boxes.nms`: greedy suppression on one CPU core.

In: boxes [A, 4], an order by score, a group per box. Out: indices of the kept boxes.

torchvision walks forward: a kept box crosses out all later ones, through an index table.
This kernel looks back: each box is compared with the kept boxes of its group, which lie
densely in memory, 64 at a time, so that the compiler uses vector instructions and a box that
is suppressed early costs little. There are far fewer kept boxes than boxes, and the search
stops as soon as enough are kept.

No fastmath here. Each IoU is computed with torchvision's operations in torchvision's order,
so that two boxes at exactly the threshold fall on the same side. Chapter 01.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Boxes compared before the kernel looks whether one of them overlaps. Long enough for vector
# instructions, short enough that an early hit saves the rest.
CHUNK = 64


@njit(inline="always")
def _intersection(ax1, ay1, ax2, ay2, bx1, by1, bx2, by2, zero):  # type: ignore[no-untyped-def]
    left = bx1 if ax1 < bx1 else ax1
    top = by1 if ay1 < by1 else ay1
    right = bx2 if bx2 < ax2 else ax2
    bottom = by2 if by2 < ay2 else ay2
    w = right - left
    h = bottom - top
    return (w if zero < w else zero) * (h if zero < h else zero)


@njit(cache=True, nogil=True, error_model="numpy")
def _is_suppressed(kept, box_area, x1, y1, x2, y2, threshold):  # type: ignore[no-untyped-def]
    """Whether a kept box, a column of `kept` [5, k], overlaps the box by more than allowed."""
    zero = kept.dtype.type(0)
    for start in range(0, kept.shape[1], CHUNK):
        chunk = kept[:, start : start + CHUNK]  # [5, ≤ 64]
        # inter / union > t implies inter ≥ t · union, also after rounding, because rounding
        # keeps order. So the cheap test without a division never misses a hit.
        candidates = 0
        for k in range(chunk.shape[1]):
            inter = _intersection(
                chunk[0, k], chunk[1, k], chunk[2, k], chunk[3, k], x1, y1, x2, y2, zero
            )
            union = chunk[4, k] + box_area - inter
            candidates += inter >= threshold * union
        if candidates > 0:
            for k in range(chunk.shape[1]):
                inter = _intersection(
                    chunk[0, k], chunk[1, k], chunk[2, k], chunk[3, k], x1, y1, x2, y2, zero
                )
                if inter / (chunk[4, k] + box_area - inter) > threshold:
                    return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def greedy_nms(boxes, order, groups, n_groups, threshold, max_keep):  # type: ignore[no-untyped-def]
    """Indices [≤ max_keep] of the boxes that survive, in the given order.

    `boxes` [A, 4] float32 or float64, contiguous; `order` [A] int64, best first; `groups` [A]
    int64 in 0..n_groups − 1; `threshold` of the boxes' dtype. Boxes suppress each other only
    within a group.
    """
    n = len(order)
    # The kept boxes of a group occupy one stretch of columns, as long as the group is large.
    ends = np.zeros(n_groups + 1, np.int64)
    for i in range(n):
        ends[groups[i] + 1] += 1
    starts = np.cumsum(ends)[:-1]  # [n_groups]
    ends = starts.copy()
    kept = np.empty((5, n), boxes.dtype)  # x1, y1, x2, y2, area
    survivors = np.empty(min(n, max_keep), np.int64)
    count = 0
    for position in range(n):
        if count == max_keep:
            break
        i = order[position]
        x1, y1, x2, y2 = boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3]
        box_area = (x2 - x1) * (y2 - y1)
        g = groups[i]
        rivals = kept[:, starts[g] : ends[g]]
        if _is_suppressed(rivals, box_area, x1, y1, x2, y2, threshold):
            continue
        e = ends[g]
        kept[0, e], kept[1, e], kept[2, e], kept[3, e], kept[4, e] = x1, y1, x2, y2, box_area
        ends[g] = e + 1
        survivors[count] = i
        count += 1
    return survivors[:count]
