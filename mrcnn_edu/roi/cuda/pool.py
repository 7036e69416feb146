"""RoIPool on a GPU: forward and two backwards.

In: a map [N, H·W, C] (a view of either memory layout), `rois` [R, 5], the level of each RoI.
Out: [R, Ph·Pw, C] and, in `argmax`, the pixel that each value came from, −1 for none. Threads,
levels and the two backwards (atomic, and in a fixed order) as in `mean`. Fast R-CNN §2.1;
Chapter 07b.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda

from mrcnn_edu.roi.cuda.device import my_output, pool_bin, pool_interval, widen, widen_bfloat16


def make_forward(read: Callable[..., Any]) -> Any:
    """The forward kernel of RoIPool, for features that `read` widens."""

    @cuda.jit(fastmath=False)
    def forward(  # type: ignore[no-untyped-def]
        feature, width, rois, levels, level, scale, bins_x, channels_last, out, argmax
    ):
        r, b, c = my_output(channels_last)
        if b >= out.shape[1] or c >= out.shape[2] or levels[r] != level:
            return
        real = rois.dtype.type
        height, bins_y = feature.shape[1] // width, out.shape[1] // bins_x
        n = int(rois[r, 0])
        x_start, x_bin = pool_interval(rois[r, 1], rois[r, 3], real(scale), bins_x, real)
        y_start, y_bin = pool_interval(rois[r, 2], rois[r, 4], real(scale), bins_y, real)
        top, bottom = pool_bin(y_start, y_bin, b // bins_x, height, real)
        left, right = pool_bin(x_start, x_bin, b % bins_x, width, real)
        best = real(0) if bottom <= top or right <= left else real(-np.inf)
        source = -1
        for y in range(top, bottom):
            for x in range(left, right):
                value = read(feature[n, y * width + x, c], real)
                if value > best:
                    best = value
                    source = y * width + x
        out[r, b, c] = best
        argmax[r, b, c] = source

    return forward


forward = make_forward(widen)
forward_bfloat16 = make_forward(widen_bfloat16)


@cuda.jit(fastmath=False)
def backward(gradient, argmax, rois, levels, level, channels_last, out):  # type: ignore[no-untyped-def]
    """Add to `out` [N, H·W, C] the gradient of RoIPool, atomically."""
    r, b, c = my_output(channels_last)
    if b >= gradient.shape[1] or c >= gradient.shape[2] or levels[r] != level:
        return
    if argmax[r, b, c] >= 0:
        cuda.atomic.add(out, (int(rois[r, 0]), argmax[r, b, c], c), gradient[r, b, c])


@cuda.jit(fastmath=False)
def backward_by_rows(gradient, argmax, width, rois, levels, level, out):  # type: ignore[no-untyped-def]
    """The same gradient, each thread the only writer of one row of one channel."""
    height = out.shape[1] // width
    image, y = cuda.blockIdx.x // height, cuda.blockIdx.x % height
    c = cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if c >= out.shape[2]:
        return
    for r in range(rois.shape[0]):
        if levels[r] != level or int(rois[r, 0]) != image:
            continue
        for b in range(gradient.shape[1]):
            pixel = argmax[r, b, c]
            if pixel >= y * width and pixel < (y + 1) * width:
                out[image, pixel, c] += gradient[r, b, c]
