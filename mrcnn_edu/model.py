"""Mask R-CNN, whole: images go in, a record of every stage comes out.

The forward pass runs backbone, neck and RPN, and keeps each result in a `Record`. What is done with
it afterwards is a method, not a mode of the module: `losses(record, targets, generators)` samples
RoIs and returns the losses of the paper (§3), `detect(record)` returns the record completed with
proposals and detections. `train()` and `eval()` only change normalisation layers, so a validation
loss is one call. Chapter 10.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.nn.box_head import box_losses, build_box_head, sample_rois
from mrcnn_edu.nn.detections import select_detections
from mrcnn_edu.nn.detector import TwoStage
from mrcnn_edu.nn.keypoint_head import KeypointHead, decode_keypoints, keypoint_loss
from mrcnn_edu.nn.layers import norm_layer
from mrcnn_edu.nn.losses import Sum
from mrcnn_edu.nn.mask_head import build_mask_head, mask_loss, predicted_class_masks
from mrcnn_edu.nn.roi_layer import pool_rois
from mrcnn_edu.record import Detections, Record, RoISample


class MaskRCNN(TwoStage):
    """The model of the paper (§3, Figure 4), with a pyramid, C4 or C5, and any of its heads.

    Args:
        config: every number of it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        c = config
        norm = norm_layer(c.head_norm, c.frozen_bn_eps)
        roi_channels = self.neck.channels if c.neck == "fpn" else self.backbone_channels[3]
        self.box_head = build_box_head(c, roi_channels, norm)
        self.mask_head = build_mask_head(c, roi_channels, norm)
        self.keypoint_head = (
            KeypointHead(roi_channels, c.keypoint_channels, c.keypoint_convs, c.keypoints)
            if c.keypoints
            else None
        )
        self.to(memory_format=torch.channels_last)

    def loss_sums(
        self,
        record: Record,
        targets: Sequence[dict[str, Tensor]],
        generators: Sequence[torch.Generator],
    ) -> dict[str, Sum]:
        """Return each loss as a sum and the count to divide it by.

        Args:
            record, targets, generators: as in `losses`.

        Returns:
            (sum, count) by the name of the loss.
        """
        c = self.config
        gt_boxes = [t["boxes"] for t in targets]
        sums = self.rpn_sums(record, gt_boxes, generators)
        samples = [
            sample_rois(p.boxes, t["boxes"], t["labels"], c, generator)
            for p, t, generator in zip(
                self.propose(record, training=True), targets, generators, strict=True
            )
        ]
        features = self.roi_features(record, [s.boxes for s in samples], c.box_pool)
        logits, deltas = self.box_head(features)
        classes, box, rois = box_losses(logits, deltas, samples, gt_boxes, c)
        sums |= {"box_class": (classes, rois), "box": (box, rois)}
        positives = [s.boxes[: s.num_positive] for s in samples]
        if self.mask_head is not None:
            if c.neck == "c4":  # both heads read the same features; computed once
                of_positives = features[positive_rows(samples)]
            else:
                of_positives = self.roi_features(record, positives, c.mask_pool)
            mask_logits = self.mask_head(of_positives)
            gt_masks = [t["masks"] for t in targets]
            sums["mask"] = mask_loss(mask_logits, samples, gt_masks, c)
        if self.keypoint_head is not None:
            joints = [t["keypoints"][s.matched] for t, s in zip(targets, samples, strict=True)]
            maps = self.keypoint_head(self.roi_features(record, positives, c.keypoint_pool))
            sums["keypoint"] = keypoint_loss(maps, torch.cat(positives), torch.cat(joints))
        return sums

    @torch.no_grad()
    def detect(self, record: Record) -> Record:
        """Return the record completed with proposals, class logits and detections.

        Mask and keypoint heads see the final detections only, not the proposals (paper §3.1,
        "Inference"): fewer RoIs, and better boxes.
        """
        proposals = self.propose(record, training=False)
        rois = [p.boxes for p in proposals]
        counts = [len(boxes) for boxes in rois]
        logits, deltas = self.box_head(self.roi_features(record, rois, self.config.box_pool))
        class_logits = list(logits.split(counts))  # one [R, K+1] for each image
        found = [
            select_detections(of_image, d, boxes, size, self.config)
            for of_image, d, boxes, size in zip(
                class_logits, deltas.split(counts), rois, record.image_sizes, strict=True
            )
        ]
        return dataclasses.replace(
            record,
            proposals=proposals,
            class_logits=class_logits,
            detections=self.complete(record, found),
        )

    def complete(self, record: Record, found: Sequence[Detections]) -> list[Detections]:
        """Add what mask and keypoint heads see in the boxes found in each image."""
        c = self.config
        completed = list(found)
        boxes = [f.boxes for f in found]
        counts = [len(b) for b in boxes]
        if self.mask_head is not None:
            logits = self.mask_head(self.roi_features(record, boxes, c.mask_pool))  # [D, K, M, M]
            labels = torch.cat([f.labels for f in found])
            masks = predicted_class_masks(logits, labels, c.mask_prediction == "softmax")
            completed = [
                dataclasses.replace(f, masks=m)
                for f, m in zip(completed, masks.split(counts), strict=True)
            ]
        if self.keypoint_head is not None:
            maps = self.keypoint_head(self.roi_features(record, boxes, c.keypoint_pool))
            joints, scores = decode_keypoints(maps, torch.cat(boxes))
            completed = [
                dataclasses.replace(f, keypoints=j, keypoint_scores=s)
                for f, j, s in zip(
                    completed, joints.split(counts), scores.split(counts), strict=True
                )
            ]
        return completed

    def roi_features(self, record: Record, rois: Sequence[Tensor], size: int) -> Tensor:
        """What the heads read of every RoI: pooled features.

        Args:
            record: of a forward pass.
            rois: [R_i, 4] for each image.
            size: the pooled side P.

        Returns:
            [R, C, P, P]; in a C4 model these go through res5, which halves them: [R, C, P / 2, P /
            2].
        """
        return self.res5(self.pool(record, rois, size))

    def pool(self, record: Record, rois: Sequence[Tensor], size: int) -> Tensor:
        """Pool every RoI of every image from its pyramid level.

        The heads read P2 to P5; P6 serves the largest anchors only (Lin et al. 2017, §4.1).

        Args:
            record: of a forward pass.
            rois: [R_i, 4] for each image.
            size: the pooled side P.

        Returns:
            [R, C, P, P].
        """
        levels = self.neck.roi_levels
        scales = [1 / stride for stride in self.neck.strides[:levels]]
        return pool_rois(record.pyramid[:levels], rois, size, scales, self.config)


def positive_rows(samples: Sequence[RoISample]) -> Tensor:
    """Where the positives of each image are among the RoIs of all images: [P]."""
    rows, start = [], 0
    for s in samples:
        rows.append(torch.arange(start, start + s.num_positive, device=s.boxes.device))
        start += len(s.boxes)
    return torch.cat(rows)


def parameter_count(model: nn.Module) -> dict[str, Any]:
    """Count the parameters of each part and of the whole."""
    parts = {
        name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()
    }
    return {**parts, "total": sum(parts.values())}
