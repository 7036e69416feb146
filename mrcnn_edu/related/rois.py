"""RoIs on their way through a cascade: taken as they are, or moved by predicted deltas.

MNC and FCIS look at a box, move it, and look again. Chapter 18.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.matching import match
from mrcnn_edu.nn.proposals import SMALLEST
from mrcnn_edu.record import RoISample


def refine(
    rois: Sequence[Tensor],
    deltas: Tensor,
    image_sizes: Sequence[tuple[int, int]],
    config: ModelConfig,
) -> list[Tensor]:
    """The RoIs moved by their deltas and clipped; one that loses its area stays where it was.

    Differentiable in both; a corner that was clipped has no gradient.

    Args:
        rois: [R_i, 4] for each image.
        deltas: [R, 4] of all.
        image_sizes: (height, width) of each.
        config: box weights.
    """
    moved = []
    for boxes, d, size in zip(rois, deltas.split([len(b) for b in rois]), image_sizes, strict=True):
        new = box_ops.clip(box_ops.decode(d, boxes, config.box_weights), size)
        large = box_ops.keep_large(new, SMALLEST)
        moved.append(torch.where(large[:, None], new, boxes))
    return moved


def label_all(boxes: Tensor, target: dict[str, Tensor], config: ModelConfig) -> Tensor:
    """Which true box each box matches, or a negative number: [R].

    Args:
        boxes: [R, 4].
        target: of the image.
        config: `box_fg_iou`.
    """
    return match(target["boxes"], boxes.detach(), config.box_fg_iou, config.box_fg_iou, False)


def as_sample(
    boxes: Tensor, target: dict[str, Tensor], matches: Tensor, positive: Tensor, negative: Tensor
) -> RoISample:
    """The chosen boxes with their labels, positives first, as losses take them.

    Args:
        boxes: [R, 4]; they keep their gradient.
        target: of the image.
        matches: [R], of `label_all`.
        positive, negative: indices of those chosen.
    """
    matched = matches[positive]
    labels = torch.cat([target["labels"][matched], matched.new_zeros(len(negative))])
    return RoISample(boxes[torch.cat([positive, negative])], labels, matched, len(positive))


def all_rois(boxes: Tensor, target: dict[str, Tensor], config: ModelConfig) -> RoISample:
    """Every box, and the true ones, as a sample without any choice.

    Args:
        boxes: [R, 4].
        target: of the image.
        config: `box_fg_iou`.
    """
    boxes = torch.cat([boxes, target["boxes"]])  # [R + G, 4]
    matches = label_all(boxes, target, config)
    positive, negative = (matches >= 0).nonzero()[:, 0], (matches < 0).nonzero()[:, 0]
    return as_sample(boxes, target, matches, positive, negative)
