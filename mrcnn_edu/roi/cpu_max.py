"""RoIPool, and RoIAlign and RoIWarp with the maximum, on CPU: forward and backward.

In: a feature map [N, H·W, C] (a view of either memory layout) and rows of `rois` [R, 5] =
(image, x1, y1, x2, y2). Out: rows of [R, Ph, Pw, C], and for each value which pixel or sample it
came from, −1 for none: the backward sends the whole gradient there.

Forward, threads own RoIs; backward, they own channels and walk the RoIs in order, so nothing is
added atomically and the result has the same bits for any number of threads. Fast R-CNN, section
2.1, for RoIPool; Mask R-CNN, section 3, for the others. Chapters 05 and 06.
"""

import numpy as np
from numba import njit

from mrcnn_edu.roi.axis import interval, round_half_away, sample, sample_position

# RoIPool must agree with the reference bin for bin, so products are rounded before they are added.
kernel = njit(nogil=True, cache=True, error_model="numpy")


@kernel
def pool_interval(low, high, scale, bins, real):  # type: ignore[no-untyped-def]
    """First pixel and bin size of one side of a box: both ends rounded, the last one included."""
    start = int(round_half_away(low * scale, real))
    end = int(round_half_away(high * scale, real))
    return start, real(max(end - start + 1, 1)) / real(bins)


@kernel
def pool_bin(start, bin_size, p, length, real):  # type: ignore[no-untyped-def]
    """Pixels [begin, end) of bin p, cut to the map."""
    begin = start + int(np.floor(real(p) * bin_size))
    end = start + int(np.ceil(real(p + 1) * bin_size))
    return min(max(begin, 0), length), min(max(end, 0), length)


@kernel
def pool_forward(feature, width, rois, rows, scale, out, argmax, first, step):  # type: ignore[no-untyped-def]
    """RoIPool: write `out[rows]` and `argmax[rows]`, the pixel y · W + x of the maximum."""
    real = out.dtype.type
    scale = real(scale)
    height, channels = feature.shape[1] // width, feature.shape[2]
    bins_y, bins_x = out.shape[1], out.shape[2]
    for i in range(first, rows.size, step):
        r = rows[i]
        x_start, x_bin = pool_interval(rois[r, 1], rois[r, 3], scale, bins_x, real)
        y_start, y_bin = pool_interval(rois[r, 2], rois[r, 4], scale, bins_y, real)
        image = feature[int(rois[r, 0])]  # [H·W, C]
        for q in range(bins_y):
            top, bottom = pool_bin(y_start, y_bin, q, height, real)
            for p in range(bins_x):
                left, right = pool_bin(x_start, x_bin, p, width, real)
                best, source = out[r, q, p], argmax[r, q, p]
                value = real(0) if bottom <= top or right <= left else real(-np.inf)
                for c in range(channels):
                    best[c] = value
                    source[c] = -1
                for y in range(top, bottom):
                    for x in range(left, right):
                        pixel = np.int32(y * width + x)
                        values = image[pixel]
                        for c in range(channels):
                            larger = values[c] > best[c]
                            best[c] = values[c] if larger else best[c]
                            source[c] = pixel if larger else source[c]


@kernel
def pool_backward(gradient, argmax, rois, rows, out, first, step):  # type: ignore[no-untyped-def]
    """Add to `out` [N, H·W, C] the gradient of `pool_forward`, given [R, Ph, Pw, C]."""
    channels = out.shape[2]
    low, high = channels * first // step, channels * (first + 1) // step
    for i in range(rows.size):
        r = rows[i]
        image = out[int(rois[r, 0])]  # [H·W, C]
        for q in range(gradient.shape[1]):
            for p in range(gradient.shape[2]):
                source = argmax[r, q, p]
                for c in range(low, high):
                    if source[c] >= 0:
                        image[source[c], c] += gradient[r, q, p, c]


@kernel
def sampled_forward(  # type: ignore[no-untyped-def]
    feature, width, rois, rows, scale, aligned, rounded, sampling, out, argmax, first, step
):
    """RoIAlign or RoIWarp, largest sample of each bin; `argmax` numbers samples row by row."""
    real = out.dtype.type
    scale = real(scale)
    height, channels = feature.shape[1] // width, feature.shape[2]
    bins_y, bins_x = out.shape[1], out.shape[2]
    for i in range(first, rows.size, step):
        r = rows[i]
        x_start, x_bin, x_samples = interval(
            rois[r, 1], rois[r, 3], scale, aligned, rounded, bins_x, sampling, real
        )
        y_start, y_bin, y_samples = interval(
            rois[r, 2], rois[r, 4], scale, aligned, rounded, bins_y, sampling, real
        )
        image = feature[int(rois[r, 0])]  # [H·W, C]
        for q in range(bins_y):
            for p in range(bins_x):
                best, source = out[r, q, p], argmax[r, q, p]
                value = real(-np.inf) if x_samples > 0 and y_samples > 0 else real(0)
                for c in range(channels):
                    best[c] = value
                    source[c] = -1
                for s in range(y_samples):
                    at_y = sample_position(y_start, y_bin, y_samples, q, s, real)
                    top, bottom, below = sample(at_y, height, real)
                    for t in range(x_samples):
                        at_x = sample_position(x_start, x_bin, x_samples, p, t, real)
                        left, right, beside = sample(at_x, width, real)
                        inside = top >= 0 and left >= 0  # outside the map a sample is 0
                        a = image[top * width + left if inside else 0]
                        b = image[top * width + right if inside else 0]
                        d = image[bottom * width + left if inside else 0]
                        e = image[bottom * width + right if inside else 0]
                        wa = (real(1) - below) * (real(1) - beside) if inside else real(0)
                        wb = (real(1) - below) * beside if inside else real(0)
                        wd = below * (real(1) - beside) if inside else real(0)
                        we = below * beside if inside else real(0)
                        number = np.int32(s * x_samples + t)
                        for c in range(channels):
                            value = wa * a[c] + wb * b[c] + wd * d[c] + we * e[c]
                            larger = value > best[c]
                            best[c] = value if larger else best[c]
                            source[c] = number if larger else source[c]


@kernel
def sampled_backward(  # type: ignore[no-untyped-def]
    gradient, argmax, rois, rows, scale, aligned, rounded, sampling, width, out, first, step
):
    """Add to `out` [N, H·W, C] the gradient of `sampled_forward`: to the four pixels read."""
    real = out.dtype.type
    scale = real(scale)
    height, channels = out.shape[1] // width, out.shape[2]
    bins_y, bins_x = gradient.shape[1], gradient.shape[2]
    low, high = channels * first // step, channels * (first + 1) // step
    for i in range(rows.size):
        r = rows[i]
        x_start, x_bin, x_samples = interval(
            rois[r, 1], rois[r, 3], scale, aligned, rounded, bins_x, sampling, real
        )
        y_start, y_bin, y_samples = interval(
            rois[r, 2], rois[r, 4], scale, aligned, rounded, bins_y, sampling, real
        )
        image = out[int(rois[r, 0])]  # [H·W, C]
        for q in range(bins_y):
            for p in range(bins_x):
                arriving, source = gradient[r, q, p], argmax[r, q, p]
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
                        number = s * x_samples + t
                        for k in range(4):
                            y, wy = (bottom, below) if k >= 2 else (top, real(1) - below)
                            x, wx = (right, beside) if k % 2 else (left, real(1) - beside)
                            target, weight = image[y * width + x], wy * wx
                            for c in range(low, high):
                                mine = arriving[c] if source[c] == number else real(0)
                                target[c] += weight * mine
