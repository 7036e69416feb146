"""Which level of a feature pyramid a box is pooled from (FPN paper, equation 1; Chapter 02)."""

import torch
from torch import Tensor


def assign_levels(
    boxes: Tensor,
    min_level: int = 2,
    max_level: int = 5,
    canonical_size: float = 224,
    canonical_level: int = 4,
) -> Tensor:
    """Level of each box: `⌊k0 + log2(√area / canonical_size)⌋`, kept in min_level..max_level.

    `boxes` [R, 4] are xyxy in image coordinates. Returns int64 [R]: a box of 224 × 224 pixels
    goes to level `canonical_level` (stride 2⁴ = 16), one of half the side to the level below.
    As in torchvision a small 1e-6 is added before rounding down, so that sides of exactly 112,
    224, ... land on the level they should in float32. A box without area goes to `min_level`.
    Raises ValueError if `min_level > max_level` or boxes are not [R, 4]. Chapter 02.
    """
    if min_level > max_level:
        raise ValueError(f"min_level {min_level} is above max_level {max_level}")
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must be [R, 4] xyxy, got shape {tuple(boxes.shape)}")
    boxes = boxes.float()
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    level = torch.floor(
        canonical_level + torch.log2(area.clamp(min=0).sqrt() / canonical_size) + 1e-6
    )
    return level.clamp(min_level, max_level).to(torch.int64)
