"""The RoI operators on CPU tensors: layouts, levels and threads around the Numba kernels.

In: feature maps of one or several levels, RoIs [R, 5] = (image, x1, y1, x2, y2) in image
coordinates and the level of each. Out: one tensor [R, C, Ph, Pw], rows in the order of the RoIs:
the kernels of each level write their own rows, nothing is gathered or scattered. Features are
float32 or float64; what comes out has their layout.

The kernels see every map as [N, H·W, C]. A channels-last map is that as it lies. A
channels-first one is copied into that order if there are many RoIs for its size, since the copy
costs less than their strided reading; for few RoIs the kernel reads it with strides.

`torch_ops` makes PyTorch operators of these functions. Chapter 06.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrcnn_edu.kernels.threads import run, threads_for
from mrcnn_edu.roi.cpu import mean, pool
from mrcnn_edu.roi.cpu.layout import transpose

Shape = tuple[int, int, int, int]
How = tuple[bool, bool, int]  # aligned, rounded, samples a bin side
Array = np.ndarray[Any, Any]

# Pixels of a channels-first map that are copied in the time of one strided bin row of a RoI.
COPY_PIXELS_PER_ROW = 24


def mean_forward(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    size: tuple[int, int],
    scales: Sequence[float],
    how: How,
) -> Tensor:
    """RoIAlign or RoIWarp of RoIs, each on its level.

    Args:
        features: the levels' maps [N, C, H, W].
        rois: [R, 5], (image, x1, y1, x2, y2) in image coordinates.
        levels: [R], which map.
        size: (Ph, Pw), bins of a RoI.
        scales: for each level 1 / stride.
        how: (aligned, rounded, samples a bin side).

    Returns:
        [R, C, Ph, Pw].
    """
    kinds = [features[0].dtype]
    return _forward(mean.forward, features, rois, levels, size, scales, how, kinds)[0]


def pool_forward(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    size: tuple[int, int],
    scales: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """RoIPool of RoIs, each on its level.

    Args:
        features, rois, levels, size, scales: as in `mean_forward`.

    Returns:
        [R, C, Ph, Pw], and the pixel y · W + x each maximum was: int32, −1 for none.
    """
    kinds = [features[0].dtype, torch.int32]
    out, argmax = _forward(pool.forward, features, rois, levels, size, scales, (), kinds)
    return out, argmax


def mean_backward(
    gradient: Tensor,
    rois: Tensor,
    levels: Tensor,
    shapes: Sequence[Shape],
    scales: Sequence[float],
    how: How,
    channels_last: bool,
) -> list[Tensor]:
    """Gradient of `mean_forward` for the maps of each level.

    Args:
        gradient: [R, C, Ph, Pw].
        rois, levels, scales, how: those of `mean_forward`.
        shapes: (N, C, H, W) of each level.
        channels_last: whether the maps lie in memory with channels last.

    Returns:
        one [N, C, H, W] for each level.
    """
    more = [
        (scale, *how, gradient.shape[3], shape[3])
        for scale, shape in zip(scales, shapes, strict=True)
    ]
    return _backward(mean.backward, [gradient], rois, levels, shapes, more, channels_last)


def pool_backward(
    gradient: Tensor,
    argmax: Tensor,
    rois: Tensor,
    levels: Tensor,
    shapes: Sequence[Shape],
    channels_last: bool,
) -> list[Tensor]:
    """Gradient of `pool_forward` for the maps of each level.

    Args:
        gradient: [R, C, Ph, Pw].
        argmax: the pixels that `pool_forward` returned.
        rois, levels: those of `pool_forward`.
        shapes: (N, C, H, W) of each level.
        channels_last: whether the maps lie in memory with channels last.

    Returns:
        one [N, C, H, W] for each level.
    """
    more: list[tuple[Any, ...]] = [() for _ in shapes]
    return _backward(pool.backward, [gradient, argmax], rois, levels, shapes, more, channels_last)


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
    kinds: Sequence[torch.dtype],
) -> list[Tensor]:
    """Run a forward kernel for each level that has RoIs; one result of each of the `kinds`."""
    images, channels = features[0].shape[:2]
    check_rois(rois, images)
    wanted = features[0].is_contiguous(memory_format=torch.channels_last)
    last = wanted or _worth_a_copy([f.shape for f in features], rois, size)
    outputs = [_new(np.empty, (rois.shape[0], channels, *size), kind, last) for kind in kinds]
    targets = [_as_array(out) for out in outputs]
    boxes = rois.numpy()
    for feature, scale, rows in zip(
        features, scales, _rows_by_level(levels, len(features)), strict=True
    ):
        if rows.size:
            source = _as_array(_laid_out(feature, last))
            workers = threads_for(rows.size * size[0] * size[1] * channels * 4)
            run(
                kernel, workers,
                source, feature.shape[3], boxes, rows, scale, *how, size[1], *targets,
            )  # fmt: skip
    return [_laid_out(out, wanted) for out in outputs]


def _backward(
    kernel: Callable[..., None],
    arrays: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    shapes: Sequence[Shape],
    more: Sequence[tuple[Any, ...]],
    channels_last: bool,
) -> list[Tensor]:
    """Run a backward kernel for each level; `arrays` are the gradient and perhaps the argmax."""
    gradient = arrays[0]
    size = (gradient.shape[2], gradient.shape[3])
    last = channels_last or _worth_a_copy(shapes, rois, size)
    sources = [_as_array(_laid_out(array, last)) for array in arrays]
    boxes = rois.numpy()
    result = []
    for shape, how, rows in zip(shapes, more, _rows_by_level(levels, len(shapes)), strict=True):
        out = _new(np.zeros, shape, gradient.dtype, last)
        if rows.size:
            workers = threads_for(rows.size * gradient[0].numel() * 8)
            run(kernel, workers, *sources, boxes, rows, *how, _as_array(out))
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
