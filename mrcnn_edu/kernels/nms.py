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

from mrcnn_edu.kernels.compiled import kernel

# Boxes compared before the kernel looks whether one of them overlaps. Long enough for vector
# instructions, short enough that an early hit saves the rest.
CHUNK = 64


@njit(inline="always", fastmath=False)
def _overlap(ax1, ay1, ax2, ay2, bx1, by1, bx2, by2, zero):  # type: ignore[no-untyped-def]
    """Area of the intersection. Written as comparisons: NaN behaves as it does in C++."""
    w = (bx2 if bx2 < ax2 else ax2) - (bx1 if ax1 < bx1 else ax1)
    h = (by2 if by2 < ay2 else ay2) - (by1 if ay1 < by1 else ay1)
    return (w if zero < w else zero) * (h if zero < h else zero)


@kernel(fastmath=False)
def _is_suppressed(kx1, ky1, kx2, ky2, area, x1, y1, x2, y2, threshold):  # type: ignore[no-untyped-def]
    """Whether one of the kept boxes overlaps the box by an IoU of more than `threshold`.

    There are a multiple of CHUNK kept boxes; missing ones are NaN, whose IoU is NaN, and no
    comparison with NaN is true.
    """
    zero = threshold - threshold  # of the boxes' own type, or the compiler widens to float64
    box_area = (x2 - x1) * (y2 - y1)
    for start in range(0, len(kx1), CHUNK):
        stop = start + CHUNK
        cx1, cy1, cx2, cy2 = kx1[start:stop], ky1[start:stop], kx2[start:stop], ky2[start:stop]
        carea = area[start:stop]  # [64]
        # A fixed count and no early exit, which is what lets the compiler use vector
        # instructions; the division goes with the rest (a filter that avoids it was slower).
        hit = np.int32(0)
        for k in range(CHUNK):
            inter = _overlap(cx1[k], cy1[k], cx2[k], cy2[k], x1, y1, x2, y2, zero)
            hit |= np.int32(inter / (carea[k] + box_area - inter) > threshold)
        if hit:
            return True
    return False


@kernel(fastmath=False)
def greedy_nms(boxes, order, groups, n_groups, threshold, max_keep):  # type: ignore[no-untyped-def]
    """Indices [≤ max_keep] of the boxes that survive, in the given order.

    `boxes` [A, 4] float32 or float64, contiguous; `order` [A] int64, best first; `groups` [A]
    int64 in 0..n_groups − 1; `threshold` of the boxes' dtype. Boxes suppress each other only
    within a group.
    """
    n = len(order)
    # The kept boxes of group g begin at starts[g], with room for all of the group in whole chunks.
    sizes = np.zeros(n_groups + 1, np.int64)
    for i in range(n):
        sizes[groups[i] + 1] += 1
    starts = np.cumsum((sizes + CHUNK - 1) // CHUNK * CHUNK)  # [n_groups + 1]
    found = np.zeros(n_groups, np.int64)
    kept = np.full((5, starts[-1]), np.nan, boxes.dtype)  # x1, y1, x2, y2, area
    kx1, ky1, kx2, ky2, area = kept[0], kept[1], kept[2], kept[3], kept[4]
    survivors = np.empty(min(n, max_keep), np.int64)
    count = 0
    for position in range(n):
        if count == max_keep:
            break
        i = order[position]
        x1, y1, x2, y2 = boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3]
        g = groups[i]
        s, e = starts[g], starts[g] + (found[g] + CHUNK - 1) // CHUNK * CHUNK
        if _is_suppressed(
            kx1[s:e], ky1[s:e], kx2[s:e], ky2[s:e], area[s:e], x1, y1, x2, y2, threshold
        ):
            continue
        e = s + found[g]
        kx1[e], ky1[e], kx2[e], ky2[e], area[e] = x1, y1, x2, y2, (x2 - x1) * (y2 - y1)
        found[g] += 1
        survivors[count] = i
        count += 1
    return survivors[:count]
