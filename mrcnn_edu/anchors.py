"""Anchors: the fixed boxes, at every place of a feature map, that the RPN starts from.

In: sizes in pixels, aspect ratios, feature map sizes and the size of the padded image.
Out: boxes [A, 4], xyxy float32 in pixels of that image; cells row by row, and within a cell
ratio by ratio. Anchors may cross the image border. Faster R-CNN, section 3.1.1; one size per
pyramid level after FPN, section 4.1. Chapter 03 builds and draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

# Training pads images to many different sizes; each entry is a few megabytes at full size.
CACHED_GRIDS = 8


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float], round: bool = True) -> Tensor:
    """The anchors of one cell, centred on (0, 0): [n, 4] with n = ratios × sizes.

    `sizes` are the sides, in pixels, of squares of the anchor's area; a ratio is height over
    width. Ratios vary slowest. With `round` the corners are rounded to integers, as in
    torchvision; detectron2 leaves them alone. Raises ValueError unless all are positive.
    See Chapter 03.
    """
    if not sizes or not ratios or min(sizes) <= 0 or min(ratios) <= 0:
        raise ValueError(
            f"Anchors need at least one positive size and ratio, got sizes {tuple(sizes)} and "
            f"ratios {tuple(ratios)}."
        )
    side = torch.tensor(sizes, dtype=torch.float32)  # [sizes]
    stretch = torch.tensor(ratios, dtype=torch.float32).sqrt()  # [ratios]
    h = (stretch[:, None] * side).flatten()  # [n]
    w = ((1 / stretch)[:, None] * side).flatten()  # [n]
    anchors = torch.stack((-w, -h, w, h), dim=1) / 2  # [n, 4]
    return anchors.round() if round else anchors


def grid_anchors(cell: Tensor, feature_size: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """The anchors of one feature map: [H · W · n, 4], in the order y, x, anchor.

    `cell` [n, 4] is repeated at (x · stride_x, y · stride_y) for each of the H × W cells,
    `stride` = (stride_y, stride_x) in pixels. So a cell's anchors are centred on its top left
    corner, half a stride from its middle, as in torchvision and detectron2. See Chapter 03.
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
    round: bool = True,
    device: torch.device | str = "cpu",
) -> list[Tensor]:
    """The anchors of each pyramid level: a list of [A_l, 4], finest level first.

    `sizes_per_level` and `feature_sizes` have one entry a level; `image_size` is the (H, W)
    of the padded batch. The stride of a level is image size // feature size, per axis.
    Results are cached, because training asks for the same sizes at every step: the tensors
    are shared, so do not write into them. Raises ValueError when the number of levels differs
    or a feature map is larger than the image. See Chapter 03.
    """
    if len(sizes_per_level) != len(feature_sizes):
        raise ValueError(
            f"{len(sizes_per_level)} levels have anchor sizes but there are "
            f"{len(feature_sizes)} feature maps; give one tuple of sizes for each."
        )
    levels = []
    for sizes, (height, width) in zip(sizes_per_level, feature_sizes, strict=True):
        if not (0 < height <= image_size[0] and 0 < width <= image_size[1]):
            raise ValueError(
                f"A feature map of {height}×{width} does not fit an image of "
                f"{image_size[0]}×{image_size[1]}."
            )
        stride = (image_size[0] // height, image_size[1] // width)
        key = (tuple(sizes), tuple(ratios), (int(height), int(width)), stride, round)
        levels.append(_cached_grid(*key, torch.device(device)))
    return levels


@lru_cache(maxsize=5 * CACHED_GRIDS)
def _cached_grid(
    sizes: tuple[float, ...],
    ratios: tuple[float, ...],
    feature_size: tuple[int, int],
    stride: tuple[int, int],
    round: bool,
    device: torch.device,
) -> Tensor:
    return grid_anchors(cell_anchors(sizes, ratios, round).to(device), feature_size, stride)
