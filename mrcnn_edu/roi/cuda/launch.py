"""The RoI operators on CUDA tensors: launches the Numba kernels on torch's memory and stream.

The functions are those of `cpu.launch`, argument for argument, and so are the results. Tensors are
handed over by address (`__cuda_array_interface__`), nothing is copied, and kernels run on
torch's current stream. float16 and bfloat16 features are read as they are and summed in float32;
results are then float32, for the caller to cast.

Nothing here waits for the GPU. Each level is one launch over all RoIs, whose threads leave at
once when the RoI belongs to another level. A wrong image index raises through torch's
asynchronous assertion. With `torch.use_deterministic_algorithms(True)` the backward is the one
that adds in a fixed order. Needs the `gpu` extra (numba-cuda). Chapter 07b.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

try:
    from numba import cuda
except ImportError as error:
    raise ImportError("RoI operators on a GPU need numba-cuda: install mrcnn-edu[gpu]") from error

from mrcnn_edu.roi.cuda import mean, pool

Shape = tuple[int, int, int, int]
How = tuple[bool, bool, int]  # aligned, rounded, samples a bin side
THREADS = 256


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
    kernels, kinds = (mean.forward, mean.forward_bfloat16), [rois.dtype]
    return _forward(kernels, features, rois, levels, size, scales, how, kinds)[0]


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
    kernels, kinds = (pool.forward, pool.forward_bfloat16), [rois.dtype, torch.int32]
    out, argmax = _forward(kernels, features, rois, levels, size, scales, (), kinds)
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
    (array,) = _sources([gradient], channels_last)
    boxes, level_of = _as_numba(rois), _as_numba(levels)
    result = [_zeros(shape, gradient, channels_last) for shape in shapes]
    for level, out in enumerate(result if rois.shape[0] else []):
        if torch.are_deterministic_algorithms_enabled():
            kernel = mean.backward_by_rows[_row_grid(out)]
        else:
            kernel = mean.backward[_output_grid(gradient, channels_last)]
        kernel(
            array, out.shape[3], boxes, level_of, level, scales[level], *how, gradient.shape[3],
            channels_last, _as_array(out),
        )  # fmt: skip
    return result


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
    arrays = _sources([gradient, argmax], channels_last)
    boxes, level_of = _as_numba(rois), _as_numba(levels)
    result = [_zeros(shape, gradient, channels_last) for shape in shapes]
    for level, out in enumerate(result if rois.shape[0] else []):
        target = _as_array(out)
        if torch.are_deterministic_algorithms_enabled():
            kernel = pool.backward_by_rows[_row_grid(out)]
            kernel(*arrays, out.shape[3], boxes, level_of, level, target)
        else:
            kernel = pool.backward[_output_grid(gradient, channels_last)]
            kernel(*arrays, boxes, level_of, level, channels_last, target)
    return result


def _forward(
    kernels: tuple[Any, Any],
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    size: tuple[int, int],
    scales: Sequence[float],
    how: tuple[Any, ...],
    kinds: Sequence[torch.dtype],
) -> list[Tensor]:
    """Launch a forward kernel once for each level; one result of each of the `kinds`.

    The second kernel is the one for bfloat16, which it takes as 16 bits: Numba has no such type.
    """
    first = features[0]
    last = first.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    shape = (rois.shape[0], first.shape[1], *size)
    # Uninitialised: each row is written by the launch of its level.
    outputs = [
        torch.empty(shape, dtype=kind, device=first.device, memory_format=layout) for kind in kinds
    ]
    if rois.shape[0] == 0:
        return outputs
    index, images = rois[:, 0], first.shape[0]
    torch._assert_async(
        ((index >= 0) & (index < images)).all(),
        f"boxes: an image index (column 0) is not in 0..{images - 1}",
    )
    bfloat16 = first.dtype == torch.bfloat16
    kernel = kernels[bfloat16][_output_grid(outputs[0], last)]
    targets = [_as_array(out) for out in outputs]
    boxes, level_of = _as_numba(rois), _as_numba(levels)
    for level, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        source = _laid_out(feature, last)
        source = source.view(torch.uint16) if bfloat16 else source
        kernel(
            _as_array(source), feature.shape[3], boxes, level_of, level, scale, *how, size[1],
            last, *targets,
        )  # fmt: skip
    return outputs


def _sources(tensors: Sequence[Tensor], channels_last: bool) -> list[Any]:
    return [_as_array(_laid_out(tensor, channels_last)) for tensor in tensors]


def _output_grid(out: Tensor, channels_last: bool) -> tuple[Any, ...]:
    """One thread for each value of [R, C, Ph, Pw]; see `device.my_output`."""
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
