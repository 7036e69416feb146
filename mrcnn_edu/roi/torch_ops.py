"""The kernels as PyTorch operators: shapes for tracing, gradients, one entry for each device.

Three operators, `roi_mean`, `roi_max` and `roi_pool_max`, and their backwards, registered under
`torch.ops.mrcnn_edu`. They take plain, checked arguments (see `ops` for the ones to call):
features of all levels as a list, RoIs [R, 5], the level of each RoI [R], output size [Ph, Pw],
one scale a level. Being registered, they survive `torch.compile(fullgraph=True)` and know their
gradients, and a gradient of a gradient is refused with a reason. Chapter 06.
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


def _maps(heights: Sequence[int], widths: Sequence[int], images: int, channels: int) -> list[Any]:
    """Shapes [N, C, H, W] of the levels."""
    return [(images, channels, h, w) for h, w in zip(heights, widths, strict=True)]


def _empty(shape: Sequence[Any], like: Tensor, channels_last: bool, dtype: torch.dtype) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=layout)


def _keep(
    ctx: Any, features: Sequence[Tensor], rois: Tensor, levels: Tensor, *more: Tensor
) -> None:
    """What every backward needs: the RoIs, their levels and the sizes of the maps."""
    ctx.save_for_backward(rois, levels, *more)
    ctx.dtype = features[0].dtype
    ctx.images = features[0].shape[0]
    ctx.heights = [f.shape[2] for f in features]
    ctx.widths = [f.shape[3] for f in features]


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
    channels_last: bool,
) -> Tensor:
    """RoIAlign, or RoIWarp if `rounded`, with the mean: [R, C, Ph, Pw]."""
    return _backend(rois).mean_forward(
        features, rois, levels, (size[0], size[1]), scales, sampling_ratio, aligned, rounded,
        channels_last,
    )  # fmt: skip


@roi_mean.register_fake
def _(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    size: Sequence[int],
    scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
    rounded: bool,
    channels_last: bool,
) -> Tensor:
    shape = (rois.shape[0], features[0].shape[1], *size)
    return _empty(shape, features[0], channels_last, rois.dtype)


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
    """Gradient of `roi_mean` for each level, from the gradient [R, C, Ph, Pw]."""
    shapes = _maps(heights, widths, images, gradient.shape[1])
    return _backend(rois).mean_backward(
        gradient, rois, levels, shapes, scales, sampling_ratio, aligned, rounded, channels_last
    )


@roi_mean_backward.register_fake
def _(
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
    shapes = _maps(heights, widths, images, gradient.shape[1])
    return [_empty(shape, gradient, channels_last, gradient.dtype) for shape in shapes]


def _mean_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, rois, levels, _, *ctx.how = inputs
    _keep(ctx, features, rois, levels)


def _mean_gradient(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    rois, levels = ctx.saved_tensors
    maps = roi_mean_backward(gradient, rois, levels, ctx.images, ctx.heights, ctx.widths, *ctx.how)
    return [m.to(ctx.dtype) for m in maps], None, None, None, None, None, None, None, None


roi_mean.register_autograd(_mean_gradient, setup_context=_mean_setup)
roi_mean_backward.register_autograd(_no_second_order)


@custom_op("mrcnn_edu::roi_max", mutates_args=())
def roi_max(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    size: Sequence[int],
    scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
    rounded: bool,
    channels_last: bool,
) -> tuple[Tensor, Tensor]:
    """RoIAlign, or RoIWarp if `rounded`, with the maximum; and the number of its sample, int32."""
    return _backend(rois).max_forward(
        features, rois, levels, (size[0], size[1]), scales, sampling_ratio, aligned, rounded,
        channels_last,
    )  # fmt: skip


@roi_max.register_fake
def _(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    size: Sequence[int],
    scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
    rounded: bool,
    channels_last: bool,
) -> tuple[Tensor, Tensor]:
    shape = (rois.shape[0], features[0].shape[1], *size)
    out = _empty(shape, features[0], channels_last, rois.dtype)
    return out, _empty(shape, features[0], channels_last, torch.int32)


@custom_op("mrcnn_edu::roi_max_backward", mutates_args=())
def roi_max_backward(
    gradient: Tensor,
    argmax: Tensor,
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
    """Gradient of `roi_max` for each level: all of it to the sample that was largest."""
    shapes = _maps(heights, widths, images, gradient.shape[1])
    return _backend(rois).max_backward(
        gradient, argmax, rois, levels, shapes, scales, sampling_ratio, aligned, rounded,
        channels_last,
    )  # fmt: skip


@roi_max_backward.register_fake
def _(
    gradient: Tensor,
    argmax: Tensor,
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
    shapes = _maps(heights, widths, images, gradient.shape[1])
    return [_empty(shape, gradient, channels_last, gradient.dtype) for shape in shapes]


@custom_op("mrcnn_edu::roi_pool_max", mutates_args=())
def roi_pool_max(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    size: Sequence[int],
    scales: Sequence[float],
    channels_last: bool,
) -> tuple[Tensor, Tensor]:
    """RoIPool; and the pixel y · W + x of each maximum, int32."""
    return _backend(rois).pool_forward(
        features, rois, levels, (size[0], size[1]), scales, channels_last
    )


@roi_pool_max.register_fake
def _(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    size: Sequence[int],
    scales: Sequence[float],
    channels_last: bool,
) -> tuple[Tensor, Tensor]:
    shape = (rois.shape[0], features[0].shape[1], *size)
    out = _empty(shape, features[0], channels_last, rois.dtype)
    return out, _empty(shape, features[0], channels_last, torch.int32)


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
    """Gradient of `roi_pool_max` for each level: all of it to the pixel that was largest."""
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
    shapes = _maps(heights, widths, images, gradient.shape[1])
    return [_empty(shape, gradient, channels_last, gradient.dtype) for shape in shapes]


def _max_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    features, rois, levels, _, *ctx.how = inputs
    ctx.mark_non_differentiable(output[1])
    _keep(ctx, features, rois, levels, output[1])


def _max_gradient(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Any, ...]:
    rois, levels, argmax = ctx.saved_tensors
    maps = roi_max_backward(
        gradient, argmax, rois, levels, ctx.images, ctx.heights, ctx.widths, *ctx.how
    )
    return [m.to(ctx.dtype) for m in maps], None, None, None, None, None, None, None, None


def _pool_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    features, rois, levels, _, _, ctx.channels_last = inputs
    ctx.mark_non_differentiable(output[1])
    _keep(ctx, features, rois, levels, output[1])


def _pool_gradient(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Any, ...]:
    rois, levels, argmax = ctx.saved_tensors
    maps = roi_pool_max_backward(
        gradient, argmax, rois, levels, ctx.images, ctx.heights, ctx.widths, ctx.channels_last
    )
    return [m.to(ctx.dtype) for m in maps], None, None, None, None, None


roi_max.register_autograd(_max_gradient, setup_context=_max_setup)
roi_max_backward.register_autograd(_no_second_order)
roi_pool_max.register_autograd(_pool_gradient, setup_context=_pool_setup)
roi_pool_max_backward.register_autograd(_no_second_order)
