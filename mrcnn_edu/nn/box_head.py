"""Box head: what is in each proposal, and what is its exact box?

Features pooled from each RoI go in; K + 1 class logits (class 0 is background) and a box for each
of the K object classes come out. Two fully connected layers, as in Lin et al. (2017), §4.2. The
head is the module; sampling, losses and the selection of detections are functions beside it.
Chapter 08.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.matching import match, sample_balanced
from mrcnn_edu.nn.resnet import Norm, conv3x3


class RoISample(NamedTuple):
    """The RoIs of one image that enter the losses, positives first."""

    boxes: Tensor  # [R, 4]
    labels: Tensor  # [R], 0 for background
    matched: Tensor  # [P], the ground truth of each of the P positives
    num_positive: int  # P


class BoxHead(nn.Module):
    """Convolutions, fully connected layers, then class logits and class-specific box deltas.

    The paper's head has no convolutions and two fully connected layers. From scratch, a few
    normalised convolutions and one fully connected layer learn faster (Wu and He, 2018).

    Args:
        channels: C of the pooled features.
        pool: P of the pooled features.
        hidden: width of the fully connected layers.
        num_classes: K.
        convs: number of 3×3 convolutions.
        fcs: number of fully connected layers, at least 1.
        norm: makes a normalisation layer for each convolution; none by default.
    """

    def __init__(
        self,
        channels: int,
        pool: int,
        hidden: int,
        num_classes: int,
        convs: int = 0,
        fcs: int = 2,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv3x3(channels, channels, norm) for _ in range(convs))
        sizes = [channels * pool**2] + [hidden] * fcs
        self.fcs = nn.ModuleList(nn.Linear(sizes[i], sizes[i + 1]) for i in range(fcs))
        self.classes = nn.Linear(hidden, num_classes + 1)
        self.deltas = nn.Linear(hidden, 4 * num_classes)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Map pooled features [R, C, P, P] to logits [R, K+1] and deltas [R, K, 4]."""
        x = pooled
        for conv in self.convs:
            x = F.relu(conv(x), inplace=True)  # [R, C, P, P]
        x = x.flatten(1)  # [R, C · P · P]
        for fc in self.fcs:
            x = F.relu(fc(x), inplace=True)  # [R, hidden]
        return self.classes(x).float(), self.deltas(x).float().unflatten(1, (-1, 4))


@torch.no_grad()
def sample_rois(
    proposals: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    config: ModelConfig,
    generator: torch.Generator,
) -> RoISample:
    """Choose the RoIs of one image that enter the losses.

    The true boxes join the proposals, so that there are positives before the RPN has learnt
    anything. A RoI is positive from IoU ``box_fg_iou`` on; at most ``box_positive_fraction`` of the
    sample is positive (paper §3.1: 1:3). Chapter 08.

    Args:
        proposals: [R, 4].
        gt_boxes: [G, 4].
        gt_labels: [G], 1 to K.
        config: threshold and sample size.
        generator: the image's random generator.
    """
    boxes = torch.cat([proposals, gt_boxes])  # [R + G, 4]
    matches = match(gt_boxes, boxes, config.box_fg_iou, config.box_fg_iou, False)  # [R + G]
    positive, negative = sample_balanced(
        matches, config.box_samples, config.box_positive_fraction, generator
    )
    matched = matches[positive]
    labels = torch.cat([gt_labels[matched], gt_labels.new_zeros(len(negative))])
    return RoISample(boxes[torch.cat([positive, negative])], labels, matched, len(positive))


def box_losses(
    logits: Tensor,
    deltas: Tensor,
    samples: Sequence[RoISample],
    gt_boxes: Sequence[Tensor],
    config: ModelConfig,
) -> dict[str, Tensor]:
    """Softmax loss of the class and smooth-L1 loss of the true class's box.

    Both are divided by the number of sampled RoIs, background included (Girshick 2015, §2.3, and
    torchvision). A batch without positives gives a box loss of zero that still has a gradient.

    Args:
        logits: [R, K+1] for the RoIs of all images in order.
        deltas: [R, K, 4].
        samples: one sample for each image.
        gt_boxes: for each image [G, 4].
        config: box weights and β.

    Returns:
        ``box_class`` and ``box``, each a scalar.
    """
    labels = torch.cat([s.labels for s in samples])  # [R]
    targets = torch.cat(
        [
            box_ops.encode(gt[s.matched], s.boxes[: s.num_positive], config.box_weights)
            for s, gt in zip(samples, gt_boxes, strict=True)
        ]
    )  # [P, 4]
    positive = labels.nonzero().squeeze(1)  # [P]
    predicted = deltas[positive, labels[positive] - 1]  # [P, 4]
    box = F.smooth_l1_loss(predicted, targets, beta=config.box_smooth_l1_beta, reduction="sum")
    rois = max(1, len(labels))
    return {
        "box_class": F.cross_entropy(logits, labels, reduction="sum") / rois,
        "box": box / rois,
    }


class BoxDetections(NamedTuple):
    """The detections of one image before masks, best first."""

    boxes: Tensor  # [D, 4]
    labels: Tensor  # [D], 1 to K
    scores: Tensor  # [D]


@torch.no_grad()
def select_detections(
    logits: Tensor,
    deltas: Tensor,
    proposals: Tensor,
    image_size: tuple[int, int],
    config: ModelConfig,
) -> BoxDetections:
    """Decide what is in one image.

    Every proposal offers one box for each class. Those above ``score_threshold`` are thinned by
    non-maximum suppression within their class, and the best ``detections_per_image`` over all
    classes are kept (paper §3.1, "Inference"). Chapter 08.

    Args:
        logits: [R, K+1] of this image's proposals.
        deltas: [R, K, 4].
        proposals: [R, 4].
        image_size: (height, width) without padding.
        config: thresholds and counts.
    """
    scores = logits.softmax(dim=1)[:, 1:]  # [R, K]
    roi, label = (scores > config.score_threshold).nonzero(as_tuple=True)  # [candidates] each
    scores = scores[roi, label]
    boxes = box_ops.decode(deltas[roi, label], proposals[roi], config.box_weights)
    boxes = box_ops.clip(boxes, image_size)
    large = box_ops.keep_large(boxes, config.detection_min_size)
    boxes, scores, label = boxes[large], scores[large], label[large]
    kept = box_ops.batched_nms(
        boxes, scores, label, config.detection_nms_iou, max_keep=config.detections_per_image
    )
    return BoxDetections(boxes[kept], label[kept] + 1, scores[kept])
