"""The kernels as PyTorch operators: shapes for tracing, gradients, one entry for each device.

Two operators, `roi_mean` and `roi_pool_max`, and their backwards, registered under
`torch.ops.mrcnn_edu`. They take plain, checked arguments (see `ops` for the ones to call):
features of all levels as a list, RoIs [R, 5], the level of each RoI [R], output size [Ph, Pw],
one scale a level. Results have the layout of the first map. Being registered, they survive
`torch.compile(fullgraph=True)` and know their gradients, and a gradient of a gradient is refused
with a reason. Chapter 06.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.library import custom_op

from mrcnn_edu.roi.cpu import launch as cpu


def _backend(tensor: Tensor) -> ModuleType:
    """The module that runs on this tensor's device; the GPU's is imported when first needed."""
    if tensor.device.type == "cpu":
        return cpu
    if tensor.device.type == "cuda":
        from mrcnn_edu.roi.cuda import launch as cuda

        return cuda
    raise NotImplementedError(
        f"RoI operators run on cpu and cuda, not on {tensor.device.type}; move the features with "
        ".cpu()"
    )


def _channels_last(features: Sequence[Tensor]) -> bool:
    """Of a map with one channel or one pixel, which is in both layouts: the faster one."""
    return features[0].is_contiguous(memory_format=torch.channels_last)


def _maps(heights: Sequence[int], widths: Sequence[int], images: int, channels: int) -> list[Any]:
    """Shapes [N, C, H, W] of the levels."""
    return [(images, channels, h, w) for h, w in zip(heights, widths, strict=True)]


def _empty(shape: Sequence[Any], like: Tensor, channels_last: bool, dtype: torch.dtype) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=layout)


def _empty_maps(
    gradient: Tensor,
    images: int,
    heights: Sequence[int],
    widths: Sequence[int],
    channels_last: bool,
) -> list[Tensor]:
    shapes = _maps(heights, widths, images, gradient.shape[1])
    return [_empty(shape, gradient, channels_last, gradient.dtype) for shape in shapes]


def _keep(
    ctx: Any, features: Sequence[Tensor], rois: Tensor, levels: Tensor, *more: Tensor
) -> None:
    """What every backward needs: the RoIs, their levels, the sizes and layout of the maps."""
    ctx.save_for_backward(rois, levels, *more)
    ctx.dtype = features[0].dtype
    ctx.images = features[0].shape[0]
    ctx.heights = [f.shape[2] for f in features]
    ctx.widths = [f.shape[3] for f in features]
    ctx.channels_last = _channels_last(features)


def _no_second_order(ctx: Any, *gradients: Any) -> NoReturn:
    raise RuntimeError(
        "RoI operators have no second-order gradient: call backward or grad without "
        "create_graph=True, or detach what comes out of them"
    )


@custom_op("mrcnn_edu::roi_mean", mutates_args=())
def roi_mean(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    size: Sequence[int],
    scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
    rounded: bool,
) -> Tensor:
    """RoIAlign, or RoIWarp if `rounded`.

    Args:
        features: the levels' maps [N, C, H, W].
        rois: [R, 5], (image, x1, y1, x2, y2) in image coordinates.
        levels: [R], which map.
        size: (Ph, Pw).
        scales: for each level 1 / stride.
        sampling_ratio: samples a bin side; 0 or less takes ⌈bin size⌉.
        aligned: half a pixel is subtracted.
        rounded: RoIWarp's corners.

    Returns:
        [R, C, Ph, Pw].
    """
    how = (aligned, rounded, sampling_ratio)
    return _backend(rois).mean_forward(features, rois, levels, (size[0], size[1]), scales, how)


@roi_mean.register_fake
def _(
    features: Sequence[Tensor], rois: Tensor, levels: Tensor, size: Sequence[int], *how: Any
) -> Tensor:
    shape = (rois.shape[0], features[0].shape[1], *size)
    return _empty(shape, features[0], _channels_last(features), rois.dtype)


@custom_op("mrcnn_edu::roi_mean_backward", mutates_args=())
def roi_mean_backward(
    gradient: Tensor,
    rois: Tensor,
    levels: Tensor,
    images: int,
    heights: Sequence[int],
    widths: Sequence[int],
    scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
    rounded: bool,
    channels_last: bool,
) -> list[Tensor]:
    """Gradient of `roi_mean` for the maps of each level.

    Args:
        gradient: [R, C, Ph, Pw].
        rois, levels, scales, sampling_ratio, aligned, rounded: those of `roi_mean`.
        images: N.
        heights, widths: of each level's map.
        channels_last: whether the maps lie in memory with channels last.

    Returns:
        one [N, C, H, W] for each level.
    """
    shapes = _maps(heights, widths, images, gradient.shape[1])
    how = (aligned, rounded, sampling_ratio)
    return _backend(rois).mean_backward(gradient, rois, levels, shapes, scales, how, channels_last)


@roi_mean_backward.register_fake
def _(
    gradient: Tensor,
    rois: Tensor,
    levels: Tensor,
    images: int,
    heights: Sequence[int],
    widths: Sequence[int],
    *how: Any,
) -> list[Tensor]:
    return _empty_maps(gradient, images, heights, widths, channels_last=how[-1])


def _mean_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, rois, levels, _, *ctx.how = inputs
    _keep(ctx, features, rois, levels)


def _mean_gradient(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    rois, levels = ctx.saved_tensors
    maps = roi_mean_backward(
        gradient, rois, levels, ctx.images, ctx.heights, ctx.widths, *ctx.how, ctx.channels_last
    )
    return [m.to(ctx.dtype) for m in maps], None, None, None, None, None, None, None


@custom_op("mrcnn_edu::roi_pool_max", mutates_args=())
def roi_pool_max(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    size: Sequence[int],
    scales: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """RoIPool.

    Args:
        features, rois, levels, size, scales: as in `roi_mean`.

    Returns:
        [R, C, Ph, Pw], and the pixel y · W + x of each maximum, int32.
    """
    return _backend(rois).pool_forward(features, rois, levels, (size[0], size[1]), scales)


@roi_pool_max.register_fake
def _(
    features: Sequence[Tensor], rois: Tensor, levels: Tensor, size: Sequence[int], *scales: Any
) -> tuple[Tensor, Tensor]:
    shape = (rois.shape[0], features[0].shape[1], *size)
    last = _channels_last(features)
    kinds = (rois.dtype, torch.int32)
    out, argmax = (_empty(shape, features[0], last, kind) for kind in kinds)
    return out, argmax


@custom_op("mrcnn_edu::roi_pool_max_backward", mutates_args=())
def roi_pool_max_backward(
    gradient: Tensor,
    argmax: Tensor,
    rois: Tensor,
    levels: Tensor,
    images: int,
    heights: Sequence[int],
    widths: Sequence[int],
    channels_last: bool,
) -> list[Tensor]:
    """Gradient of `roi_pool_max` for each level: all of it to the pixel that was largest.

    Args:
        gradient: [R, C, Ph, Pw].
        argmax: the pixels that `roi_pool_max` returned.
        rois, levels: those of `roi_pool_max`.
        images: N.
        heights, widths: of each level's map.
        channels_last: whether the maps lie in memory with channels last.

    Returns:
        one [N, C, H, W] for each level.
    """
    shapes = _maps(heights, widths, images, gradient.shape[1])
    return _backend(rois).pool_backward(gradient, argmax, rois, levels, shapes, channels_last)


@roi_pool_max_backward.register_fake
def _(
    gradient: Tensor,
    argmax: Tensor,
    rois: Tensor,
    levels: Tensor,
    images: int,
    heights: Sequence[int],
    widths: Sequence[int],
    channels_last: bool,
) -> list[Tensor]:
    return _empty_maps(gradient, images, heights, widths, channels_last)


def _pool_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    features, rois, levels, _, _ = inputs
    ctx.mark_non_differentiable(output[1])
    _keep(ctx, features, rois, levels, output[1])


def _pool_gradient(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Any, ...]:
    rois, levels, argmax = ctx.saved_tensors
    maps = roi_pool_max_backward(
        gradient, argmax, rois, levels, ctx.images, ctx.heights, ctx.widths, ctx.channels_last
    )
    return [m.to(ctx.dtype) for m in maps], None, None, None, None


roi_mean.register_autograd(_mean_gradient, setup_context=_mean_setup)
roi_mean_backward.register_autograd(_no_second_order)
roi_pool_max.register_autograd(_pool_gradient, setup_context=_pool_setup)
roi_pool_max_backward.register_autograd(_no_second_order)
