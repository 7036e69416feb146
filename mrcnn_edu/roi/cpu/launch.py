"""The RoI operators on CPU tensors: layouts, levels and threads around the Numba kernels.

In: feature maps of one or several levels, RoIs [R, 5] = (image, x1, y1, x2, y2) in image
coordinates and the level of each. Out: one tensor [R, C, Ph, Pw], rows in the order of the RoIs:
the kernels of each level write their own rows, nothing is gathered or scattered. Features are
float32 or float64, in the layout that `channels_last` names; results come in the same one.

The kernels see every map as [N, H·W, C]. A channels-last map is that as it lies. A
channels-first one is copied into that order if there are many RoIs for its size, since the copy
costs less than their strided reading; for few RoIs the kernel reads it with strides.

`kernels` makes PyTorch operators of these functions. Chapter 06.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrcnn_edu.kernels.threads import run, threads_for
from mrcnn_edu.roi.cpu import max as cpu_max
from mrcnn_edu.roi.cpu import mean as cpu_mean
from mrcnn_edu.roi.cpu.layout import transpose

Shape = tuple[int, int, int, int]
Array = np.ndarray[Any, Any]

# Pixels of a channels-first map that are copied in the time of one strided bin row of a RoI.
COPY_PIXELS_PER_ROW = 24


def mean_forward(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    size: tuple[int, int],
    scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
    rounded: bool,
    channels_last: bool,
) -> Tensor:
    """RoIAlign (or, `rounded`, RoIWarp) with the mean: [R, C, Ph, Pw]."""
    how = (aligned, rounded, sampling_ratio)
    return _forward(
        cpu_mean.forward, features, rois, levels, size, scales, how, channels_last, False
    )[0]


def max_forward(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    size: tuple[int, int],
    scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
    rounded: bool,
    channels_last: bool,
) -> tuple[Tensor, Tensor]:
    """RoIAlign (or, `rounded`, RoIWarp) with the maximum, and the sample it was: int32."""
    how = (aligned, rounded, sampling_ratio)
    return _forward(
        cpu_max.sampled_forward, features, rois, levels, size, scales, how, channels_last, True
    )


def pool_forward(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    size: tuple[int, int],
    scales: Sequence[float],
    channels_last: bool,
) -> tuple[Tensor, Tensor]:
    """RoIPool, and the pixel y · W + x each maximum was: int32."""
    return _forward(
        cpu_max.pool_forward, features, rois, levels, size, scales, (), channels_last, True
    )


def mean_backward(
    gradient: Tensor,
    rois: Tensor,
    levels: Tensor,
    shapes: Sequence[Shape],
    scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
    rounded: bool,
    channels_last: bool,
) -> list[Tensor]:
    """Gradient of `mean_forward` for each level, of the given [N, C, H, W] shapes."""
    how = [
        (scale, aligned, rounded, sampling_ratio, gradient.shape[3], shape[3])
        for scale, shape in zip(scales, shapes, strict=True)
    ]
    return _backward(cpu_mean.backward, [gradient], rois, levels, shapes, how, channels_last)


def max_backward(
    gradient: Tensor,
    argmax: Tensor,
    rois: Tensor,
    levels: Tensor,
    shapes: Sequence[Shape],
    scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
    rounded: bool,
    channels_last: bool,
) -> list[Tensor]:
    """Gradient of `max_forward` for each level."""
    how = [
        (scale, aligned, rounded, sampling_ratio, gradient.shape[3], shape[3])
        for scale, shape in zip(scales, shapes, strict=True)
    ]
    arrays = [gradient, argmax]
    return _backward(cpu_max.sampled_backward, arrays, rois, levels, shapes, how, channels_last)


def pool_backward(
    gradient: Tensor,
    argmax: Tensor,
    rois: Tensor,
    levels: Tensor,
    shapes: Sequence[Shape],
    channels_last: bool,
) -> list[Tensor]:
    """Gradient of `pool_forward` for each level."""
    how: list[tuple[Any, ...]] = [() for _ in shapes]
    arrays = [gradient, argmax]
    return _backward(cpu_max.pool_backward, arrays, rois, levels, shapes, how, channels_last)


def check_rois(rois: Tensor, images: int) -> None:
    """Raise ValueError where a RoI is not finite or its image index is not in 0..N−1."""
    values = rois.numpy()
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise ValueError(
            f"boxes: row {row} of the RoIs is {values[row].tolist()}; NaN or infinity in a box "
            "usually means that training has diverged"
        )
    wrong = (values[:, 0] < 0) | (values[:, 0] >= images)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"boxes: row {row} of the RoIs names image {values[row, 0]:g}, but the batch has "
            f"{images} images; column 0 of [R, 5] boxes must lie in 0..{images - 1}"
        )


def _forward(
    kernel: Callable[..., None],
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    size: tuple[int, int],
    scales: Sequence[float],
    how: tuple[Any, ...],
    channels_last: bool,
    with_argmax: bool,
) -> tuple[Tensor, Tensor]:
    """Run a forward kernel for each level that has RoIs; (values, argmax or nothing)."""
    images, channels = features[0].shape[:2]
    check_rois(rois, images)
    shape = (rois.shape[0], channels, *size)
    copy = not channels_last and _worth_a_copy([f.shape for f in features], rois, size)
    out = _new(np.empty, shape, features[0].dtype, channels_last or copy)
    outputs = [_as_array(out)]
    argmax = _new(
        np.empty, shape if with_argmax else (0, 0, 0, 0), torch.int32, channels_last or copy
    )
    if with_argmax:
        outputs.append(_as_array(argmax))
    boxes = rois.numpy()
    for feature, scale, rows in zip(
        features, scales, _rows_by_level(levels, len(features)), strict=True
    ):
        if rows.size == 0:
            continue
        source = _as_array(_laid_out(feature, channels_last or copy))
        workers = threads_for(rows.size * size[0] * size[1] * channels * 4)
        run(
            kernel, workers,
            source, feature.shape[3], boxes, rows, scale, *how, size[1], *outputs,
        )  # fmt: skip
    return _laid_out(out, channels_last), _laid_out(argmax, channels_last)


def _backward(
    kernel: Callable[..., None],
    arrays: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    shapes: Sequence[Shape],
    how: Sequence[tuple[Any, ...]],
    channels_last: bool,
) -> list[Tensor]:
    """Run a backward kernel for each level; `arrays` are the gradient and perhaps the argmax."""
    gradient = arrays[0]
    size = (gradient.shape[2], gradient.shape[3])
    copy = not channels_last and _worth_a_copy(shapes, rois, size)
    sources = [_as_array(_laid_out(a, channels_last or copy)) for a in arrays]
    boxes = rois.numpy()
    result = []
    for shape, more, rows in zip(shapes, how, _rows_by_level(levels, len(shapes)), strict=True):
        out = _new(np.zeros, shape, gradient.dtype, channels_last or copy)
        if rows.size:
            workers = threads_for(rows.size * gradient[0].numel() * 8)
            run(kernel, workers, *sources, boxes, rows, *more, _as_array(out))
        result.append(_laid_out(out, channels_last))
    return result


def _new(
    make: Callable[..., Array], shape: Sequence[int], dtype: torch.dtype, channels_last: bool
) -> Tensor:
    """[A, C, H, W] from `np.empty` or `np.zeros` in the wanted layout.

    NumPy asks the system for huge pages where it can, torch does not: on the 100 MB of a FPN
    level or of 512 RoIs of 14 × 14, page faults otherwise cost more than the arithmetic. And
    zeroed pages that nobody touches cost nothing.
    """
    kind = {torch.float32: np.float32, torch.float64: np.float64, torch.int32: np.int32}[dtype]
    a, c, h, w = shape
    if channels_last:
        return torch.from_numpy(make((a, h, w, c), kind)).permute(0, 3, 1, 2)
    return torch.from_numpy(make((a, c, h, w), kind))


def _laid_out(tensor: Tensor, channels_last: bool) -> Tensor:
    """[A, C, H, W] in the wanted layout, copied only if it must be."""
    tensor = tensor.detach()
    layouts = (torch.channels_last, torch.contiguous_format)
    wanted, other = layouts if channels_last else layouts[::-1]
    if tensor.is_contiguous(memory_format=wanted) or not tensor.is_contiguous(memory_format=other):
        return tensor.contiguous(memory_format=wanted)
    out = _new(np.empty, tensor.shape, tensor.dtype, channels_last)
    source, target = tensor.flatten(2).numpy(), out.flatten(2).numpy()  # [A, C, H·W]
    if channels_last:
        run(transpose, threads_for(2 * source.size), source, target.transpose(0, 2, 1))
    else:
        run(transpose, threads_for(2 * source.size), source.transpose(0, 2, 1), target)
    return out


def _as_array(tensor: Tensor) -> Array:
    """[A, C, H, W] of either layout as [A, H·W, C], which is how kernels see it; never a copy."""
    return tensor.flatten(2).transpose(1, 2).numpy()


def _worth_a_copy(shapes: Sequence[Sequence[int]], rois: Tensor, size: tuple[int, int]) -> bool:
    """Whether copying the maps to channels last costs less than reading them with strides."""
    pixels = sum(n * h * w for n, _, h, w in shapes)
    return pixels < COPY_PIXELS_PER_ROW * rois.shape[0] * size[0]


def _rows_by_level(levels: Tensor, count: int) -> list[Array]:
    """Which RoIs each level pools: `count` arrays of row numbers."""
    if count == 1:
        return [np.arange(levels.shape[0])]
    values = levels.numpy()
    return [np.flatnonzero(values == level) for level in range(count)]
