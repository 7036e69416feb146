"""RoIAlign and RoIWarp on CPU: forward and backward.

In: a feature map [N, H·W, C] (a view of either memory layout) and rows of `rois` [R, 5] =
(image, x1, y1, x2, y2). Out: rows of [R, Ph·Pw, C]. The operator is `out = Wy · F · Wxᵀ` for
every RoI and channel (Mask R-CNN §3; see `taps`).

The innermost loop runs over channels, neighbours in memory when the map is channels last, so it
is a chain of fused multiply-adds on whole vectors. Everything else follows from that.

- Forward: reduce rows into a buffer of the distinct columns, then columns. When the bins share
  few columns (a large box) the buffer is a detour, and each bin is summed directly. Threads own
  RoIs.
- Backward: the transposed product, `dF += Wyᵀ · G · Wx`, one touched pixel at a time. Threads own
  rows of the map (every second one, for two threads) and walk all RoIs in order, so there are no
  atomics, and a pixel's sum is formed in the same order, with the same bits, for any number of
  threads.

Chapter 06 builds these step by step.
"""

import numpy as np

from mrcnn_edu.kernels.compiled import kernel
from mrcnn_edu.roi.cpu.taps import (
    find_taps,
    forget_pixels,
    index,
    interval,
    new_taps,
    new_transpose,
    number_pixels,
    transpose_taps,
)

# "contract" allows fused multiply-adds and nothing else: sums keep their order.
fused = kernel(fastmath={"contract"})

CHANNELS = 256  # channels a pass of the forward: its buffer stays in the L1 cache


@fused
def weighted_rows(  # type: ignore[no-untyped-def]
    target, t, u, source, n, base, stride, pixel, weight, q, count, low, high
):
    """`target[t, u] = Σ_k weight[q, k] · source[n, base + stride · pixel[q, k]]` on low:high.

    One to four terms at a time, so that a term costs one load and one fused multiply-add.
    """
    t, u, n, low, high = index(t), index(u), index(n), index(low), index(high)
    if count == 0:
        for c in range(low, high):
            target[t, u, c] = 0
        return
    first = (count - 1) % 4 + 1
    a, wa = index(base + stride * pixel[q, 0]), weight[q, 0]
    b, d, e, wb, wd, we = a, a, a, wa, wa, wa
    if first > 1:
        b, wb = index(base + stride * pixel[q, 1]), weight[q, 1]
    if first > 2:
        d, wd = index(base + stride * pixel[q, 2]), weight[q, 2]
    if first > 3:
        e, we = index(base + stride * pixel[q, 3]), weight[q, 3]
    if first == 1:
        for c in range(low, high):
            target[t, u, c] = wa * source[n, a, c]
    elif first == 2:
        for c in range(low, high):
            target[t, u, c] = wa * source[n, a, c] + wb * source[n, b, c]
    elif first == 3:
        for c in range(low, high):
            target[t, u, c] = wa * source[n, a, c] + wb * source[n, b, c] + wd * source[n, d, c]
    else:
        for c in range(low, high):
            target[t, u, c] = (
                wa * source[n, a, c] + wb * source[n, b, c]
                + wd * source[n, d, c] + we * source[n, e, c]
            )  # fmt: skip
    add_rows(target, t, u, source, n, base, stride, pixel, weight, q, first, count, low, high)


@fused
def add_rows(  # type: ignore[no-untyped-def]
    target, t, u, source, n, base, stride, pixel, weight, q, first, count, low, high
):
    """Add the terms k ≥ `first` of the sum in `weighted_rows` to `target[t, u, low:high]`."""
    t, u, n, low, high = index(t), index(u), index(n), index(low), index(high)
    k = first
    while k + 4 <= count:
        a, wa = index(base + stride * pixel[q, k]), weight[q, k]
        b, wb = index(base + stride * pixel[q, k + 1]), weight[q, k + 1]
        d, wd = index(base + stride * pixel[q, k + 2]), weight[q, k + 2]
        e, we = index(base + stride * pixel[q, k + 3]), weight[q, k + 3]
        for c in range(low, high):
            target[t, u, c] += (
                wa * source[n, a, c] + wb * source[n, b, c]
                + wd * source[n, d, c] + we * source[n, e, c]
            )  # fmt: skip
        k += 4
    if k + 2 <= count:
        a, wa = index(base + stride * pixel[q, k]), weight[q, k]
        b, wb = index(base + stride * pixel[q, k + 1]), weight[q, k + 1]
        for c in range(low, high):
            target[t, u, c] += wa * source[n, a, c] + wb * source[n, b, c]
        k += 2
    if k < count:
        a, wa = index(base + stride * pixel[q, k]), weight[q, k]
        for c in range(low, high):
            target[t, u, c] += wa * source[n, a, c]


@fused
def forward(  # type: ignore[no-untyped-def]
    feature, width, rois, rows, scale, aligned, rounded, sampling, bins_x, out, first, step
):
    """Write `out[rows]` [R, Ph·Pw, C] from `feature` [N, H·W, C]."""
    real = out.dtype.type
    scale = real(scale)
    height, channels = feature.shape[1] // width, feature.shape[2]
    bins_y = out.shape[1] // bins_x
    y_pixel, y_weight, y_count = new_taps(bins_y, sampling, height, real)
    x_pixel, x_weight, x_count = new_taps(bins_x, sampling, width, real)
    slot, column = np.full(width, -1), np.empty(width, np.int64)
    buffer = np.empty((1, min(width, x_pixel.size), channels), out.dtype)
    bin_taps = y_pixel.shape[1] * x_pixel.shape[1]
    pixel, weight = np.empty((1, bin_taps), np.int64), np.empty((1, bin_taps), out.dtype)

    for i in range(first, rows.size, step):
        r = rows[i]
        n = int(rois[r, 0])
        x_start, x_bin, x_samples = interval(
            rois[r, 1], rois[r, 3], scale, aligned, rounded, bins_x, sampling, real
        )
        y_start, y_bin, y_samples = interval(
            rois[r, 2], rois[r, 4], scale, aligned, rounded, bins_y, sampling, real
        )
        find_taps(x_start, x_bin, x_samples, width, x_pixel, x_weight, x_count)
        find_taps(y_start, y_bin, y_samples, height, y_pixel, y_weight, y_count)
        columns = number_pixels(x_pixel, x_count, slot, column)
        x_total, y_total = x_count.sum(), y_count.sum()
        # Loads and stores of the two ways, in units of one run of channels.
        if y_total * columns + bins_y * (x_total + columns) < y_total * x_total:
            for p in range(bins_x):
                for k in range(x_count[p]):
                    x_pixel[p, k] = slot[x_pixel[p, k]]
            for low in range(0, channels, CHANNELS):
                high = min(low + CHANNELS, channels)
                for q in range(bins_y):
                    for j in range(columns):
                        weighted_rows(
                            buffer, 0, j, feature, n, column[j], width,
                            y_pixel, y_weight, q, y_count[q], low, high,
                        )  # fmt: skip
                    for p in range(bins_x):
                        weighted_rows(
                            out, r, q * bins_x + p, buffer, 0, 0, 1,
                            x_pixel, x_weight, p, x_count[p], low, high,
                        )  # fmt: skip
        else:
            for q in range(bins_y):
                for p in range(bins_x):
                    taps = 0
                    for k in range(y_count[q]):
                        for m in range(x_count[p]):
                            pixel[0, taps] = y_pixel[q, k] * width + x_pixel[p, m]
                            weight[0, taps] = y_weight[q, k] * x_weight[p, m]
                            taps += 1
                    weighted_rows(
                        out, r, q * bins_x + p, feature, n, 0, 1,
                        pixel, weight, 0, taps, 0, channels,
                    )  # fmt: skip
        forget_pixels(slot, column, columns)


@fused
def backward(  # type: ignore[no-untyped-def]
    gradient, rois, rows, scale, aligned, rounded, sampling, bins_x, width, out, first, step
):
    """Add to `out` [N, H·W, C] the gradient of `forward`, given [R, Ph·Pw, C]."""
    real = out.dtype.type
    scale = real(scale)
    height, channels = out.shape[1] // width, out.shape[2]
    bins_y = gradient.shape[1] // bins_x
    y_pixel, y_weight, y_count = new_taps(bins_y, sampling, height, real)
    x_pixel, x_weight, x_count = new_taps(bins_x, sampling, width, real)
    y_slot, row = np.full(height, -1), np.empty(height, np.int64)
    x_slot, column = np.full(width, -1), np.empty(width, np.int64)
    y_bins, y_parts, y_reads = new_transpose(height, bins_y, real)
    x_bins, x_parts, x_reads = new_transpose(width, bins_x, real)
    buffer = np.empty((1, bins_x, channels), out.dtype)

    for i in range(rows.size):
        r = rows[i]
        n = int(rois[r, 0])
        x_start, x_bin, x_samples = interval(
            rois[r, 1], rois[r, 3], scale, aligned, rounded, bins_x, sampling, real
        )
        y_start, y_bin, y_samples = interval(
            rois[r, 2], rois[r, 4], scale, aligned, rounded, bins_y, sampling, real
        )
        find_taps(x_start, x_bin, x_samples, width, x_pixel, x_weight, x_count)
        find_taps(y_start, y_bin, y_samples, height, y_pixel, y_weight, y_count)
        found_x = number_pixels(x_pixel, x_count, x_slot, column)
        found_y = number_pixels(y_pixel, y_count, y_slot, row)
        transpose_taps(x_pixel, x_weight, x_count, x_slot, found_x, x_bins, x_parts, x_reads)
        transpose_taps(y_pixel, y_weight, y_count, y_slot, found_y, y_bins, y_parts, y_reads)
        for y in range(found_y):
            if row[y] % step != first:
                continue
            for p in range(bins_x):
                weighted_rows(
                    buffer, 0, p, gradient, r, p, bins_x,
                    y_bins, y_parts, y, y_reads[y], 0, channels,
                )  # fmt: skip
            for x in range(found_x):
                add_rows(
                    out, n, row[y] * width + column[x], buffer, 0, 0, 1,
                    x_bins, x_parts, x, 0, x_reads[x], 0, channels,
                )  # fmt: skip
        forget_pixels(x_slot, column, found_x)
        forget_pixels(y_slot, row, found_y)
