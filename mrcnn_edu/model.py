"""Mask R-CNN, whole: images go in, a record of every stage comes out.

The forward pass runs the trunk, the pyramid and the RPN, and keeps each result in a
:class:`Record`. What is done with it afterwards is a method, not a mode of the module:
``losses(record, targets, generators)`` samples RoIs and returns the five losses of the paper (§3),
``detect(record)`` returns the record completed with proposals and detections. ``train()`` and
``eval()`` only change normalisation layers, so a validation loss is one call. Chapter 10.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mrcnn_edu.anchors import pyramid_anchors
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.nn.box_head import BoxHead, box_losses, sample_rois, select_detections
from mrcnn_edu.nn.fpn import FPN
from mrcnn_edu.nn.mask_head import MaskHead, mask_loss, predicted_class_masks
from mrcnn_edu.nn.resnet import FrozenBatchNorm, group_norm, resnet50, tiny_resnet
from mrcnn_edu.nn.rpn import Proposals, RPNHead, propose, rpn_losses
from mrcnn_edu.roi import multiscale_roi_align


@dataclass(frozen=True)
class Detections:
    """What was found in one image, best first, in pixels of that image."""

    boxes: Tensor  # [D, 4]
    labels: Tensor  # [D], 1 to K
    scores: Tensor  # [D], 0..1
    masks: Tensor  # [D, M, M], probabilities inside each box


@dataclass(frozen=True)
class Record:
    """Every stage of one forward pass, for losses, detections, pictures and widgets.

    The last three fields are empty until ``detect`` has filled them.
    """

    images: Tensor  # [N, 3, H, W], normalised and padded
    image_sizes: list[tuple[int, int]]  # (height, width) of each image without padding
    trunk_maps: list[Tensor]  # C2 … C5
    pyramid: list[Tensor]  # P2 … P6, [N, C, H_l, W_l]
    anchors: list[Tensor]  # one [A_l, 4] for each level
    objectness: Tensor  # [N, A] logits, A the sum of all A_l
    deltas: Tensor  # [N, A, 4]
    proposals: list[Proposals] = dataclasses.field(default_factory=list)
    class_logits: list[Tensor] = dataclasses.field(default_factory=list)  # [R, K+1] an image
    detections: list[Detections] = dataclasses.field(default_factory=list)


class MaskRCNN(nn.Module):
    """The model of the paper with a feature pyramid (§3, Figure 4 right).

    Args:
        config: every number of it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = self.config = config

        def norm(channels: int) -> nn.Module:
            if c.trunk_norm == "group_norm":
                return group_norm(channels)
            return FrozenBatchNorm(channels, c.frozen_bn_eps)

        self.trunk = resnet50(norm) if c.trunk == "resnet50" else tiny_resnet(norm)
        self.trunk.freeze(c.frozen_stages)
        head_norm = group_norm if c.head_norm == "group_norm" else None
        self.fpn = FPN(self.trunk.channels, c.fpn_channels, head_norm)
        self.rpn = RPNHead(c.fpn_channels, anchors_per_cell=len(c.anchor_ratios))
        self.box_head = BoxHead(
            c.fpn_channels,
            c.box_pool,
            c.box_hidden,
            c.num_classes,
            c.box_convs,
            c.box_fcs,
            head_norm,
        )
        self.mask_head = MaskHead(
            c.fpn_channels, c.mask_channels, c.mask_convs, c.num_classes, head_norm
        )

    def forward(self, images: Sequence[Tensor]) -> Record:
        """Run trunk, pyramid and RPN.

        Args:
            images: each [3, H, W], RGB in 0..1, of any sizes.

        Returns:
            the record, without proposals and detections.

        Raises:
            ValueError: an image is not a float tensor [3, H, W].
        """
        batch, sizes = self.batch(images)  # [N, 3, H, W]
        trunk_maps = self.trunk(batch)
        pyramid = self.fpn(trunk_maps)
        objectness, deltas = self.rpn(pyramid)
        anchors = pyramid_anchors(
            [(size,) for size in self.config.anchor_sizes],
            self.config.anchor_ratios,
            [(p.shape[2], p.shape[3]) for p in pyramid],
            (batch.shape[2], batch.shape[3]),
            round=self.config.round_anchors,
            device=batch.device,
        )
        return Record(batch, sizes, trunk_maps, pyramid, anchors, objectness, deltas)

    def batch(self, images: Sequence[Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
        """Normalise images and pad them right and below to one size.

        Args:
            images: each [3, H, W], RGB in 0..1.

        Returns:
            the batch [N, 3, H, W], channels last in memory, and each image's (height, width).
        """
        if not images:
            raise ValueError("No images were given; a batch needs at least one.")
        for i, image in enumerate(images):
            if image.dim() != 3 or image.shape[0] != 3 or not image.is_floating_point():
                raise ValueError(
                    f"Image {i} has shape {tuple(image.shape)} and type {image.dtype}; the model "
                    "takes float RGB images [3, H, W] with values in 0..1."
                )
        multiple = self.config.size_multiple
        height, width = (
            -(-max(image.shape[side] for image in images) // multiple) * multiple for side in (1, 2)
        )
        mean, std = (
            torch.tensor(values, device=images[0].device)[:, None, None]  # [3, 1, 1]
            for values in (self.config.pixel_mean, self.config.pixel_std)
        )
        padded = [
            F.pad((x - mean) / std, (0, width - x.shape[2], 0, height - x.shape[1])) for x in images
        ]
        batch = torch.stack(padded).contiguous(memory_format=torch.channels_last)  # [N, 3, H, W]
        return batch, [(image.shape[1], image.shape[2]) for image in images]

    def losses(
        self,
        record: Record,
        targets: Sequence[dict[str, Tensor]],
        generators: Sequence[torch.Generator],
    ) -> dict[str, Tensor]:
        """Return the five losses of the paper; training minimises their sum (§3, equation L).

        Args:
            record: of the same images.
            targets: for each image ``boxes`` [G, 4], ``labels`` [G] and ``masks`` [G, H, W]; G
                may be 0.
            generators: one for each image; all sampling of that image draws from it.

        Returns:
            the scalars ``rpn_objectness``, ``rpn_box``, ``box_class``, ``box`` and ``mask``.
        """
        gt_boxes = [t["boxes"] for t in targets]
        losses = rpn_losses(
            record.objectness,
            record.deltas,
            torch.cat(record.anchors),
            gt_boxes,
            self.config,
            generators,
        )
        proposals = self.propose(record, training=True)
        samples = [
            sample_rois(p.boxes, t["boxes"], t["labels"], self.config, generator)
            for p, t, generator in zip(proposals, targets, generators, strict=True)
        ]
        pooled = self.pool(record, [s.boxes for s in samples], self.config.box_pool)
        logits, deltas = self.box_head(pooled)
        losses |= box_losses(logits, deltas, samples, gt_boxes, self.config)
        positives = [s.boxes[: s.num_positive] for s in samples]
        mask_logits = self.mask_head(self.pool(record, positives, self.config.mask_pool))
        losses |= mask_loss(mask_logits, samples, [t["masks"] for t in targets], self.config)
        return losses

    @torch.no_grad()
    def detect(self, record: Record) -> Record:
        """Return the record completed with proposals, class logits and detections.

        The mask head sees the final detections only, not the proposals (paper §3.1,
        "Inference"): fewer RoIs, and better boxes.
        """
        proposals = self.propose(record, training=False)
        rois = [p.boxes for p in proposals]
        counts = [len(boxes) for boxes in rois]
        logits, deltas = self.box_head(self.pool(record, rois, self.config.box_pool))
        class_logits = list(logits.split(counts))  # one [R, K+1] for each image
        found = [
            select_detections(of_image, d, boxes, size, self.config)
            for of_image, d, boxes, size in zip(
                class_logits, deltas.split(counts), rois, record.image_sizes, strict=True
            )
        ]
        pooled = self.pool(record, [f.boxes for f in found], self.config.mask_pool)
        masks = predicted_class_masks(self.mask_head(pooled), torch.cat([f.labels for f in found]))
        detections = [
            Detections(f.boxes, f.labels, f.scores, m)
            for f, m in zip(found, masks.split([len(f.labels) for f in found]), strict=True)
        ]
        return dataclasses.replace(
            record, proposals=proposals, class_logits=class_logits, detections=detections
        )

    def propose(self, record: Record, training: bool) -> list[Proposals]:
        """Return the proposals of each image, with the training or the test counts."""
        return propose(
            record.objectness,
            record.deltas,
            torch.cat(record.anchors),
            [len(a) for a in record.anchors],
            record.image_sizes,
            self.config,
            training,
        )

    def pool(self, record: Record, rois: Sequence[Tensor], size: int) -> Tensor:
        """Pool every RoI [R_i, 4] of every image from its pyramid level: [R, C, size, size].

        The heads read P2 to P5; P6 serves the largest anchors only (Lin et al. 2017, §4.1).
        """
        return multiscale_roi_align(
            record.pyramid[:-1],
            list(rois),
            size,
            [1 / 4, 1 / 8, 1 / 16, 1 / 32],
            self.config.roi_sampling_ratio,
            self.config.roi_aligned,
            canonical_size=self.config.roi_canonical_size,
        )


def parameter_count(model: nn.Module) -> dict[str, Any]:
    """Count the parameters of each part and of the whole."""
    parts = {
        name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()
    }
    return {**parts, "total": sum(parts.values())}
