"""MNC: three tasks in a row, each fed by the one before, and the last two done twice.

Stage 1 proposes boxes. Stage 2 crops a box and draws one mask in it, for whatever object is there.
Stage 3 looks at the crop twice, as it is and with everything outside the mask blanked, and says
which class it is and how the box should move. Stages 4 and 5 are 2 and 3 again, the same weights on
the moved boxes. All of it is one network: what stage 3 gets wrong reaches, through the crop, the
coordinates of stage 1's box. Instance-aware Semantic Segmentation via Multi-task Network Cascades
(Dai et al. 2016, arXiv:1512.04412); Chapter 18.

Here at teaching size: one map of the pyramid instead of VGG's conv5_3, and smaller layers.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.masks import crop_to_boxes
from mrcnn_edu.matching import sample_balanced
from mrcnn_edu.nn.box_head import BoxPredictor, box_losses, of_class
from mrcnn_edu.nn.detector import TwoStage
from mrcnn_edu.nn.layers import widen
from mrcnn_edu.nn.losses import Sum
from mrcnn_edu.nn.proposals import propose_with_anchors
from mrcnn_edu.presets import TINY_FPN
from mrcnn_edu.record import Record, RoISample
from mrcnn_edu.related.roi_warp import warp_rois
from mrcnn_edu.related.rois import all_rois, as_sample, label_all, refine
from mrcnn_edu.related.voting import instances

# The released code keeps a gradient into a box's coordinates below this, element by element.
BOX_GRADIENT_LIMIT = 1 / 512


@dataclass(frozen=True)
class MNCConfig(ModelConfig):
    """MNC's own numbers; those of Mask R-CNN's RoI layer and heads are not read.

    `mask_threshold` also says from which share on a target's pixel counts as the object.
    """

    map_level: int = 3  # of the pyramid: stride 8
    stages: Literal[3, 5] = 5
    warp: int = 14  # side of RoIWarp, then max-pooled to half; the paper 28
    mask_side: int = 21  # M
    mask_layer: int = 64  # fully connected, before the mask; the paper 256
    path_layer: int = 128  # both fully connected layers of each path; the paper 4096
    mask_path: bool = True  # stage 3 also sees the features inside the mask alone
    box_gradient: bool = True  # what is read in a box moves the box
    mask_weight: float = 2.0  # as in the released code; the paper says equal
    instance_mask_iou: float = 0.5  # a mask worse than this makes its instance background
    vote_iou: float = 0.5  # of mask voting; 0: none


def mnc_config(config: ModelConfig = TINY_FPN, **changes: object) -> MNCConfig:
    """The MNC on the same backbone, neck and RPN as a Mask R-CNN.

    Without the gradient into boxes: at this size, trained by a recipe of Adam's kind, it moves the
    RPN's boxes away from the objects (`results/related/mnc_box_gradient_seed0.json`).

    Args:
        config: of the Mask R-CNN.
        **changes: other fields.
    """
    own = {"detection_nms_iou": 0.3, "mask_threshold": 0.4, "box_gradient": False}
    return MNCConfig(**(dataclasses.asdict(config) | own | changes))


class Instances(NamedTuple):
    """What stages 2 and 3 say about each RoI."""

    masks: Tensor  # [R, M, M], logits, whatever the class
    class_logits: Tensor  # [R, K+1], of the instance: class and mask together
    box_logits: Tensor  # [R, K+1], of the box; they help training, and nothing else reads them
    deltas: Tensor  # [R, K, 4]


class MNC(TwoStage):
    """Backbone, neck and RPN, then mask and instance layers that are used twice.

    Args:
        config: every number of it.
    """

    config: MNCConfig

    def __init__(self, config: MNCConfig) -> None:
        super().__init__(config)
        c = config
        read = self.neck.channels * (c.warp // 2) ** 2
        self.mask_layer = nn.Linear(read, c.mask_layer)
        self.mask = nn.Linear(c.mask_layer, c.mask_side**2)
        paths = ["box", "mask"] if c.mask_path else ["box"]
        self.paths = nn.ModuleDict({name: _path(read, c.path_layer) for name in paths})
        self.instance = BoxPredictor(c.path_layer * len(paths), c.num_classes)
        self.box_classes = nn.Linear(c.path_layer * len(paths), c.num_classes + 1)
        self.to(memory_format=torch.channels_last)

    def crop(self, record: Record, rois: Sequence[Tensor]) -> Tensor:
        """RoIWarp, then max-pooling: [R, C, P, P] of RoIs that may have a gradient.

        Args:
            record: of a forward pass.
            rois: [R_i, 4] for each image.
        """
        c = self.config
        if not c.box_gradient:
            rois = [b.detach() for b in rois]
        features = record.pyramid[c.map_level - 2]
        return F.max_pool2d(warp_rois(features, rois, c.warp, 1 / 2**c.map_level), 2)

    def draw_masks(self, cropped: Tensor) -> Tensor:
        """Stage 2: [R, C, P, P] to mask logits [R, M, M]."""
        x = F.relu(self.mask_layer(cropped.flatten(1)))  # [R, hidden]
        side = self.config.mask_side
        return widen(self.mask(x)).unflatten(1, (side, side))

    def judge(self, cropped: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Stage 3: class of the instance, class of the box, deltas.

        Args:
            cropped: [R, C, P, P].
            masks: [R, M, M] probabilities; shrunk to P × P and multiplied with the features.
        """
        seen = [self.paths["box"](cropped)]  # [R, hidden]
        if self.config.mask_path:
            small = F.interpolate(
                masks[:, None], size=cropped.shape[-2:], mode="bilinear", antialias=True
            )  # [R, 1, P, P]
            seen.append(self.paths["mask"](cropped * small))
        x = torch.cat(seen, dim=1)
        class_logits, deltas = self.instance(x)
        return class_logits, widen(self.box_classes(x)), deltas

    def read(self, record: Record, rois: Sequence[Tensor]) -> Instances:
        """Stages 2 and 3, or 4 and 5, on RoIs [R_i, 4] of each image."""
        cropped = self.crop(record, rois)
        masks = self.draw_masks(cropped)
        return Instances(masks, *self.judge(cropped, masks.sigmoid()))

    def propose_with_gradient(self, record: Record, training: bool) -> list[Tensor]:
        """Stage 1: boxes [R_i, 4] through which a gradient reaches the RPN's deltas.

        Which boxes survive is a choice and has no gradient; where a survivor lies has one, but for
        corners that were clipped.
        """
        anchors = torch.cat(record.anchors)
        found = propose_with_anchors(
            record.objectness,
            record.deltas,
            anchors,
            [len(a) for a in record.anchors],
            record.image_sizes,
            self.config,
            training,
        )
        boxes = []
        for i, (_, index) in enumerate(found):
            decoded = box_ops.decode(
                record.deltas[i, index], anchors[index], self.config.rpn_box_weights
            )
            boxes.append(box_ops.clip(decoded, record.image_sizes[i]))
        return boxes

    def loss_sums(
        self,
        record: Record,
        targets: Sequence[dict[str, Tensor]],
        generators: Sequence[torch.Generator],
    ) -> dict[str, Sum]:
        """Return the losses of all stages as sums and counts.

        Args:
            record, targets, generators: as in `losses`.

        Returns:
            (sum, count) of `rpn_objectness`, `rpn_box`, `mask`, `mask_class`, `box_class`, `box`,
            and with five stages of the last four again, with `_again` behind the name.
        """
        c = self.config
        gt_boxes = [t["boxes"] for t in targets]
        sums = self.rpn_sums(record, gt_boxes, generators)
        samples = [
            choose_rois(boxes, t, c, generator)
            for boxes, t, generator in zip(
                self.propose_with_gradient(record, training=True), targets, generators, strict=True
            )
        ]
        losses, moved = self.pass_losses(record, samples, targets)
        sums |= losses
        if c.stages == 5:
            again = [all_rois(b, t, c) for b, t in zip(moved, targets, strict=True)]
            losses, _ = self.pass_losses(record, again, targets)
            sums |= {f"{name}_again": value for name, value in losses.items()}
        return sums

    def pass_losses(
        self, record: Record, samples: Sequence[RoISample], targets: Sequence[dict[str, Tensor]]
    ) -> tuple[dict[str, Sum], list[Tensor]]:
        """The losses of one pass of mask and instance stages, and the boxes moved by it.

        Args:
            record: of the images.
            samples: RoIs with their labels; the boxes may have a gradient.
            targets: of each image.
        """
        c = self.config
        rois = [_limit_gradient(s.boxes) for s in samples]
        fixed = [s._replace(boxes=s.boxes.detach()) for s in samples]
        cropped = self.crop(record, rois)
        mask_logits = self.draw_masks(cropped)  # [R, M, M]
        labels = torch.cat([s.labels for s in samples])  # [R]
        positive = labels.nonzero().squeeze(1)  # [F]
        truth = mask_targets(fixed, targets, c).to(mask_logits)  # [F, M, M]
        mask = F.binary_cross_entropy_with_logits(mask_logits[positive], truth, reduction="sum")

        probabilities = mask_logits.sigmoid()
        good = good_masks(probabilities.detach(), truth, positive, c)  # [R]
        # The masked path teaches the mask only where the mask is near the object.
        heeded = torch.where(good[:, None, None], probabilities, probabilities.detach())
        class_logits, box_logits, deltas = self.judge(cropped, heeded)
        gt_boxes = [t["boxes"] for t in targets]
        classes, box, count = box_losses(box_logits, deltas, fixed, gt_boxes, c)
        of_instances = torch.where(good, labels, 0)  # [R]
        instance = F.cross_entropy(class_logits, of_instances, reduction="sum")
        sums: dict[str, Sum] = {
            "mask": (c.mask_weight * mask, truth.numel()),
            "mask_class": (instance, count),
            "box_class": (classes, count),
            "box": (box, count),
        }
        return sums, refine(rois, best_deltas(class_logits, deltas), record.image_sizes, c)

    @torch.no_grad()
    def detect(self, record: Record) -> Record:
        """Return the record completed with proposals, class logits and detections.

        The instances of both passes compete in non-maximum suppression and vote on masks.
        """
        c = self.config
        proposals = self.propose(record, training=False)
        rois = [p.boxes for p in proposals]
        first = self.read(record, rois)
        passes = [(rois, first.class_logits.softmax(dim=1), first.masks.sigmoid())]
        if c.stages == 5:
            deltas = best_deltas(first.class_logits, first.deltas)
            rois = refine(rois, deltas, record.image_sizes, c)
            second = self.read(record, rois)
            passes.append((rois, second.class_logits.softmax(dim=1), second.masks.sigmoid()))
        counts = [len(p.boxes) for p in proposals]
        return dataclasses.replace(
            record,
            proposals=proposals,
            class_logits=list(first.class_logits.split(counts)),
            detections=instances(passes, record.image_sizes, c, c.vote_iou),
        )


def choose_rois(
    boxes: Tensor, target: dict[str, Tensor], config: MNCConfig, generator: torch.Generator
) -> RoISample:
    """`mrcnn_edu.nn.box_head.sample_rois` of boxes that keep their gradient.

    Args:
        boxes: [R, 4].
        target: of the image; its boxes join.
        config: threshold and sample size.
        generator: the image's random generator.
    """
    every = torch.cat([boxes, target["boxes"]])  # [R + G, 4]
    matches = label_all(every, target, config)
    chosen = sample_balanced(matches, config.box_samples, config.box_positive_fraction, generator)
    return as_sample(every, target, matches, *chosen)


def mask_targets(
    samples: Sequence[RoISample], targets: Sequence[dict[str, Tensor]], config: MNCConfig
) -> Tensor:
    """The true masks of all positives, cut to their RoIs: 0 and 1, [F, M, M].

    Args:
        samples: of each image.
        targets: of each image.
        config: M, and from which share on a pixel is the object's.
    """
    cut = [
        crop_to_boxes(t["masks"], s.boxes[: s.num_positive], s.matched, config.mask_side, True)
        for s, t in zip(samples, targets, strict=True)
    ]
    return (torch.cat(cut) >= config.mask_threshold).float()


def good_masks(masks: Tensor, truth: Tensor, positive: Tensor, config: MNCConfig) -> Tensor:
    """Which RoIs are instances: their mask overlaps the true one by IoU ½ or more. [R], boolean.

    Args:
        masks: [R, M, M] probabilities of all RoIs.
        truth: [F, M, M] of the positives.
        positive: [F], which RoIs these are.
        config: thresholds.
    """
    drawn, wanted = masks[positive] >= config.mask_threshold, truth > 0
    union = (drawn | wanted).flatten(1).sum(dim=1)  # [F]
    overlap = (drawn & wanted).flatten(1).sum(dim=1) / union.clamp(min=1)
    good = torch.zeros(len(masks), dtype=torch.bool, device=masks.device)
    good[positive] = overlap >= config.instance_mask_iou
    return good


def best_deltas(class_logits: Tensor, deltas: Tensor) -> Tensor:
    """The deltas of each RoI's best foreground class: [R, K+1], [R, K, 4] to [R, 4]."""
    return of_class(deltas, class_logits[:, 1:].argmax(dim=1) + 1)


def _limit_gradient(boxes: Tensor) -> Tensor:
    """The same boxes; a gradient on its way back is kept within ±1/512."""
    if boxes.requires_grad:
        boxes = boxes.clone()
        boxes.register_hook(lambda g: g.clamp(-BOX_GRADIENT_LIMIT, BOX_GRADIENT_LIMIT))
    return boxes


def _path(inputs: int, hidden: int) -> nn.Sequential:
    """Two fully connected layers on a crop."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
    )
