"""RoIAlign, RoIWarp and RoIPool for torch: one call, any device, any layout, any levels.

In: feature maps [N, C, H, W], boxes in image coordinates (xyxy, continuous), as [R, 5] rows (image,
x1, y1, x2, y2) or as a list of one [Rᵢ, 4] for each image. Out: [R, C, Ph, Pw], rows in the order
of the boxes, in the layout and type of the features. Names and argument order are torchvision's.
Mask R-CNN, §3, "RoIAlign"; Chapter 05 (what), 06 (CPU), 07 (GPU).

- `roi_align`, `roi_warp`, `roi_pool` pool from one map.
- `multiscale_roi_align`, `..._warp`, `..._pool` pool each box from the level of a feature pyramid
  that fits its size (`levels.assign_levels`), all levels in one call.

Gradients reach the features, not the boxes, and once only: a second derivative raises
RuntimeError. Half-precision features are pooled in float32 and cast back, under autocast too.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mrcnn_edu.roi.levels import LevelRule, assign_levels
from mrcnn_edu.roi.torch_ops import roi_mean, roi_pool_max

Boxes = Tensor | Sequence[Tensor]
Size = int | tuple[int, int]


def roi_align(
    input: Tensor,
    boxes: Boxes,
    output_size: Size,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    *,
    reduce: str = "mean",
) -> Tensor:
    """RoIAlign: no coordinate is rounded. Chapter 05.

    Each box, times `spatial_scale`, is cut into Ph × Pw equal bins; each bin's value is the mean or
    maximum of bilinear samples at the middles of `sampling_ratio`² equal parts. A sample more than
    one pixel outside the map counts as 0. The maximum reads its samples as S · Ph × S · Pw bins of
    one sample, so its positions may differ from the mean's by a rounding.

    Args:
        input: feature map [N, C, H, W].
        boxes: [R, 5], (image, x1, y1, x2, y2), or one [R_i, 4] for each image.
        output_size: (Ph, Pw), or one number for both.
        spatial_scale: map pixels in an image pixel, 1 / stride.
        sampling_ratio: samples a bin side; 0 or less takes one a map pixel, ⌈bin size⌉, for the
            mean only.
        aligned: True subtracts half a pixel, since pixel j's centre is at j + ½; False is the
            operator as first published, half a pixel off, with boxes of at least one map pixel.
        reduce: "mean" or "max".

    Returns:
        [R, C, Ph, Pw].

    Raises:
        ValueError: wrong shapes, image index outside the batch, NaN in a box (on CPU), unknown
            `reduce`.
        TypeError: integer features.
    """
    return _sampled([input], boxes, None, output_size, [spatial_scale], sampling_ratio,
                    aligned, False, reduce)  # fmt: skip


def roi_warp(
    input: Tensor,
    boxes: Boxes,
    output_size: Size,
    spatial_scale: float,
    sampling_ratio: int,
    *,
    reduce: str = "mean",
) -> Tensor:
    """RoIWarp: the box is rounded to whole map pixels, its bins are not. Chapter 05.

    The four scaled corners are rounded, halves away from zero; the rest is `roi_align` with
    `aligned=False`. It stands for the operator of MNC (Mask R-CNN, table 2c) and keeps its
    quantisation of the box. MNC's own layer differs in two things: it takes width = end − start
    without a minimum, and one bilinear sample, at the corner of each bin rather than inside.

    Args:
        input, boxes, output_size, spatial_scale, sampling_ratio, reduce: as in `roi_align`.

    Returns:
        [R, C, Ph, Pw].

    Raises:
        ValueError, TypeError: as `roi_align`.
    """
    return _sampled([input], boxes, None, output_size, [spatial_scale], sampling_ratio,
                    False, True, reduce)  # fmt: skip


def roi_pool(input: Tensor, boxes: Boxes, output_size: Size, spatial_scale: float) -> Tensor:
    """RoIPool (Fast R-CNN, §2.1): box and bins rounded, the largest pixel of each bin.

    The scaled corners are rounded, halves away from zero, and the last pixel belongs to the box:
    here, as in the reference, width = x2 − x1 + 1. Bin p covers pixels ⌊p · size⌋ to ⌈(p + 1) ·
    size⌉ − 1, so neighbours can overlap by a pixel. An empty bin is 0. Chapter 05.

    Args:
        input, boxes, output_size, spatial_scale: as in `roi_align`.

    Returns:
        [R, C, Ph, Pw].

    Raises:
        ValueError, TypeError: as `roi_align`.
    """
    return _pooled([input], boxes, None, output_size, [spatial_scale])


def multiscale_roi_align(
    features: Sequence[Tensor],
    boxes: Boxes,
    output_size: Size,
    spatial_scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
    *,
    reduce: str = "mean",
    min_level: int = 2,
    canonical_size: float = 224,
    canonical_level: int = 4,
    level_rule: LevelRule = "torchvision",
) -> Tensor:
    """`roi_align` of each box on the pyramid level that fits its size.

    Boxes go to levels by `assign_levels` (FPN paper, equation 1). Nothing is copied between levels.
    Chapters 02 and 05.

    Args:
        features: maps [N, C, H_l, W_l], the first of level `min_level`.
        boxes, output_size, sampling_ratio, aligned, reduce: as in `roi_align`.
        spatial_scales: 1 / stride of each map.
        min_level, canonical_size, canonical_level: as in `assign_levels`.
        level_rule: its `rule`.

    Returns:
        [R, C, Ph, Pw], rows in the order of the boxes.

    Raises:
        ValueError, TypeError: as `roi_align`.
    """
    rule = (min_level, canonical_size, canonical_level, level_rule)
    return _sampled(features, boxes, rule, output_size, spatial_scales, sampling_ratio,
                    aligned, False, reduce)  # fmt: skip


def multiscale_roi_warp(
    features: Sequence[Tensor],
    boxes: Boxes,
    output_size: Size,
    spatial_scales: Sequence[float],
    sampling_ratio: int,
    *,
    reduce: str = "mean",
    min_level: int = 2,
    canonical_size: float = 224,
    canonical_level: int = 4,
    level_rule: LevelRule = "torchvision",
) -> Tensor:
    """`roi_warp` of each box on the pyramid level that fits its size.

    Args:
        features, spatial_scales: as in `multiscale_roi_align`.
        boxes, output_size, sampling_ratio, reduce: as in `roi_warp`.
        min_level, canonical_size, canonical_level, level_rule: as in `multiscale_roi_align`.

    Returns:
        [R, C, Ph, Pw], rows in the order of the boxes.
    """
    rule = (min_level, canonical_size, canonical_level, level_rule)
    return _sampled(features, boxes, rule, output_size, spatial_scales, sampling_ratio,
                    False, True, reduce)  # fmt: skip


def multiscale_roi_pool(
    features: Sequence[Tensor],
    boxes: Boxes,
    output_size: Size,
    spatial_scales: Sequence[float],
    *,
    min_level: int = 2,
    canonical_size: float = 224,
    canonical_level: int = 4,
    level_rule: LevelRule = "torchvision",
) -> Tensor:
    """`roi_pool` of each box on the pyramid level that fits its size.

    Args:
        features, spatial_scales: as in `multiscale_roi_align`.
        boxes, output_size: as in `roi_pool`.
        min_level, canonical_size, canonical_level, level_rule: as in `multiscale_roi_align`.

    Returns:
        [R, C, Ph, Pw], rows in the order of the boxes.
    """
    rule = (min_level, canonical_size, canonical_level, level_rule)
    return _pooled(features, boxes, rule, output_size, spatial_scales)


Rule = tuple[int, float, int, LevelRule] | None


def _sampled(
    features: Sequence[Tensor],
    boxes: Boxes,
    rule: Rule,
    output_size: Size,
    scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
    rounded: bool,
    reduce: str,
) -> Tensor:
    """RoIAlign and RoIWarp, once the arguments are in one form."""
    if reduce not in ("mean", "max"):
        raise ValueError(f'reduce must be "mean" or "max", got {reduce!r}')
    if reduce == "max" and sampling_ratio < 1:
        raise ValueError(
            f'reduce="max" needs a sampling_ratio of 1 or more, got {sampling_ratio}: the largest '
            "of a number of samples that differs from box to box is not implemented"
        )
    maps, rois, levels, size = _prepare(features, boxes, rule, output_size, scales)
    how = (aligned, rounded)
    if reduce == "mean":
        out = roi_mean(maps, rois, levels, size, list(scales), sampling_ratio, *how)
    else:  # each sample is the one sample of a bin S times as small
        small = [side * sampling_ratio for side in size]
        samples = roi_mean(maps, rois, levels, small, list(scales), 1, *how)  # [R, C, Ph·S, Pw·S]
        out = F.max_pool2d(samples, sampling_ratio)  # [R, C, Ph, Pw]
    return out.to(features[0].dtype)


def _pooled(
    features: Sequence[Tensor], boxes: Boxes, rule: Rule, output_size: Size, scales: Sequence[float]
) -> Tensor:
    """RoIPool, once the arguments are in one form."""
    maps, rois, levels, size = _prepare(features, boxes, rule, output_size, scales)
    out, _ = roi_pool_max(maps, rois, levels, size, list(scales))
    return out.to(features[0].dtype)


def _prepare(
    features: Sequence[Tensor], boxes: Boxes, rule: Rule, output_size: Size, scales: Sequence[float]
) -> tuple[list[Tensor], Tensor, Tensor, list[int]]:
    """Check the arguments; return (maps, RoIs [R, 5], level of each, [Ph, Pw])."""
    _check_features(features, scales)
    first = features[0]
    size = [output_size, output_size] if isinstance(output_size, int) else list(output_size)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"output_size must be a positive int or (height, width), got {size}")

    # Half precision is widened here, in view of autograd and autocast; GPU kernels widen inside.
    half = first.dtype in (torch.float16, torch.bfloat16)
    wide = torch.float32 if half else first.dtype
    maps = [f.to(wide) if half and not f.is_cuda else f for f in features]
    rois = _as_rois(boxes, first, wide)
    if rule is None:
        levels = torch.zeros(rois.shape[0], dtype=torch.int64, device=rois.device)
    else:
        low, high = rule[0], rule[0] + len(features) - 1
        levels = assign_levels(rois[:, 1:], low, high, *rule[1:]) - low
    return maps, rois, levels, size


def _check_features(features: Sequence[Tensor], scales: Sequence[float]) -> None:
    """Raise ValueError or TypeError unless the maps fit each other and their scales."""
    if len(features) == 0 or len(features) != len(scales):
        raise ValueError(f"{len(features)} feature maps with {len(scales)} spatial scales")
    first = features[0]
    for f, scale in zip(features, scales, strict=True):
        if f.dim() != 4:
            raise ValueError(f"features must be [N, C, H, W], got shape {tuple(f.shape)}")
        if f.shape[:2] != first.shape[:2] or f.dtype != first.dtype or f.device != first.device:
            raise ValueError(
                "levels must agree in images, channels, dtype and device: got "
                f"{tuple(first.shape)} {first.dtype} and {tuple(f.shape)} {f.dtype}"
            )
        if scale <= 0:
            raise ValueError(f"spatial_scale is 1 / stride and positive, got {scale}")
    if not first.is_floating_point():
        raise TypeError(f"features must be floating point, got {first.dtype}; use .float()")
    if min(min(f.shape[1:]) for f in features) < 1:
        raise ValueError("features must have at least one channel, row and column")


def _as_rois(boxes: Boxes, like: Tensor, dtype: torch.dtype) -> Tensor:
    """Either form of boxes as [R, 5] = (image, x1, y1, x2, y2)."""
    if isinstance(boxes, Tensor):
        if boxes.dim() != 2 or boxes.shape[1] != 5:
            raise ValueError(
                "boxes as a tensor must be [R, 5] = (image, x1, y1, x2, y2), got shape "
                f"{tuple(boxes.shape)}; for [R, 4] boxes pass a list with one tensor an image"
            )
        if boxes.device != like.device:
            raise ValueError(f"boxes are on {boxes.device}, features on {like.device}")
        return boxes.detach().to(dtype).contiguous()
    if len(boxes) != like.shape[0]:
        raise ValueError(f"boxes: a list of {len(boxes)} for a batch of {like.shape[0]} images")
    parts = []
    for n, b in enumerate(boxes):
        if b.dim() != 2 or b.shape[1] != 4:
            raise ValueError(f"boxes[{n}] must be [R, 4] xyxy, got shape {tuple(b.shape)}")
        if b.device != like.device:
            raise ValueError(f"boxes[{n}] are on {b.device}, features on {like.device}")
        b = b.detach().to(dtype)
        parts.append(torch.cat([b.new_full((b.shape[0], 1), n), b], dim=1))  # [Rᵢ, 5]
    return torch.cat(parts) if parts else like.new_zeros((0, 5), dtype=dtype)
