"""RoIAlign and RoIWarp on a GPU: forward and two backwards.

In: a map [N, H·W, C] (a view of either memory layout), `rois` [R, 5], the level of each RoI.
Out: [R, Ph·Pw, C]. One thread computes one output; neighbouring threads have neighbouring
addresses (channels, or bins when the map is channels first), so a warp reads and writes whole
lines. A kernel serves one level and leaves the RoIs of others alone.

Backward comes twice. `backward` mirrors the forward and adds atomically: fast, and its last bits
depend on the order in which threads arrive. `backward_by_rows` gives each thread one row of the
map in one channel and walks all RoIs in order, as on the CPU: slower, the same bits every time.
Mask R-CNN §3; Chapter 07b.
"""

from collections.abc import Callable
from typing import Any

from numba import cuda

from mrcnn_edu.roi.cuda.device import (
    interval,
    my_output,
    pixel_weight,
    sample,
    sample_position,
    widen,
    widen_bfloat16,
)


def make_forward(read: Callable[..., Any]) -> Any:
    """The forward kernel, for features that `read` widens to the computing type."""

    @cuda.jit(fastmath=False)
    def forward(  # type: ignore[no-untyped-def]
        feature, width, rois, levels, level, scale, aligned, rounded, sampling, bins_x,
        channels_last, out,
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
        total = real(0)
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
                nw = read(feature[n, top * width + left, c], real)
                ne = read(feature[n, top * width + right, c], real)
                sw = read(feature[n, bottom * width + left, c], real)
                se = read(feature[n, bottom * width + right, c], real)
                upper = (real(1) - beside) * nw + beside * ne
                lower = (real(1) - beside) * sw + beside * se
                total += (real(1) - below) * upper + below * lower
        out[r, b, c] = total / real(max(x_samples * y_samples, 1))

    return forward


forward = make_forward(widen)
forward_bfloat16 = make_forward(widen_bfloat16)


@cuda.jit(fastmath=False)
def backward(  # type: ignore[no-untyped-def]
    gradient, width, rois, levels, level, scale, aligned, rounded, sampling, bins_x,
    channels_last, out,
):  # fmt: skip
    """Add to `out` [N, H·W, C] the gradient of the forward, atomically."""
    r, b, c = my_output(channels_last)
    if b >= gradient.shape[1] or c >= gradient.shape[2] or levels[r] != level:
        return
    real = rois.dtype.type
    height, bins_y = out.shape[1] // width, gradient.shape[1] // bins_x
    n = int(rois[r, 0])
    q, p = b // bins_x, b % bins_x
    x_start, x_bin, x_samples = interval(
        rois[r, 1], rois[r, 3], real(scale), aligned, rounded, bins_x, sampling, real
    )
    y_start, y_bin, y_samples = interval(
        rois[r, 2], rois[r, 4], real(scale), aligned, rounded, bins_y, sampling, real
    )
    part = gradient[r, b, c] / real(max(x_samples * y_samples, 1))
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
            upper, lower = (real(1) - below) * part, below * part
            cuda.atomic.add(out, (n, top * width + left, c), upper * (real(1) - beside))
            cuda.atomic.add(out, (n, top * width + right, c), upper * beside)
            cuda.atomic.add(out, (n, bottom * width + left, c), lower * (real(1) - beside))
            cuda.atomic.add(out, (n, bottom * width + right, c), lower * beside)


@cuda.jit(fastmath=False)
def backward_by_rows(  # type: ignore[no-untyped-def]
    gradient, width, rois, levels, level, scale, aligned, rounded, sampling, bins_x,
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
        y_start, y_bin, y_samples = interval(
            rois[r, 2], rois[r, 4], real(scale), aligned, rounded, bins_y, sampling, real
        )
        y_end = y_start + y_bin * real(bins_y)
        # A sample reads rows less than one away, and the border from one pixel outside.
        if real(y) < min(y_start, y_end) - real(2) or real(y) > max(y_start, y_end) + real(2):
            continue
        x_start, x_bin, x_samples = interval(
            rois[r, 1], rois[r, 3], real(scale), aligned, rounded, bins_x, sampling, real
        )
        for q in range(bins_y):
            weight = pixel_weight(y_start, y_bin, y_samples, q, y, height, real)
            if weight == real(0):
                continue
            for p in range(bins_x):
                part = weight * gradient[r, q * bins_x + p, c] / real(max(x_samples, 1))
                for t in range(x_samples):
                    at_x = sample_position(x_start, x_bin, x_samples, p, t, real)
                    left, right, beside = sample(at_x, width, real)
                    if left >= 0:
                        out[image, y * width + left, c] += part * (real(1) - beside)
                        out[image, y * width + right, c] += part * beside
