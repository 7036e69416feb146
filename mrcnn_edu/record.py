"""What a forward pass leaves behind: a record of every stage, for losses, pictures and widgets.

These are plain values. Heads, losses, pictures and widgets read them, and none of those needs the
model. Chapter 00 walks through a record, Chapter 10 through how one is made.
"""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mrcnn_edu.config import ModelConfig


class Proposals(NamedTuple):
    """The proposals of one image, best first."""

    boxes: Tensor  # [R, 4]
    scores: Tensor  # [R], objectness in 0..1
    levels: Tensor  # [R], index of the pyramid level each came from


class RoISample(NamedTuple):
    """The RoIs of one image that enter the losses, positives first."""

    boxes: Tensor  # [R, 4]
    labels: Tensor  # [R], 0 for background
    matched: Tensor  # [P], the ground truth of each of the P positives
    num_positive: int  # P


@dataclass(frozen=True)
class Detections:
    """What was found in one image, best first, in pixels of that image."""

    boxes: Tensor  # [D, 4]
    labels: Tensor  # [D], 1 to K
    scores: Tensor  # [D], 0..1
    masks: Tensor | None = None  # [D, M, M], probabilities inside each box; None: no mask head
    keypoints: Tensor | None = None  # [D, J, 3], (x, y, 1)
    keypoint_scores: Tensor | None = None  # [D, J], logits


@dataclass(frozen=True)
class Record:
    """Every stage of one forward pass, for losses, detections, pictures and widgets.

    The last three fields are empty until `detect` has filled them.
    """

    images: Tensor  # [N, 3, H, W], normalised and padded
    image_sizes: list[tuple[int, int]]  # (height, width) of each image without padding
    backbone_maps: list[Tensor]  # C2 … C5; C2 … C4 with neck c4
    pyramid: list[Tensor]  # P2 … P6, [N, C, H_l, W_l]; the one map C4 or C5 with another neck
    anchors: list[Tensor]  # one [A_l, 4] for each level
    objectness: Tensor  # [N, A] logits, A the sum of all A_l
    deltas: Tensor  # [N, A, 4]
    proposals: list[Proposals] = dataclasses.field(default_factory=list)
    class_logits: list[Tensor] = dataclasses.field(default_factory=list)  # [R, K+1] an image
    detections: list[Detections] = dataclasses.field(default_factory=list)


def input_image(record: Record, config: ModelConfig, index: int = 0) -> Tensor:
    """An image of a record as it was before normalising and padding: uint8 [3, H, W].

    Args:
        record: of a forward pass.
        config: of its model: mean and standard deviation of a pixel.
        index: which image of the batch.
    """
    height, width = record.image_sizes[index]
    mean, std = (torch.tensor(v)[:, None, None] for v in (config.pixel_mean, config.pixel_std))
    pixels = record.images[index, :, :height, :width].cpu() * std + mean  # [3, H, W]
    return (pixels * 255).round().clamp(0, 255).byte()
