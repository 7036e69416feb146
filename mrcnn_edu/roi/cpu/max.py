"""RoIPool, and RoIAlign and RoIWarp with the maximum, on CPU: forward and backward.

In: a feature map [N, H·W, C] (a view of either memory layout) and rows of `rois` [R, 5] =
(image, x1, y1, x2, y2). Out: rows of [R, Ph·Pw, C], and for each value which pixel or sample it
came from, −1 for none: the backward sends the whole gradient there.

Forward, threads own RoIs. Backward, they own channels (RoIPool) or rows of the map (samples) and
walk the RoIs in order, so nothing is added atomically and the result has the same bits for any
number of threads. Fast R-CNN, section 2.1, for RoIPool; Mask R-CNN, section 3, for the others.
Chapters 05 and 06.
"""

import numpy as np

from mrcnn_edu.kernels.compiled import kernel
from mrcnn_edu.roi.cpu.taps import index, interval, round_half_away, sample, sample_position

# RoIPool must agree with the reference bin for bin, so products are rounded before they are added.
exact = kernel(fastmath=False)


@exact
def pool_interval(low, high, scale, bins, real):  # type: ignore[no-untyped-def]
    """First pixel and bin size of one side of a box: both ends rounded, the last one included."""
    start = int(round_half_away(low * scale, real))
    end = int(round_half_away(high * scale, real))
    return start, real(max(end - start + 1, 1)) / real(bins)


@exact
def pool_bin(start, bin_size, p, length, real):  # type: ignore[no-untyped-def]
    """Pixels [begin, end) of bin p, cut to the map."""
    begin = start + int(np.floor(real(p) * bin_size))
    end = start + int(np.ceil(real(p + 1) * bin_size))
    return min(max(begin, 0), length), min(max(end, 0), length)


@exact
def pool_forward(  # type: ignore[no-untyped-def]
    feature, width, rois, rows, scale, bins_x, out, argmax, first, step
):
    """RoIPool: write `out[rows]` and `argmax[rows]`, the pixel y · W + x of the maximum."""
    real = out.dtype.type
    scale = real(scale)
    height, channels = feature.shape[1] // width, index(feature.shape[2])
    bins_y = out.shape[1] // bins_x
    for i in range(first, rows.size, step):
        r = index(rows[i])
        n = index(rois[r, 0])
        x_start, x_bin = pool_interval(rois[r, 1], rois[r, 3], scale, bins_x, real)
        y_start, y_bin = pool_interval(rois[r, 2], rois[r, 4], scale, bins_y, real)
        for q in range(bins_y):
            top, bottom = pool_bin(y_start, y_bin, q, height, real)
            for p in range(bins_x):
                left, right = pool_bin(x_start, x_bin, p, width, real)
                b = index(q * bins_x + p)
                value = real(0) if bottom <= top or right <= left else real(-np.inf)
                for c in range(channels):
                    out[r, b, c] = value
                    argmax[r, b, c] = -1
                for y in range(top, bottom):
                    for x in range(left, right):
                        pixel = index(y * width + x)
                        name = np.int32(pixel)
                        for c in range(channels):
                            value, best = feature[n, pixel, c], out[r, b, c]
                            larger = value > best
                            out[r, b, c] = value if larger else best
                            argmax[r, b, c] = name if larger else argmax[r, b, c]


@exact
def pool_backward(gradient, argmax, rois, rows, out, first, step):  # type: ignore[no-untyped-def]
    """Add to `out` [N, H·W, C] the gradient of `pool_forward`, given [R, Ph·Pw, C]."""
    channels = out.shape[2]
    low, high = index(channels * first // step), index(channels * (first + 1) // step)
    for i in range(rows.size):
        r = index(rows[i])
        n = index(rois[r, 0])
        for b in range(index(gradient.shape[1])):
            for c in range(low, high):
                pixel = argmax[r, b, c]
                if pixel >= 0:
                    out[n, index(pixel), c] += gradient[r, b, c]


@exact
def sampled_forward(  # type: ignore[no-untyped-def]
    feature, width, rois, rows, scale, aligned, rounded, sampling, bins_x, out, argmax, first, step
):
    """RoIAlign or RoIWarp, largest sample of each bin; `argmax` numbers samples row by row."""
    real = out.dtype.type
    scale = real(scale)
    height, channels = feature.shape[1] // width, index(feature.shape[2])
    bins_y = out.shape[1] // bins_x
    for i in range(first, rows.size, step):
        r = index(rows[i])
        n = index(rois[r, 0])
        x_start, x_bin, x_samples = interval(
            rois[r, 1], rois[r, 3], scale, aligned, rounded, bins_x, sampling, real
        )
        y_start, y_bin, y_samples = interval(
            rois[r, 2], rois[r, 4], scale, aligned, rounded, bins_y, sampling, real
        )
        for q in range(bins_y):
            for p in range(bins_x):
                bin_ = index(q * bins_x + p)
                value = real(-np.inf) if x_samples > 0 and y_samples > 0 else real(0)
                for c in range(channels):
                    out[r, bin_, c] = value
                    argmax[r, bin_, c] = -1
                for s in range(y_samples):
                    at_y = sample_position(y_start, y_bin, y_samples, q, s, real)
                    top, bottom, below = sample(at_y, height, real)
                    for t in range(x_samples):
                        at_x = sample_position(x_start, x_bin, x_samples, p, t, real)
                        left, right, beside = sample(at_x, width, real)
                        inside = top >= 0 and left >= 0
                        here = real(1) if inside else real(0)  # outside the map a sample is 0
                        a = index(top * width + left if inside else 0)
                        b = index(top * width + right if inside else 0)
                        d = index(bottom * width + left if inside else 0)
                        e = index(bottom * width + right if inside else 0)
                        wa = (real(1) - below) * (real(1) - beside) * here
                        wb = (real(1) - below) * beside * here
                        wd = below * (real(1) - beside) * here
                        we = below * beside * here
                        name = np.int32(s * x_samples + t)
                        for c in range(channels):
                            value = (
                                wa * feature[n, a, c] + wb * feature[n, b, c]
                                + wd * feature[n, d, c] + we * feature[n, e, c]
                            )  # fmt: skip
                            best = out[r, bin_, c]
                            larger = value > best
                            out[r, bin_, c] = value if larger else best
                            argmax[r, bin_, c] = name if larger else argmax[r, bin_, c]


@exact
def sampled_backward(  # type: ignore[no-untyped-def]
    gradient, argmax, rois, rows, scale, aligned, rounded, sampling, bins_x, width, out, first, step
):
    """Add to `out` [N, H·W, C] the gradient of `sampled_forward`: to the four pixels read."""
    real = out.dtype.type
    scale = real(scale)
    height, channels = out.shape[1] // width, index(out.shape[2])
    bins_y = gradient.shape[1] // bins_x
    for i in range(rows.size):
        r = index(rows[i])
        n = index(rois[r, 0])
        x_start, x_bin, x_samples = interval(
            rois[r, 1], rois[r, 3], scale, aligned, rounded, bins_x, sampling, real
        )
        y_start, y_bin, y_samples = interval(
            rois[r, 2], rois[r, 4], scale, aligned, rounded, bins_y, sampling, real
        )
        for q in range(bins_y):
            for p in range(bins_x):
                b = index(q * bins_x + p)
                for s in range(y_samples):
                    at_y = sample_position(y_start, y_bin, y_samples, q, s, real)
                    top, bottom, below = sample(at_y, height, real)
                    if top < 0:
                        continue
                    for t in range(x_samples):
                        at_x = sample_position(x_start, x_bin, x_samples, p, t, real)
                        left, right, beside = sample(at_x, width, real)
                        if left < 0:
                            continue
                        name = np.int32(s * x_samples + t)
                        for k in range(4):
                            y, wy = (bottom, below) if k >= 2 else (top, real(1) - below)
                            if y % step != first:
                                continue
                            x, wx = (right, beside) if k % 2 else (left, real(1) - beside)
                            pixel, weight = index(y * width + x), wy * wx
                            for c in range(channels):
                                mine = gradient[r, b, c] if argmax[r, b, c] == name else real(0)
                                out[n, pixel, c] += weight * mine
