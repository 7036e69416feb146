"""FCIS: class, box and mask of a RoI read off maps that were computed once for the image.

For each class and each of k × k cells of a RoI there are two maps: how much a pixel looks like the
*inside* of an object of that class, seen in that cell, and how much like the *outside*, a pixel of
its box but not of its mask. Assembled over a RoI they say everything at once. The larger of the two
at a pixel speaks for the class, whichever it is; which of the two is larger is the mask. No layer
with weights runs on a RoI. Fully Convolutional Instance-aware Semantic Segmentation (Li et al.
2017, arXiv:1611.07709); Chapter 18.

Here at teaching size: one map of the pyramid instead of a dilated res5, one box for all classes.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.masks import crop_to_boxes
from mrcnn_edu.nn.box_head import sample_rois
from mrcnn_edu.nn.detector import TwoStage
from mrcnn_edu.nn.layers import widen
from mrcnn_edu.nn.losses import Sum
from mrcnn_edu.presets import TINY_FPN
from mrcnn_edu.record import Record, RoISample
from mrcnn_edu.related.position_sensitive import ps_roi_pool
from mrcnn_edu.related.rois import all_rois, refine
from mrcnn_edu.related.voting import instances


@dataclass(frozen=True)
class FCISConfig(ModelConfig):
    """FCIS's own numbers; those of Mask R-CNN's RoI layer and heads are not read.

    `mask_threshold` also says from which share on a target's pixel counts as the object.
    """

    map_level: int = 3  # of the pyramid: stride 8
    position_channels: int = 64  # of the 1×1 convolution before the maps; the paper has 1024
    cells: int = 7  # k
    bins: int = 21  # of the inside and outside scores; the paper's 21
    mask_weight: float = 10.0  # of the mask loss, as in the released code; the paper says equal
    hard_rois: int = 0  # OHEM: the RoIs of largest loss that count; 0: a balanced random sample
    second_pass: bool = True  # at test, read every proposal again after its box was refined
    vote_iou: float = 0.5  # of mask voting; 0: none


def fcis_config(config: ModelConfig = TINY_FPN, **changes: object) -> FCISConfig:
    """The FCIS on the same backbone, neck and RPN as a Mask R-CNN.

    Args:
        config: of the Mask R-CNN.
        **changes: other fields.
    """
    own = {"detection_nms_iou": 0.3, "mask_threshold": 0.4, "box_weights": (5, 5, 2, 2)}
    return FCISConfig(**(dataclasses.asdict(config) | own | changes))


class RoIScores(NamedTuple):
    """What the maps say about each RoI."""

    inside: Tensor  # [R, K+1, P, P]
    outside: Tensor  # [R, K+1, P, P]
    deltas: Tensor  # [R, 1, 4]

    @property
    def class_logits(self) -> Tensor:
        """The mean over all pixels of the larger score: [R, K+1]."""
        return torch.maximum(self.inside, self.outside).mean(dim=(2, 3))

    def mask_logits(self, labels: Tensor) -> Tensor:
        """Softmax over (outside, inside) as the sigmoid of a difference: [R, P, P] of one class.

        Args:
            labels: [R], of each RoI.
        """
        rows = torch.arange(len(labels), device=labels.device)
        return self.inside[rows, labels] - self.outside[rows, labels]


class FCIS(TwoStage):
    """Backbone, neck, RPN, and two 1×1 convolutions.

    Args:
        config: every number of it.
    """

    config: FCISConfig

    def __init__(self, config: FCISConfig) -> None:
        super().__init__(config)
        k, classes = config.cells, config.num_classes + 1
        self.reduce = nn.Conv2d(self.neck.channels, config.position_channels, 1)
        self.scores = nn.Conv2d(config.position_channels, 2 * classes * k**2, 1)
        self.boxes = nn.Conv2d(config.position_channels, 4 * k**2, 1)
        for layer, std in ((self.scores, 0.01), (self.boxes, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        self.to(memory_format=torch.channels_last)

    def position_maps(self, record: Record) -> tuple[Tensor, Tensor]:
        """All maps of all images, before any RoI.

        Returns:
            scores [N, 2 · (K+1) · k², H, W], inside maps first, and boxes [N, 4 · k², H, W].
        """
        x = F.relu(self.reduce(record.pyramid[self.config.map_level - 2]))  # [N, C, H, W]
        return widen(self.scores(x)), widen(self.boxes(x))

    def read(self, maps: tuple[Tensor, Tensor], rois: Sequence[Tensor]) -> RoIScores:
        """Assemble the scores of every RoI from the maps: no weights, only means.

        Args:
            maps: of `position_maps`.
            rois: [R_i, 4] for each image.
        """
        c, scale = self.config, 1 / 2**self.config.map_level
        scores = ps_roi_pool(maps[0], rois, c.bins, c.cells, scale)  # [R, 2 · (K+1), P, P]
        inside, outside = scores.unflatten(1, (2, -1)).unbind(1)
        deltas = ps_roi_pool(maps[1], rois, c.cells, c.cells, scale).mean(dim=(2, 3))  # [R, 4]
        return RoIScores(inside, outside, deltas[:, None])

    def loss_sums(
        self,
        record: Record,
        targets: Sequence[dict[str, Tensor]],
        generators: Sequence[torch.Generator],
    ) -> dict[str, Sum]:
        """Return the five losses as sums and counts.

        Args:
            record, targets, generators: as in `losses`.

        Returns:
            (sum, count) of `rpn_objectness`, `rpn_box`, `box_class`, `box`, `mask`.
        """
        c = self.config
        gt_boxes = [t["boxes"] for t in targets]
        sums = self.rpn_sums(record, gt_boxes, generators)
        proposals = self.propose(record, training=True)
        samples = [
            all_rois(p.boxes, t, c)
            if c.hard_rois
            else sample_rois(p.boxes, t["boxes"], t["labels"], c, generator)
            for p, t, generator in zip(proposals, targets, generators, strict=True)
        ]
        scores = self.read(self.position_maps(record), [s.boxes for s in samples])
        losses = roi_losses(scores, samples, targets, c)  # [R, 3]
        if c.hard_rois:
            counts = [len(s.boxes) for s in samples]
            losses = torch.cat([hardest(one, c.hard_rois) for one in losses.split(counts)])
        parts = losses.sum(dim=0)
        names = ("box_class", "box", "mask")
        return sums | {n: (parts[i], len(losses)) for i, n in enumerate(names)}

    @torch.no_grad()
    def detect(self, record: Record) -> Record:
        """Return the record completed with proposals, class logits and detections.

        Each RoI has the mask of its best foreground class. In a second pass the proposals are read
        again with their boxes refined; both passes compete and vote.
        """
        c = self.config
        proposals = self.propose(record, training=False)
        maps, rois = self.position_maps(record), [p.boxes for p in proposals]
        first = self.read(maps, rois)
        passes = [(rois, *scores_and_masks(first))]
        if c.second_pass:
            rois = refine(rois, first.deltas[:, 0], record.image_sizes, c)
            passes.append((rois, *scores_and_masks(self.read(maps, rois))))
        counts = [len(p.boxes) for p in proposals]
        return dataclasses.replace(
            record,
            proposals=proposals,
            class_logits=list(first.class_logits.split(counts)),
            detections=instances(passes, record.image_sizes, c, c.vote_iou),
        )


def scores_and_masks(scores: RoIScores) -> tuple[Tensor, Tensor]:
    """Class probabilities [R, K+1], and the mask of each RoI's best foreground class [R, P, P]."""
    logits = scores.class_logits
    best = logits[:, 1:].argmax(dim=1) + 1  # [R]
    return logits.softmax(dim=1), scores.mask_logits(best).sigmoid()


def roi_losses(
    scores: RoIScores,
    samples: Sequence[RoISample],
    targets: Sequence[dict[str, Tensor]],
    config: FCISConfig,
) -> Tensor:
    """Each RoI's own losses: class, box, mask, weighted. [R, 3].

    All are to be divided by the number of RoIs, background included. A background RoI has a class
    loss only; the mask loss of the others is the mean over their pixels.

    Args:
        scores: of the RoIs of all images in order.
        samples: one for each image.
        targets: for each image `boxes` [G, 4] and `masks` [G, H, W].
        config: weights, thresholds, β.
    """
    labels = torch.cat([s.labels for s in samples])  # [R]
    positive = labels.nonzero().squeeze(1)  # [F]
    classes = F.cross_entropy(scores.class_logits, labels, reduction="none")  # [R]
    wanted, masks = [], []
    for s, t in zip(samples, targets, strict=True):
        rois = s.boxes[: s.num_positive]
        wanted.append(box_ops.encode(t["boxes"][s.matched], rois, config.box_weights))
        masks.append(crop_to_boxes(t["masks"], rois, s.matched, config.bins, aligned=True))
    box = F.smooth_l1_loss(
        scores.deltas[positive, 0],
        torch.cat(wanted),
        beta=config.box_smooth_l1_beta,
        reduction="none",
    ).sum(dim=1)  # [F]
    logits = scores.mask_logits(labels)[positive]  # [F, P, P]
    truth = (torch.cat(masks) >= config.mask_threshold).to(logits)
    mask = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(dim=(1, 2))
    of_positives = torch.stack([box, config.mask_weight * mask], dim=1)  # [F, 2]
    rest = classes.new_zeros(len(labels), 2).index_add(0, positive, of_positives)  # [R, 2]
    return torch.cat([classes[:, None], rest], dim=1)


def hardest(losses: Tensor, count: int) -> Tensor:
    """Online hard example mining: the rows of the largest sum. [R, 3] to [≤ count, 3]."""
    return losses[losses.detach().sum(dim=1).topk(min(count, len(losses))).indices]
