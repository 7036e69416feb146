"""Region proposal network: which anchors hold an object, and where exactly is it?

Pyramid levels go in; every anchor gets one objectness logit and four deltas; the best boxes of each
image come out as proposals. Ren et al. (2015), §3.1; with a pyramid, Lin et al. (2017), §4.1: one
head shared by all levels. The head is the module; targets, losses and selection are functions
beside it, and all selection is strictly per image. Chapter 04.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.matching import match, sample_balanced


class Proposals(NamedTuple):
    """The proposals of one image, best first."""

    boxes: Tensor  # [R, 4]
    scores: Tensor  # [R], objectness in 0..1
    levels: Tensor  # [R], index of the pyramid level each came from


class RPNHead(nn.Module):
    """A 3×3 convolution, then two 1×1: objectness and box deltas of every anchor.

    Args:
        channels: C of the pyramid levels.
        anchors_per_cell: a.
    """

    def __init__(self, channels: int, anchors_per_cell: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness = nn.Conv2d(channels, anchors_per_cell, 1)
        self.deltas = nn.Conv2d(channels, 4 * anchors_per_cell, 1)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=0.01)

    def forward(self, pyramid: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Score all anchors of all levels.

        Args:
            pyramid: levels [N, C, H_l, W_l].

        Returns:
            objectness logits [N, A] and deltas [N, A, 4], in the order of
            :func:`mrcnn_edu.anchors.pyramid_anchors`: level, row, column, shape.
        """
        logits, deltas = [], []
        for level in pyramid:
            n, _, h, w = level.shape
            x = F.relu(self.conv(level), inplace=True)
            logits.append(self.objectness(x).permute(0, 2, 3, 1).reshape(n, -1))  # [N, H·W·a]
            d = self.deltas(x).reshape(n, -1, 4, h, w)  # [N, a, 4, H, W]
            deltas.append(d.permute(0, 3, 4, 1, 2).reshape(n, -1, 4))  # [N, H·W·a, 4]
        return torch.cat(logits, dim=1).float(), torch.cat(deltas, dim=1).float()


def rpn_losses(
    objectness: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    gt_boxes: Sequence[Tensor],
    config: ModelConfig,
    generators: Sequence[torch.Generator],
) -> dict[str, Tensor]:
    """Objectness and box loss over a sample of anchors of each image.

    An anchor is positive if its IoU with some object is at least ``rpn_fg_iou`` (or it is that
    object's best), negative below ``rpn_bg_iou``, and otherwise left out (Ren et al. 2015,
    §3.1.2). Both losses are divided by the number of sampled anchors in the batch, as torchvision
    does. An image without objects contributes negatives only. Chapter 04.

    Args:
        objectness: logits [N, A].
        deltas: predicted deltas [N, A, 4].
        anchors: [A, 4], the same for all images of the batch.
        gt_boxes: for each image [G, 4].
        config: thresholds, sample size, box weights and β.
        generators: one random generator for each image.

    Returns:
        ``rpn_objectness`` and ``rpn_box``, each a scalar.
    """
    logits, truth, errors = [], [], []
    for i, (gt, generator) in enumerate(zip(gt_boxes, generators, strict=True)):
        matches = match(
            gt, anchors, config.rpn_fg_iou, config.rpn_bg_iou, config.rpn_low_quality_matches
        )  # [A]
        positive, negative = sample_balanced(
            matches, config.rpn_samples, config.rpn_positive_fraction, generator
        )
        logits += [objectness[i, positive], objectness[i, negative]]
        truth += [torch.ones_like(logits[-2]), torch.zeros_like(logits[-1])]
        target = box_ops.encode(gt[matches[positive]], anchors[positive], config.rpn_box_weights)
        errors.append(
            F.smooth_l1_loss(
                deltas[i, positive], target, beta=config.rpn_smooth_l1_beta, reduction="sum"
            )
        )
    all_logits = torch.cat(logits)  # [sampled]
    sampled = max(1, len(all_logits))
    objectness_loss = F.binary_cross_entropy_with_logits(
        all_logits, torch.cat(truth), reduction="sum"
    )
    return {
        "rpn_objectness": objectness_loss / sampled,
        "rpn_box": torch.stack(errors).sum() / sampled,
    }


@torch.no_grad()
def propose(
    objectness: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    level_sizes: Sequence[int],
    image_sizes: Sequence[tuple[int, int]],
    config: ModelConfig,
    training: bool,
) -> list[Proposals]:
    """Turn the head's output into the best boxes of each image.

    Of each level the highest logits are kept, decoded, clipped to the image and thinned by
    non-maximum suppression within the level; then the best of all levels are kept. Detectron took
    that last step over the whole batch, so a result depended on the other images in it; here every
    step sees one image only. No gradient flows into proposals. Chapter 04.

    Args:
        objectness: logits [N, A].
        deltas: [N, A, 4].
        anchors: [A, 4].
        level_sizes: anchors in each level; they add up to A.
        image_sizes: (height, width) of each image without its padding.
        config: counts, NMS threshold and smallest size.
        training: take the training counts instead of the test counts.

    Returns:
        one :class:`Proposals` for each image.
    """
    before = config.rpn_top_before_nms[0 if training else 1]
    after = config.rpn_top_after_nms[0 if training else 1]
    picked, levels, start = [], [], 0
    for level, size in enumerate(level_sizes):
        count = min(before, size)
        top = objectness[:, start : start + size].topk(count, dim=1).indices  # [N, count]
        picked.append(top + start)
        levels.append(torch.full((count,), level, device=objectness.device))
        start += size
    level_of = torch.cat(levels)  # [candidates]
    proposals = []
    for i, index in enumerate(torch.cat(picked, dim=1)):  # [candidates]
        boxes = box_ops.decode(deltas[i, index], anchors[index], config.rpn_box_weights)
        boxes = box_ops.clip(boxes, image_sizes[i])
        scores = objectness[i, index].sigmoid()
        large = box_ops.keep_large(boxes, config.rpn_min_size)
        boxes, scores, origin = boxes[large], scores[large], level_of[large]
        kept = box_ops.batched_nms(boxes, scores, origin, config.rpn_nms_iou, max_keep=after)
        proposals.append(Proposals(boxes[kept], scores[kept], origin[kept]))
    return proposals
