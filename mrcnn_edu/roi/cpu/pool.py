"""RoIPool on CPU: forward and backward.

In: a feature map [N, H·W, C] (a view of either memory layout) and rows of `rois` [R, 5] =
(image, x1, y1, x2, y2). Out: rows of [R, Ph·Pw, C], and for each value the pixel that it came
from, −1 for none: the backward sends the whole gradient there.

Forward, threads own RoIs. Backward, they own channels and walk the RoIs in order, so nothing is
added atomically and the result has the same bits for any number of threads. Fast R-CNN §2.1;
Chapters 05 and 06.
"""

import numpy as np

from mrcnn_edu.kernels.compiled import kernel
from mrcnn_edu.roi.cpu.taps import index, pool_bin, pool_interval


@kernel(fastmath=False)
def forward(  # type: ignore[no-untyped-def]
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


@kernel(fastmath=False)
def backward(gradient, argmax, rois, rows, out, first, step):  # type: ignore[no-untyped-def]
    """Add to `out` [N, H·W, C] the gradient of `forward`, given [R, Ph·Pw, C]."""
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
