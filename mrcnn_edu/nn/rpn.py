"""Region proposal network: which anchors hold an object, and where exactly is it?

Pyramid levels go in; every anchor gets one objectness logit and four deltas; the best boxes of each
image come out as proposals. Ren et al. (2015), §3.1; with a pyramid, Lin et al. (2017), §4.1: one
head shared by all levels. The head is the module; targets and losses are functions beside it.
Chapter 04.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.matching import match, sample_balanced
from mrcnn_edu.nn.layers import widen


class AnchorSample(NamedTuple):
    """The anchors of one image that enter the losses."""

    positive: Tensor  # [P], indices
    negative: Tensor  # [sampled − P], indices
    matched: Tensor  # [P], the ground truth of each positive


class RPNHead(nn.Module):
    """3×3 convolutions, then two 1×1: objectness and box deltas of every anchor.

    Faster R-CNN classifies anchors with a softmax over two outputs, later code with a sigmoid over
    one. The softmax of two logits is the sigmoid of their difference, so that difference is what
    this head returns, and everything behind it is the same.

    Args:
        channels: C of the pyramid levels.
        anchors_per_cell: a.
        convs: number of 3×3 convolutions.
        softmax: two outputs an anchor, background and object, instead of one.
    """

    def __init__(
        self, channels: int, anchors_per_cell: int, convs: int = 1, softmax: bool = False
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(convs)
        )
        self.objectness = nn.Conv2d(channels, anchors_per_cell * (2 if softmax else 1), 1)
        self.deltas = nn.Conv2d(channels, 4 * anchors_per_cell, 1)
        self.softmax = softmax
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
            `mrcnn_edu.anchors.pyramid_anchors`: level, row, column, shape. With several sizes
            a cell, the shapes go ratio by ratio, and size by size within.
        """
        logits, deltas = [], []
        for x in pyramid:
            n = len(x)
            for conv in self.convs:
                x = F.relu(conv(x), inplace=True)  # [N, C, H, W]
            score = self.objectness(x).permute(0, 2, 3, 1)  # [N, H, W, a] or [N, H, W, 2 a]
            if self.softmax:
                background, object_ = score.unflatten(3, (-1, 2)).unbind(4)  # [N, H, W, a]
                score = object_ - background
            logits.append(score.reshape(n, -1))  # [N, H·W·a]
            deltas.append(self.deltas(x).permute(0, 2, 3, 1).reshape(n, -1, 4))  # [N, H·W·a, 4]
        return widen(torch.cat(logits, dim=1)), widen(torch.cat(deltas, dim=1))


@torch.no_grad()
def sample_anchors(
    anchors: Tensor,
    gt_boxes: Tensor,
    config: ModelConfig,
    generator: torch.Generator,
    image_size: tuple[int, int] | None = None,
) -> AnchorSample:
    """Choose the anchors of one image that enter the losses.

    An anchor is positive if its IoU with some object is at least `rpn_fg_iou` (or it is that
    object's best), negative below `rpn_bg_iou`, and otherwise left out (Ren et al. 2015,
    §3.1.2). With `border_anchors="drop"` anchors that leave the image do not take part at all, so
    every object's best is one that lies inside. Chapter 04.

    Args:
        anchors: [A, 4].
        gt_boxes: [G, 4].
        config: thresholds and sample size.
        generator: the image's random generator.
        image_size: (height, width) without padding; needed to drop border anchors only.
    """
    if config.border_anchors == "keep":
        candidates = None
        matches = _match_anchors(gt_boxes, anchors, config)  # [A]
    else:
        if image_size is None:
            raise ValueError("Dropping border anchors needs the size of the image.")
        candidates = inside(anchors, image_size).nonzero().squeeze(1)  # [inside]
        matches = _match_anchors(gt_boxes, anchors[candidates], config)  # [inside]
    positive, negative = sample_balanced(
        matches, config.rpn_samples, config.rpn_positive_fraction, generator
    )
    matched = matches[positive]
    if candidates is not None:
        positive, negative = candidates[positive], candidates[negative]
    return AnchorSample(positive, negative, matched)


def rpn_losses(
    objectness: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    gt_boxes: Sequence[Tensor],
    config: ModelConfig,
    generators: Sequence[torch.Generator],
    image_sizes: Sequence[tuple[int, int]] | None = None,
) -> tuple[Tensor, Tensor, int]:
    """Objectness and box loss, summed over a sample of anchors of each image.

    Both are to be divided by the number of sampled anchors in the batch, as torchvision does
    (detectron2 divides by `rpn_samples` an image, which differs only where an image has fewer
    anchors). An image without objects contributes negatives only. Chapter 04.

    Args:
        objectness: logits [N, A].
        deltas: predicted deltas [N, A, 4].
        anchors: [A, 4], the same for all images of the batch.
        gt_boxes: for each image [G, 4].
        config: thresholds, sample size, box weights and β.
        generators: one random generator for each image.
        image_sizes: (height, width) of each image without its padding; needed to drop border
            anchors only.

    Returns:
        the sums of the objectness and of the box loss, both scalars, and the number of sampled
        anchors.
    """
    sizes = image_sizes if image_sizes is not None else [None] * len(gt_boxes)
    logits, truth, predicted, targets = [], [], [], []
    for i, (gt, generator, size) in enumerate(zip(gt_boxes, generators, sizes, strict=True)):
        positive, negative, matched = sample_anchors(anchors, gt, config, generator, size)
        logits += [objectness[i, positive], objectness[i, negative]]
        truth += [torch.ones_like(logits[-2]), torch.zeros_like(logits[-1])]
        predicted.append(deltas[i, positive])
        targets.append(box_ops.encode(gt[matched], anchors[positive], config.rpn_box_weights))
    all_logits = torch.cat(logits)  # [sampled]
    objectness_loss = F.binary_cross_entropy_with_logits(
        all_logits, torch.cat(truth), reduction="sum"
    )
    box_loss = F.smooth_l1_loss(
        torch.cat(predicted), torch.cat(targets), beta=config.rpn_smooth_l1_beta, reduction="sum"
    )
    return objectness_loss, box_loss, len(all_logits)


def inside(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Which boxes [A, 4] lie wholly in the image (height, width): [A], boolean."""
    height, width = image_size
    return (boxes[:, :2] >= 0).all(1) & (boxes[:, 2] <= width) & (boxes[:, 3] <= height)


def _match_anchors(gt_boxes: Tensor, anchors: Tensor, config: ModelConfig) -> Tensor:
    return match(
        gt_boxes, anchors, config.rpn_fg_iou, config.rpn_bg_iou, config.rpn_low_quality_matches
    )
