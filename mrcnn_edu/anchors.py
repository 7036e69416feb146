"""Anchors: the fixed boxes, at every place of a feature map, that the RPN starts from.

In: sizes in pixels, aspect ratios, feature map sizes and the size of the padded image.
Out: boxes [A, 4], xyxy float32 in pixels of that image; cells row by row, and within a cell
ratio by ratio. Anchors may cross the image border. Faster R-CNN, §3.1.1; one size per
pyramid level after FPN, §4.1. Chapter 03 builds and draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

Rounding = Literal["none", "round", "legacy"]

# Training pads images to many different sizes; each entry is a few megabytes at full size.
CACHED_GRIDS = 8


def cell_anchors(
    sizes: Sequence[float],
    ratios: Sequence[float],
    rounding: Rounding = "round",
    stride: int = 16,
) -> Tensor:
    """The anchors of one cell: [n, 4] with n = ratios × sizes, ratios varying slowest.

    Three conventions of `rounding`:

    - "none": the sizes and ratios exactly, centred on (0, 0), as in detectron2;
    - "round": the corners rounded to integers, as in torchvision;
    - "legacy": py-faster-rcnn's and Detectron's. The shapes of one cell of `stride` pixels are
      rounded to whole pixels and then enlarged, so a ratio is met only roughly (at stride 16, 0.5
      becomes 23 × 12), and they are centred on (stride / 2, stride / 2), the cell's middle.

    Chapter 03.

    Args:
        sizes: sides, in pixels, of squares of the anchors' areas.
        ratios: height over width.
        rounding: one of the three conventions.
        stride: pixels between cells; only "legacy" looks at it.

    Returns:
        [n, 4], xyxy float32 in pixels.

    Raises:
        ValueError: a size or ratio is not positive, there is none, or the rounding is unknown.
    """
    if not sizes or not ratios or min(sizes) <= 0 or min(ratios) <= 0:
        raise ValueError(
            f"Anchors need at least one positive size and ratio, got sizes {tuple(sizes)} and "
            f"ratios {tuple(ratios)}."
        )
    if rounding not in ("none", "round", "legacy"):
        raise ValueError(f"rounding is 'none', 'round' or 'legacy', got {rounding!r}.")
    side = torch.tensor(sizes, dtype=torch.float32)  # [sizes]
    ratio = torch.tensor(ratios, dtype=torch.float32)  # [ratios]
    if rounding == "legacy":
        cell_w = (stride / ratio.sqrt()).round()  # [ratios]
        cell_h = (cell_w * ratio).round()
        h = (cell_h[:, None] * side / stride).flatten()  # [n]
        w = (cell_w[:, None] * side / stride).flatten()  # [n]
        return torch.stack((stride - w, stride - h, stride + w, stride + h), dim=1) / 2  # [n, 4]
    stretch = ratio.sqrt()  # [ratios]
    h = (stretch[:, None] * side).flatten()  # [n]
    w = ((1 / stretch)[:, None] * side).flatten()  # [n]
    anchors = torch.stack((-w, -h, w, h), dim=1) / 2  # [n, 4]
    return anchors.round() if rounding == "round" else anchors


def grid_anchors(cell: Tensor, feature_size: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """The anchors of one feature map: [H · W · n, 4], in the order y, x, anchor.

    `cell` is repeated at (x · stride_x, y · stride_y) for each of the H × W cells. So anchors
    centred on (0, 0) come to lie on their cell's top left corner, half a stride from its middle, as
    in torchvision and detectron2. Chapter 03.

    Args:
        cell: [n, 4], the anchors of the cell at (0, 0).
        feature_size: (H, W) of the map.
        stride: (stride_y, stride_x), pixels from cell to cell.

    Returns:
        [H · W · n, 4], xyxy in pixels, on the device of `cell`.
    """
    height, width = feature_size
    stride_y, stride_x = stride
    y = torch.arange(height, device=cell.device) * stride_y  # [H]
    x = torch.arange(width, device=cell.device) * stride_x  # [W]
    y, x = torch.meshgrid(y, x, indexing="ij")  # [H, W]
    shift = torch.stack((x, y, x, y), dim=-1)  # [H, W, 4]
    return (shift[:, :, None, :] + cell).flatten(0, 2)  # [H · W · n, 4]


def pyramid_anchors(
    sizes_per_level: Sequence[Sequence[float]],
    ratios: Sequence[float],
    feature_sizes: Sequence[tuple[int, int]],
    image_size: tuple[int, int],
    rounding: Rounding = "round",
    device: torch.device | str = "cpu",
    strides: Sequence[int] | None = None,
) -> list[Tensor]:
    """The anchors of each pyramid level, finest level first.

    Results are cached, because training asks for the same sizes at every step: the tensors are
    shared, so do not write into them. Chapter 03.

    Args:
        sizes_per_level: for each level the sizes of its anchors, in pixels.
        ratios: height over width, the same at all levels.
        feature_sizes: (H, W) of each level's map.
        image_size: (H, W) of the padded batch.
        rounding: as in `cell_anchors`.
        device: where the anchors are made.
        strides: pixels from cell to cell, one for each level, as in detectron2. None: image size //
            feature size, for each axis, as in torchvision; they differ for P6 of an image of 800
            pixels, where 64 becomes 800 // 13 = 61, since its 12.5 cells are rounded up.

    Returns:
        one [A_l, 4] for each level, xyxy float32 in pixels.

    Raises:
        ValueError: the numbers of levels differ, or a feature map is larger than the image.
    """
    if len(sizes_per_level) != len(feature_sizes):
        raise ValueError(
            f"{len(sizes_per_level)} levels have anchor sizes but there are "
            f"{len(feature_sizes)} feature maps; give one tuple of sizes for each."
        )
    levels = []
    for i, (sizes, (height, width)) in enumerate(zip(sizes_per_level, feature_sizes, strict=True)):
        if not (0 < height <= image_size[0] and 0 < width <= image_size[1]):
            raise ValueError(
                f"A feature map of {height}×{width} does not fit an image of "
                f"{image_size[0]}×{image_size[1]}."
            )
        stride = (image_size[0] // height, image_size[1] // width)
        if strides is not None:
            stride = (strides[i], strides[i])
        key = (tuple(sizes), tuple(ratios), (int(height), int(width)), stride, rounding)
        levels.append(_cached_grid(*key, torch.device(device)))
    return levels


@lru_cache(maxsize=5 * CACHED_GRIDS)
def _cached_grid(
    sizes: tuple[float, ...],
    ratios: tuple[float, ...],
    feature_size: tuple[int, int],
    stride: tuple[int, int],
    rounding: Rounding,
    device: torch.device,
) -> Tensor:
    cell = cell_anchors(sizes, ratios, rounding, stride[0])
    return grid_anchors(cell.to(device), feature_size, stride)
