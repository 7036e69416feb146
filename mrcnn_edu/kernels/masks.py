"""Numba kernels behind `masks`: resize a mask, crop it to a box, paste one back, write run lengths.

Bilinear interpolation is separable: a value of the result is a weighted sum over rows of
weighted sums over columns. So each kernel first tabulates one axis at a time. Cropping takes
the mean of several samples per cell, as RoIAlign does; pasting reads one point per pixel.
`masks` checks the arguments and explains the conventions; Chapter 09 builds the slow versions.

No fastmath: `paste`, `paste_runs` and torchvision must agree to the last bit, or a pixel at the
threshold would be in one result and not in the other. PyTorch's bilinear resize, as compiled for
processors with fused multiply-add, rounds fma(scale, i + ½, −½) for the place and
fma(w₀, a, w₁ · b) for the value, columns first. So these kernels say which operations are fused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.extending import intrinsic

from mrcnn_edu.kernels.compiled import kernel

# A cell whose corners are this far on one side of the threshold lies wholly on that side.
# Far more than the rounding of one interpolation (about 1e-7), far less than what matters.
MARGIN = np.float32(1e-5)
# Longest code of one run: 5 bits a character, and a difference of runs has at most 33 bits.
MAX_CHARS = 7


@intrinsic
def _fma(_typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a · b + c with one rounding, for three numbers of one type."""
    return a(a, b, c), lambda _context, builder, _signature, values: builder.fma(*values)


@kernel(fastmath=False)
def pick(masks, rows, columns, out):  # type: ignore[no-untyped-def]
    """Pixel (i, j) of `out` [G, h, w] becomes pixel (rows[i], columns[j]) of `masks` [G, H, W].

    uint8; `rows` [h] and `columns` [w] int64. `out` comes in as zeros: what is empty is left alone,
    so a row without an object costs one look, and its memory is never really taken. The casts in
    the loops keep them in bytes: Numba would compute in 64 bits, four times as slowly.
    """
    height, width = len(rows), len(columns)
    used = np.empty(height, np.bool_)  # rows with an object
    seen = np.empty(masks.shape[2], np.uint8)  # columns of the old mask with one
    for g in range(len(masks)):
        seen[:] = 0
        for i in range(height):
            if i > 0 and rows[i] == rows[i - 1]:
                used[i] = used[i - 1]
                continue
            row, some = masks[g, rows[i]], np.uint8(0)
            for j in range(len(row)):
                some = np.uint8(some | row[j])
            used[i] = some != 0
            if used[i]:
                for j in range(len(row)):
                    seen[j] = np.uint8(seen[j] | row[j])
        first, last = width, 0
        for j in range(width):
            if seen[columns[j]]:
                first, last = min(first, j), j + 1
        for i in range(height):
            if not used[i]:
                continue
            row, line = masks[g, rows[i]], out[g, i]
            if i > 0 and rows[i] == rows[i - 1]:
                line[first:last] = out[g, i - 1, first:last]
            else:
                for j in range(first, last):
                    line[j] = row[columns[j]]


@kernel(fastmath=False)
def areas(masks, row_weights, column_weights):  # type: ignore[no-untyped-def]
    """Sum of the pixels of `masks` [G, H, W] uint8, each times its row's and column's weight: [G].

    With how often `rows` and `columns` name each, that is the sum of what `pick` makes. int32
    weights; the sums of a row are int32 too, those of a mask int64.
    """
    sums = np.zeros(len(masks), np.int64)
    for g in range(len(masks)):
        for i in range(masks.shape[1]):
            row, total = masks[g, i], np.int32(0)
            if row_weights[i]:
                for j in range(len(row)):
                    total = np.int32(total + np.int32(row[j]) * column_weights[j])
                sums[g] += row_weights[i] * np.int64(total)
    return sums


@kernel(fastmath=False)
def extents(masks):  # type: ignore[no-untyped-def]
    """Boxes [G, 4] float32 around what is not 0 in `masks` [G, H, W] uint8; zeros if nothing is."""
    boxes = np.zeros((len(masks), 4), np.float32)
    seen = np.empty(masks.shape[2], np.uint8)
    for g in range(len(masks)):
        seen[:] = 0
        top, bottom = masks.shape[1], 0
        for i in range(masks.shape[1]):
            row, some = masks[g, i], np.uint8(0)
            for j in range(len(row)):
                some = np.uint8(some | row[j])
            if some:
                top, bottom = min(top, i), i + 1
                for j in range(len(row)):
                    seen[j] = np.uint8(seen[j] | row[j])
        if bottom:
            columns = np.flatnonzero(seen)
            boxes[g] = columns[0], top, columns[-1] + 1, bottom
    return boxes


@kernel(fastmath=False)
def _crop_axis(start, length, size, weights, begin, end):  # type: ignore[no-untyped-def]
    """Weights of one axis: cell p is the sum of weights[p, i] · pixel i, begin[p] ≤ i < end[p].

    `start` and `length` of the RoI in pixels, float32; `weights` [cells, size] comes in and is
    to be left as zeros. ⌈length / cells⌉ samples lie evenly in each cell. A sample more than
    one pixel outside counts as 0, a nearer one is moved to the edge, as in RoIAlign.
    """
    one, half = np.float32(1), np.float32(0.5)
    cells = len(weights)
    bin_size = length / np.float32(cells)
    samples = int(np.ceil(bin_size))
    for p in range(cells):
        begin[p], end[p] = size, 0
        for s in range(samples):
            offset = (np.float32(s) + half) * bin_size / np.float32(samples)
            at = start + np.float32(p) * bin_size + offset
            if not (at >= -one and at <= np.float32(size)):
                continue
            at = max(at, np.float32(0))
            low = int(at)
            high = low + 1
            fraction = at - np.float32(low)
            if low >= size - 1:
                low = high = size - 1
                fraction = np.float32(0)
            weights[p, low] += (one - fraction) / np.float32(samples)
            weights[p, high] += fraction / np.float32(samples)
            begin[p], end[p] = min(begin[p], low), max(end[p], high + 1)


@kernel(fastmath=False)
def crop(masks, boxes, index, cells, aligned):  # type: ignore[no-untyped-def]
    """Mask targets [R, cells, cells] float32: RoI r is cut from mask `index[r]`.

    `masks` [G, H, W] uint8, `boxes` [R, 4] float32 in pixels, `index` [R] int64.
    """
    height, width = masks.shape[1:]
    targets = np.zeros((len(boxes), cells, cells), np.float32)
    wy, wx = np.zeros((cells, height), np.float32), np.zeros((cells, width), np.float32)
    top, bottom = np.empty(cells, np.int64), np.empty(cells, np.int64)
    left, right = np.empty(cells, np.int64), np.empty(cells, np.int64)
    row = np.empty(width, np.float32)
    one = np.float32(1)
    shift = np.float32(0.5) if aligned else np.float32(0)
    for r in range(len(boxes)):
        x1, y1 = boxes[r, 0] - shift, boxes[r, 1] - shift
        w, h = boxes[r, 2] - shift - x1, boxes[r, 3] - shift - y1
        if not aligned:  # the older operator makes every RoI at least one pixel large
            w, h = max(w, one), max(h, one)
        _crop_axis(y1, h, height, wy, top, bottom)
        _crop_axis(x1, w, width, wx, left, right)
        first, last = left.min(), right.max()
        if first < last:
            used = row[first:last]
            for p in range(cells):
                used[:] = 0
                for i in range(top[p], bottom[p]):
                    weight = wy[p, i]
                    pixels = masks[index[r], i, first:last]
                    for j in range(len(used)):
                        used[j] += weight * np.float32(pixels[j])
                for q in range(cells):
                    total = np.float32(0)
                    for j in range(left[q], right[q]):
                        total += wx[q, j] * row[j]
                    targets[r, p, q] = total
        for p in range(cells):
            wy[p, top[p] : bottom[p]] = 0
            wx[p, left[p] : right[p]] = 0
    return targets


@kernel(fastmath=False)
def _paste_axis(low, high, cells, size, legacy, cell, part):  # type: ignore[no-untyped-def]
    """Where the pixels of one axis read a mask of `cells` cells with a zero at each end.

    Pixel i reads (1 − part[i]) · padded[cell[i]] + part[i] · padded[cell[i] + 1]. `low` and
    `high` are the box's ends in pixels, float32; `size` is the length of the image. Returns
    the range of pixels touched; the tables are filled there only.
    """
    zero, half, one = np.float32(0), np.float32(0.5), np.float32(1)
    if legacy:
        # torchvision: enlarge the box by the padding, truncate its ends towards zero, add 1
        # to the length, then resize the padded mask to that many pixels.
        middle = (high + low) * half
        reach = (high - low) * half * np.float32((cells + 2) / cells)
        start, stop = int(middle - reach), int(middle + reach) + 1
        scale = np.float32(cells + 2) / np.float32(max(stop - start, 1))
        first, last = max(start, 0), min(stop, size)
        for i in range(first, last):
            at = max(_fma(scale, np.float32(i - start) + half, -half), zero)
            cell[i] = min(int(at), cells)
            part[i] = min(at - np.float32(cell[i]), one)
        return first, max(first, last)
    # Continuous: the cells divide the box evenly and a pixel reads the mask at its own centre.
    # The padding makes the mask fade to 0 over the half cell around the box.
    length = high - low
    first, last = size, 0
    if length > 0:
        margin = length / np.float32(cells) + 1
        begin = int(max(np.floor(low - margin), zero))
        end = int(min(np.ceil(high + margin), np.float32(size)))
        for i in range(begin, end):
            at = (np.float32(i) + half - low) / length * np.float32(cells) + half
            if at > 0 and at < cells + 1:
                cell[i] = int(at)
                part[i] = at - np.float32(cell[i])
                first, last = min(first, i), i + 1
    return first, max(first, last)


@njit(inline="always", fastmath=False)
def _mix(a, b, part):  # type: ignore[no-untyped-def]
    return _fma(np.float32(1) - part, a, part * b)


@kernel(fastmath=False)
def paste(masks, boxes, height, width, legacy):  # type: ignore[no-untyped-def]
    """Images [D, height, width] float32 with each mask of `masks` [D, M, M] laid over its box."""
    cells = masks.shape[1]
    images = np.zeros((len(masks), height, width), np.float32)
    padded = np.zeros((cells + 2, cells + 2), np.float32)
    wide = np.empty((cells + 2, width), np.float32)
    row_cell, row_part = np.empty(height, np.int64), np.empty(height, np.float32)
    col_cell, col_part = np.empty(width, np.int64), np.empty(width, np.float32)
    for d in range(len(masks)):
        padded[1:-1, 1:-1] = masks[d]
        x1, y1, x2, y2 = boxes[d]
        top, bottom = _paste_axis(y1, y2, cells, height, legacy, row_cell, row_part)
        left, right = _paste_axis(x1, x2, cells, width, legacy, col_cell, col_part)
        for k in range(cells + 2):
            for j in range(left, right):
                c = col_cell[j]
                wide[k, j] = _mix(padded[k, c], padded[k, c + 1], col_part[j])
        for i in range(top, bottom):
            above, below = wide[row_cell[i], left:right], wide[row_cell[i] + 1, left:right]
            line = images[d, i, left:right]
            for j in range(len(line)):
                line[j] = _mix(above[j], below[j], row_part[i])
    return images


@kernel(fastmath=False)
def _compress(counts, chars, used):  # type: ignore[no-untyped-def]
    """Append COCO's code of run lengths `counts` to `chars` at `used`; return the new end.

    From the third on, a run is stored as its difference from the last but one. Five bits a
    character, lowest first; the sixth bit says that more follow; 48 is added for ASCII.
    """
    for i in range(len(counts)):
        value = counts[i] - counts[i - 2] if i > 2 else counts[i]
        more = True
        while more:
            char = value & 31
            value >>= 5
            more = value != (-1 if char & 16 else 0)
            chars[used] = (char | 32 if more else char) + 48
            used += 1
    return used


@kernel(fastmath=False)
def paste_runs(masks, boxes, height, width, threshold, legacy):  # type: ignore[no-untyped-def]
    """COCO's compressed runs of `paste(...) > threshold`, never making the image.

    Returns the characters of all D masks, uint8, and where each mask's end: [D] int64. Runs
    go down the columns. `threshold` float32, ≥ 0, so that all outside the box is background.
    """
    n, cells = len(masks), masks.shape[1]
    by_column = np.zeros((cells + 2, cells + 2), np.float32)  # the padded mask, transposed
    column = np.empty(cells + 2, np.float32)
    row_cell, row_part = np.empty(height, np.int64), np.empty(height, np.float32)
    col_cell, col_part = np.empty(width, np.int64), np.empty(width, np.float32)
    edges = np.empty(cells + 2, np.int64)
    # At worst every pixel starts a run. Memory that is never touched is never really taken.
    counts = np.empty(height * width + 1, np.int64)
    chars = np.empty(1 << 16, np.uint8)
    ends = np.empty(n, np.int64)
    used = 0
    for d in range(n):
        by_column[1:-1, 1:-1] = masks[d].T
        x1, y1, x2, y2 = boxes[d]
        top, bottom = _paste_axis(y1, y2, cells, height, legacy, row_cell, row_part)
        left, right = _paste_axis(x1, x2, cells, width, legacy, col_cell, col_part)
        # Rows edges[k] .. edges[k + 1] − 1 lie between the centres of padded cells k and k + 1.
        k = 0
        for i in range(top, bottom):
            while k <= row_cell[i]:
                edges[k] = i
                k += 1
        edges[k:] = bottom
        runs, run_start, inside = 0, 0, False
        for j in range(left, right):
            base = j * height
            if inside and top > 0:  # a run that reached the bottom of the column before
                counts[runs] = base - run_start
                runs, run_start, inside = runs + 1, base, False
            a, b = by_column[col_cell[j]], by_column[col_cell[j] + 1]
            for k in range(cells + 2):
                column[k] = _mix(a[k], b[k], col_part[j])
            for k in range(cells + 1):
                first, last = edges[k], edges[k + 1]
                if first == last:
                    continue
                low, high = min(column[k], column[k + 1]), max(column[k], column[k + 1])
                # Most cells are wholly in or wholly out: one look for all their rows.
                if low > threshold + MARGIN or high < threshold - MARGIN:
                    if (low > threshold) != inside:
                        counts[runs] = base + first - run_start
                        runs, run_start, inside = runs + 1, base + first, not inside
                    continue
                for i in range(first, last):
                    if (_mix(column[k], column[k + 1], row_part[i]) > threshold) != inside:
                        counts[runs] = base + i - run_start
                        runs, run_start, inside = runs + 1, base + i, not inside
            if inside and bottom < height:
                counts[runs] = base + bottom - run_start
                runs, run_start, inside = runs + 1, base + bottom, False
        if inside and right < width:
            counts[runs] = right * height - run_start
            runs, run_start = runs + 1, right * height
        counts[runs] = height * width - run_start
        runs += 1
        if used + MAX_CHARS * runs > len(chars):
            larger = np.empty(2 * len(chars) + MAX_CHARS * runs, np.uint8)
            larger[:used] = chars[:used]
            chars = larger
        used = _compress(counts[:runs], chars, used)
        ends[d] = used
    return chars[:used], ends
