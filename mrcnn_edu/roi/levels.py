"""Which level of a feature pyramid a box is pooled from (FPN paper, equation 1; Chapter 02)."""

from typing import Literal

import torch
from torch import Tensor

LevelRule = Literal["torchvision", "detectron2", "detectron"]


# What is added to the logarithm, and to its argument.
_OUTSIDE_AND_INSIDE = {
    "torchvision": (1e-6, 0.0),
    "detectron2": (0.0, 1e-8),
    "detectron": (0.0, 1e-6),
}


def assign_levels(
    boxes: Tensor,
    min_level: int = 2,
    max_level: int = 5,
    canonical_size: float = 224,
    canonical_level: int = 4,
    rule: LevelRule = "torchvision",
) -> Tensor:
    """Level of each box: `⌊k0 + log2(√area / canonical_size)⌋`, kept in min_level..max_level.

    A box of 224 × 224 pixels goes to level `canonical_level` (stride 2⁴ = 16), one of half the side
    to the level below. So that sides of exactly 112, 224, ... land on the level they should in
    float32, a little is added first. `rule` says where: "torchvision" 1e-6 to the logarithm,
    "detectron2" 1e-8 and "detectron" 1e-6 to its argument. (float32 drops 1e-8 beside 1: detectron2
    adds nothing but for a box without area.) A box without area goes to `min_level`. FPN paper,
    equation 1. Chapter 02.

    Args:
        boxes: [R, 4], xyxy in image coordinates.
        min_level, max_level: the finest and the coarsest level there is.
        canonical_size: side of a box of `canonical_level`, in pixels.
        canonical_level: k0.
        rule: whose rounding, "torchvision", "detectron2" or "detectron".

    Returns:
        int64 [R].

    Raises:
        ValueError: `min_level > max_level`, boxes are not [R, 4] or the rule is unknown.
    """
    if rule not in _OUTSIDE_AND_INSIDE:
        raise ValueError(f"rule is one of {', '.join(_OUTSIDE_AND_INSIDE)}, got {rule!r}")
    if min_level > max_level:
        raise ValueError(f"min_level {min_level} is above max_level {max_level}")
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must be [R, 4] xyxy, got shape {tuple(boxes.shape)}")
    boxes = boxes.float()
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    outside, inside = _OUTSIDE_AND_INSIDE[rule]
    relative = area.clamp(min=0).sqrt() / canonical_size  # [R]
    level = torch.floor(canonical_level + torch.log2(relative + inside) + outside)
    return level.clamp(min_level, max_level).to(torch.int64)
