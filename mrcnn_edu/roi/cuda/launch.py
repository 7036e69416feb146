"""The RoI operators on CUDA tensors: launches the Numba kernels on torch's memory and stream.

The functions are those of `cpu`, argument for argument, and so are the results. Tensors are
handed over by address (`__cuda_array_interface__`), nothing is copied, and kernels run on
torch's current stream. float16 and bfloat16 features are read as they are and summed in float32;
results are then float32, for the caller to cast.

Nothing here waits for the GPU. Each level is one launch over all RoIs, whose threads leave at
once when the RoI belongs to another level. A wrong image index raises through torch's
asynchronous assertion. With `torch.use_deterministic_algorithms(True)` the backward is the one
that adds in a fixed order. Needs the `gpu` extra (numba-cuda). Chapter 07.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

try:
    from numba import cuda
except ImportError as error:
    raise ImportError("RoI operators on a GPU need numba-cuda: install mrcnn-edu[gpu]") from error

from mrcnn_edu.roi.cuda import max as cuda_max
from mrcnn_edu.roi.cuda import mean as cuda_mean

Shape = tuple[int, int, int, int]
THREADS = 256


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
    bf16 = features[0].dtype == torch.bfloat16
    kernel = cuda_mean.forward_bfloat16 if bf16 else cuda_mean.forward
    how = (aligned, rounded, sampling_ratio)
    out = _new_output(features[0], rois, size, rois.dtype, channels_last)
    _forward(kernel, features, rois, levels, size, scales, how, channels_last, [out])
    return out


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
    bf16 = features[0].dtype == torch.bfloat16
    kernel = cuda_max.forward_bfloat16 if bf16 else cuda_max.forward
    how = (aligned, rounded, sampling_ratio)
    out = _new_output(features[0], rois, size, rois.dtype, channels_last)
    argmax = _new_output(features[0], rois, size, torch.int32, channels_last)
    _forward(kernel, features, rois, levels, size, scales, how, channels_last, [out, argmax])
    return out, argmax


def pool_forward(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    size: tuple[int, int],
    scales: Sequence[float],
    channels_last: bool,
) -> tuple[Tensor, Tensor]:
    """RoIPool, and the pixel y · W + x each maximum was: int32."""
    bf16 = features[0].dtype == torch.bfloat16
    kernel = cuda_max.pool_forward_bfloat16 if bf16 else cuda_max.pool_forward
    out = _new_output(features[0], rois, size, rois.dtype, channels_last)
    argmax = _new_output(features[0], rois, size, torch.int32, channels_last)
    _forward(kernel, features, rois, levels, size, scales, (), channels_last, [out, argmax])
    return out, argmax


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
    kernels = (cuda_mean.backward, cuda_mean.backward_by_rows)
    how = (aligned, rounded, sampling_ratio, gradient.shape[3])
    return _sampled_backward(kernels, [gradient], rois, levels, shapes, scales, how, channels_last)


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
    kernels = (cuda_max.backward, cuda_max.backward_by_rows)
    how = (aligned, rounded, sampling_ratio, gradient.shape[3])
    return _sampled_backward(
        kernels, [gradient, argmax], rois, levels, shapes, scales, how, channels_last
    )


def pool_backward(
    gradient: Tensor,
    argmax: Tensor,
    rois: Tensor,
    levels: Tensor,
    shapes: Sequence[Shape],
    channels_last: bool,
) -> list[Tensor]:
    """Gradient of `pool_forward` for each level."""
    arrays = [_as_array(_laid_out(a, channels_last)) for a in (gradient, argmax)]
    boxes, level_of = _as_numba(rois), _as_numba(levels)
    result = [_zeros(shape, gradient, channels_last) for shape in shapes]
    for level, out in enumerate(result if rois.shape[0] else []):
        target = _as_array(out)
        if torch.are_deterministic_algorithms_enabled():
            kernel = cuda_max.pool_backward_by_rows[_row_grid(out)]
            kernel(*arrays, out.shape[3], boxes, level_of, level, target)
        else:
            kernel = cuda_max.pool_backward[_output_grid(gradient, channels_last)]
            kernel(*arrays, boxes, level_of, level, channels_last, target)
    return result


def _forward(
    kernel: Any,
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    size: tuple[int, int],
    scales: Sequence[float],
    how: tuple[Any, ...],
    channels_last: bool,
    outputs: Sequence[Tensor],
) -> None:
    """Launch a forward kernel once for each level."""
    if rois.shape[0] == 0:
        return
    index, images = rois[:, 0], features[0].shape[0]
    torch._assert_async(
        ((index >= 0) & (index < images)).all(),
        f"boxes: an image index (column 0) is not in 0..{images - 1}",
    )
    grid = _output_grid(outputs[0], channels_last)
    arrays = [_as_array(o) for o in outputs]
    boxes, level_of = _as_numba(rois), _as_numba(levels)
    for level, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        laid_out = _laid_out(feature, channels_last)
        if laid_out.dtype == torch.bfloat16:
            laid_out = laid_out.view(torch.uint16)
        kernel[grid](
            _as_array(laid_out), feature.shape[3], boxes, level_of, level, scale, *how,
            size[1], channels_last, *arrays,
        )  # fmt: skip


def _sampled_backward(
    kernels: tuple[Any, Any],
    inputs: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    shapes: Sequence[Shape],
    scales: Sequence[float],
    how: tuple[Any, ...],
    channels_last: bool,
) -> list[Tensor]:
    """Launch the atomic or the ordered kernel once for each level."""
    atomic, ordered = kernels
    arrays = [_as_array(_laid_out(a, channels_last)) for a in inputs]
    boxes, level_of = _as_numba(rois), _as_numba(levels)
    result = [_zeros(shape, inputs[0], channels_last) for shape in shapes]
    for level, out in enumerate(result if rois.shape[0] else []):
        if torch.are_deterministic_algorithms_enabled():
            kernel = ordered[_row_grid(out)]
        else:
            kernel = atomic[_output_grid(inputs[0], channels_last)]
        kernel(
            *arrays, out.shape[3], boxes, level_of, level, scales[level], *how,
            channels_last, _as_array(out),
        )  # fmt: skip
    return result


def _output_grid(out: Tensor, channels_last: bool) -> tuple[Any, ...]:
    """One thread for each value of [R, C, Ph, Pw]; see `cuda_axis.my_output`."""
    rois, channels, bins = out.shape[0], out.shape[1], out.shape[2] * out.shape[3]
    fast, slow = (channels, bins) if channels_last else (bins, channels)
    x = min(THREADS, 32 * -(-fast // 32))
    y = max(1, THREADS // x)
    return (rois, -(-slow // y), -(-fast // x)), (x, y), _stream(out)


def _row_grid(out: Tensor) -> tuple[Any, ...]:
    """One thread for each map row in each channel of [N, C, H, W]."""
    images, channels, height, _ = out.shape
    x = min(THREADS, 32 * -(-channels // 32))
    return (images * height, -(-channels // x)), (x, 1), _stream(out)


def _stream(tensor: Tensor) -> Any:
    return cuda.external_stream(torch.cuda.current_stream(tensor.device).cuda_stream)


def _new_output(
    like: Tensor, rois: Tensor, size: tuple[int, int], dtype: torch.dtype, channels_last: bool
) -> Tensor:
    """Uninitialised [R, C, Ph, Pw]: each row is written by the launch of its level."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    shape = (rois.shape[0], like.shape[1], *size)
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=layout)


def _zeros(shape: Shape, like: Tensor, channels_last: bool) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout).zero_()


def _laid_out(tensor: Tensor, channels_last: bool) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return tensor.detach().contiguous(memory_format=layout)


def _as_array(tensor: Tensor) -> Any:
    """[A, C, H, W] of either layout as a Numba array [A, H·W, C]; never a copy."""
    return _as_numba(tensor.flatten(2).transpose(1, 2))


def _as_numba(tensor: Tensor) -> Any:
    return cuda.as_cuda_array(tensor, sync=False)
