"""RoIPool, and RoIAlign and RoIWarp with the maximum, on a GPU: forward and two backwards.

In: a map [N, H·W, C] (a view of either memory layout), `rois` [R, 5], the level of each RoI.
Out: [R, Ph·Pw, C] and, in `argmax`, which pixel (RoIPool) or sample each value came from, −1 for
none. Threads, levels and the two backwards (atomic, and in a fixed order) as in `cuda_mean`.
Fast R-CNN, section 2.1; Mask R-CNN, section 3; Chapter 07.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda

from mrcnn_edu.roi.cuda.device import (
    device,
    interval,
    my_output,
    pool_bin,
    pool_interval,
    sample,
    sample_position,
    widen,
    widen_bfloat16,
)


def make_pool_forward(read: Callable[..., Any]) -> Any:
    """The forward kernel of RoIPool, for features that `read` widens."""

    @cuda.jit(fastmath=False)
    def pool_forward(  # type: ignore[no-untyped-def]
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

    return pool_forward


pool_forward = make_pool_forward(widen)
pool_forward_bfloat16 = make_pool_forward(widen_bfloat16)


@cuda.jit(fastmath=False)
def pool_backward(gradient, argmax, rois, levels, level, channels_last, out):  # type: ignore[no-untyped-def]
    """Add to `out` [N, H·W, C] the gradient of RoIPool, atomically."""
    r, b, c = my_output(channels_last)
    if b >= gradient.shape[1] or c >= gradient.shape[2] or levels[r] != level:
        return
    if argmax[r, b, c] >= 0:
        cuda.atomic.add(out, (int(rois[r, 0]), argmax[r, b, c], c), gradient[r, b, c])


@cuda.jit(fastmath=False)
def pool_backward_by_rows(gradient, argmax, width, rois, levels, level, out):  # type: ignore[no-untyped-def]
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


def make_forward(read: Callable[..., Any]) -> Any:
    """The forward kernel of RoIAlign and RoIWarp with the maximum; `read` widens features."""

    @cuda.jit(fastmath=False)
    def forward(  # type: ignore[no-untyped-def]
        feature, width, rois, levels, level, scale, aligned, rounded, sampling, bins_x,
        channels_last, out, argmax,
    ):  # fmt: skip
        r, b, c = my_output(channels_last)
        if b >= out.shape[1] or c >= out.shape[2] or levels[r] != level:
            return
        real = rois.dtype.type
        height, bins_y = feature.shape[1] // width, out.shape[1] // bins_x
        n = int(rois[r, 0])
        q, p = b // bins_x, b % bins_x
        x_start, x_bin, x_samples = interval(
            rois[r, 1], rois[r, 3], real(scale), aligned, rounded, bins_x, sampling, real
        )
        y_start, y_bin, y_samples = interval(
            rois[r, 2], rois[r, 4], real(scale), aligned, rounded, bins_y, sampling, real
        )
        best = real(-np.inf) if x_samples > 0 and y_samples > 0 else real(0)
        source = -1
        for s in range(y_samples):
            at_y = sample_position(y_start, y_bin, y_samples, q, s, real)
            top, bottom, below = sample(at_y, height, real)
            for t in range(x_samples):
                at_x = sample_position(x_start, x_bin, x_samples, p, t, real)
                left, right, beside = sample(at_x, width, real)
                value = real(0)  # outside the map a sample is 0
                if top >= 0 and left >= 0:
                    nw = read(feature[n, top * width + left, c], real)
                    ne = read(feature[n, top * width + right, c], real)
                    sw = read(feature[n, bottom * width + left, c], real)
                    se = read(feature[n, bottom * width + right, c], real)
                    upper = (real(1) - beside) * nw + beside * ne
                    lower = (real(1) - beside) * sw + beside * se
                    value = (real(1) - below) * upper + below * lower
                if value > best:
                    best = value
                    source = s * x_samples + t
        out[r, b, c] = best
        argmax[r, b, c] = source

    return forward


forward = make_forward(widen)
forward_bfloat16 = make_forward(widen_bfloat16)


@device
def largest_sample(  # type: ignore[no-untyped-def]
    roi, number, b, height, width, scale, aligned, rounded, sampling, bins_y, bins_x, real
):
    """The pixels and weights of sample `number` of bin b: (top, bottom, below), (left, ...)."""
    x_start, x_bin, x_samples = interval(
        roi[1], roi[3], scale, aligned, rounded, bins_x, sampling, real
    )
    y_start, y_bin, y_samples = interval(
        roi[2], roi[4], scale, aligned, rounded, bins_y, sampling, real
    )
    s, t = number // x_samples, number % x_samples
    at_y = sample_position(y_start, y_bin, y_samples, b // bins_x, s, real)
    at_x = sample_position(x_start, x_bin, x_samples, b % bins_x, t, real)
    return sample(at_y, height, real), sample(at_x, width, real)


@cuda.jit(fastmath=False)
def backward(  # type: ignore[no-untyped-def]
    gradient, argmax, width, rois, levels, level, scale, aligned, rounded, sampling, bins_x,
    channels_last, out,
):  # fmt: skip
    """Add to `out` [N, H·W, C] the gradient of the forward, atomically."""
    r, b, c = my_output(channels_last)
    if b >= gradient.shape[1] or c >= gradient.shape[2] or levels[r] != level:
        return
    if argmax[r, b, c] < 0:
        return
    real = rois.dtype.type
    height, bins_y = out.shape[1] // width, gradient.shape[1] // bins_x
    (top, bottom, below), (left, right, beside) = largest_sample(
        rois[r], argmax[r, b, c], b, height, width, real(scale), aligned, rounded, sampling,
        bins_y, bins_x, real,
    )  # fmt: skip
    if top < 0 or left < 0:
        return
    n = int(rois[r, 0])
    upper, lower = (real(1) - below) * gradient[r, b, c], below * gradient[r, b, c]
    cuda.atomic.add(out, (n, top * width + left, c), upper * (real(1) - beside))
    cuda.atomic.add(out, (n, top * width + right, c), upper * beside)
    cuda.atomic.add(out, (n, bottom * width + left, c), lower * (real(1) - beside))
    cuda.atomic.add(out, (n, bottom * width + right, c), lower * beside)


@cuda.jit(fastmath=False)
def backward_by_rows(  # type: ignore[no-untyped-def]
    gradient, argmax, width, rois, levels, level, scale, aligned, rounded, sampling, bins_x,
    channels_last, out,
):  # fmt: skip
    """The same gradient, each thread the only writer of one row of one channel."""
    height, bins_y = out.shape[1] // width, gradient.shape[1] // bins_x
    image, y = cuda.blockIdx.x // height, cuda.blockIdx.x % height
    c = cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if c >= out.shape[2]:
        return
    real = rois.dtype.type
    for r in range(rois.shape[0]):
        if levels[r] != level or int(rois[r, 0]) != image:
            continue
        for b in range(gradient.shape[1]):
            if argmax[r, b, c] < 0:
                continue
            (top, bottom, below), (left, right, beside) = largest_sample(
                rois[r], argmax[r, b, c], b, height, width, real(scale), aligned, rounded,
                sampling, bins_y, bins_x, real,
            )  # fmt: skip
            if left < 0:
                continue
            weight = real(0)
            if top == y:
                weight += real(1) - below
            if bottom == y:
                weight += below
            part = weight * gradient[r, b, c]
            out[image, y * width + left, c] += part * (real(1) - beside)
            out[image, y * width + right, c] += part * beside
