"""The Numba kernels that measure overlap: run lengths, boxes, masks, keypoints.

Detections and objects come sorted into groups, one for each image and class: group c has the
detections `found_start[c]` to `found_start[c + 1]`, best first, and the objects of `truth_start`.
The overlaps of a group are a block [D, G] of one flat array, at `block[c]`. Kernels that end in
`first, step` do every step-th group, so that several threads can share the work; each writes
what no other writes, and the result does not depend on their number.

`reference` has the slow definition of each. No fastmath: sums and quotients are pycocotools',
in its order, so that numbers are equal to the last bit. Chapter 11.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from mrcnn_edu.kernels.compiled import kernel

TINY = np.spacing(1.0)  # pycocotools adds it to denominators


@njit(inline="always", fastmath=False)
def _next_run(chars, at, end):  # type: ignore[no-untyped-def]
    """The number that begins at `at`, and where the next one does; `at` is −1 if it is cut off.

    Five bits a character, lowest first; the sixth bit says that more follow, and bit 16 of the
    last one is the sign.
    """
    value, shift = np.int64(0), np.int64(0)
    while at < end and shift < 60:
        char = np.int64(chars[at]) - 48
        value |= (char & 31) << shift
        shift += 5
        at += 1
        if not char & 32:
            if char & 16:
                value |= np.int64(-1) << shift
            return value, at
    return value, np.int64(-1)


@kernel(fastmath=False)
def measure_runs(chars, ends):  # type: ignore[no-untyped-def]
    """Of each mask: runs of the object, its pixels, all pixels [n]; −1 pixels if damaged."""
    n = len(ends)
    count, area, total = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
    at = np.int64(0)
    for i in range(n):
        before_last = last = np.int64(0)
        run = 0
        while at < ends[i]:
            value, at = _next_run(chars, at, ends[i])
            if run > 2:
                value += before_last
            if at < 0 or value < 0:
                total[i] = -1
                break
            total[i] += value
            if run & 1 and value > 0:
                count[i] += 1
                area[i] += value
            before_last, last = last, value
            run += 1
        at = ends[i]
    return count, area, total


@kernel(fastmath=False)
def decode_runs(chars, ends, heights, wanted, offset, runs, boxes, first, step):  # type: ignore[no-untyped-def]
    """Begin and end of each object run, and the mask's box, of the masks that are `wanted`.

    `runs` [., 2] int64 is filled from `offset[i]` on, in pixels counted down the columns;
    `boxes` [n, 4] int64 with x1, y1, x2, y2.
    """
    for i in range(first, len(ends), step):
        if not wanted[i]:
            continue
        at = ends[i - 1] if i > 0 else np.int64(0)
        before_last = last = pixel = np.int64(0)
        run, used, height = 0, offset[i], heights[i]
        left, top, right, bottom = np.int64(1 << 40), height, np.int64(0), np.int64(0)
        while at < ends[i]:
            value, at = _next_run(chars, at, ends[i])
            if run > 2:
                value += before_last
            if run & 1 and value > 0:
                runs[used, 0], runs[used, 1] = pixel, pixel + value
                used += 1
                column = pixel // height
                row = pixel - column * height
                left = min(left, column)
                if row + value <= height:  # most runs stay in their column
                    right = max(right, column + 1)
                    top, bottom = min(top, row), max(bottom, row + value)
                else:
                    right = max(right, (pixel + value - 1) // height + 1)
                    top, bottom = np.int64(0), height
            pixel += value
            before_last, last = last, value
            run += 1
        if right > 0:
            boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3] = left, top, right, bottom


@kernel(fastmath=False)
def box_overlaps(found, truth, crowd, found_start, truth_start, block, overlaps, first, step):  # type: ignore[no-untyped-def]
    """IoU of boxes [., 4] xywh; in a crowd, intersection over the detection's area."""
    for c in range(first, len(block), step):
        at = block[c]
        for d in range(found_start[c], found_start[c + 1]):
            x, y, w, h = found[d, 0], found[d, 1], found[d, 2], found[d, 3]
            for g in range(truth_start[c], truth_start[c + 1]):
                across = min(x + w, truth[g, 0] + truth[g, 2]) - max(x, truth[g, 0])
                down = min(y + h, truth[g, 1] + truth[g, 3]) - max(y, truth[g, 1])
                overlaps[at] = 0.0
                if across > 0 and down > 0:
                    both = across * down
                    area = w * h
                    either = area if crowd[g] else area + truth[g, 2] * truth[g, 3] - both
                    overlaps[at] = both / either
                at += 1


@kernel(fastmath=False)
def _shared_pixels(a, b):  # type: ignore[no-untyped-def]
    """Pixels in both of two masks, given as sorted runs [., 2]."""
    i, j, shared = 0, 0, np.int64(0)
    # Runs before the other mask begins share nothing: skip them by bisection.
    low, high = 0, len(a)
    while low < high:
        middle = (low + high) // 2
        if a[middle, 1] <= b[0, 0]:
            low = middle + 1
        else:
            high = middle
    i = low
    low, high = 0, len(b)
    while low < high:
        middle = (low + high) // 2
        if b[middle, 1] <= a[0, 0]:
            low = middle + 1
        else:
            high = middle
    j = low
    while i < len(a) and j < len(b):
        shared += max(min(a[i, 1], b[j, 1]) - max(a[i, 0], b[j, 0]), 0)
        if a[i, 1] < b[j, 1]:
            i += 1
        else:
            j += 1
    return shared


@kernel(fastmath=False)
def mask_overlaps(  # type: ignore[no-untyped-def]
    found_runs,
    found_offset,
    found_boxes,
    found_area,
    found_row,
    truth_runs,
    truth_offset,
    truth_boxes,
    truth_area,
    truth_row,
    crowd,
    found_start,
    truth_start,
    block,
    lowest,
    overlaps,
    first,
    step,
):
    """IoU of masks; in a crowd, intersection over the detection's area.

    `found_row` and `truth_row` say which mask each detection and object has. An IoU below
    `lowest` may be given as 0: that most pairs cannot reach it is seen from boxes and areas.
    """
    for c in range(first, len(block), step):
        at = block[c]
        for d in range(found_start[c], found_start[c + 1]):
            p = found_row[d]
            area = found_area[p]
            runs = found_runs[found_offset[p] : found_offset[p + 1]]
            for g in range(truth_start[c], truth_start[c + 1]):
                q = truth_row[g]
                across = min(found_boxes[p, 2], truth_boxes[q, 2])
                across -= max(found_boxes[p, 0], truth_boxes[q, 0])
                down = min(found_boxes[p, 3], truth_boxes[q, 3])
                down -= max(found_boxes[p, 1], truth_boxes[q, 1])
                overlaps[at] = 0.0
                if across > 0 and down > 0:
                    most = min(across * down, area, truth_area[q])
                    either = area if crowd[g] else area + truth_area[q] - most
                    if most / either >= lowest:
                        objects = truth_runs[truth_offset[q] : truth_offset[q + 1]]
                        both = _shared_pixels(runs, objects)
                        either = area if crowd[g] else area + truth_area[q] - both
                        overlaps[at] = both / either
                at += 1


@kernel(fastmath=False)
def keypoint_overlaps(  # type: ignore[no-untyped-def]
    found,
    truth,
    boxes,
    area,
    variances,
    found_start,
    truth_start,
    block,
    overlaps,
    first,
    step,
):
    """Object keypoint similarity of keypoints [., J, 3]; `variances` [J] are (2σ)².

    Without a labelled joint, the distance is that to the object's box made three times as large.
    """
    joints = len(variances)
    for c in range(first, len(block), step):
        at = block[c]
        for d in range(found_start[c], found_start[c + 1]):
            for g in range(truth_start[c], truth_start[c + 1]):
                labelled = 0
                for j in range(joints):
                    labelled += truth[g, j, 2] > 0
                x, y, w, h = boxes[g, 0], boxes[g, 1], boxes[g, 2], boxes[g, 3]
                total = 0.0
                for j in range(joints):
                    dx, dy = found[d, j, 0], found[d, j, 1]
                    if labelled == 0:
                        dx = max(0.0, (x - w) - dx) + max(0.0, dx - (x + w * 2))
                        dy = max(0.0, (y - h) - dy) + max(0.0, dy - (y + h * 2))
                    elif truth[g, j, 2] > 0:
                        dx -= truth[g, j, 0]
                        dy -= truth[g, j, 1]
                    else:
                        continue
                    total += np.exp(-((dx**2 + dy**2) / variances[j] / (area[g] + TINY) / 2))
                overlaps[at] = total / (labelled if labelled else joints)
                at += 1
