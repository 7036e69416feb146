"""From scored RoIs with a mask each to detections: suppression, then mask voting.

MNC and FCIS end alike. Every RoI has a score for each class and one mask, and non-maximum
suppression within a class keeps the best. A kept box then takes the mask that its neighbours agree
on: the mean of all masks whose RoI overlaps it, weighted by their scores for its class. The vote
mends a mask cut off by a box that was too small, and it mixes in the neighbour where two objects
stand close. MNC §4.3; Chapter 18.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mrcnn_edu import boxes as box_ops
from mrcnn_edu import masks as mask_ops
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.record import Detections
from mrcnn_edu.roi import roi_align

# RoIs of each image [R_i, 4], scores [R, K+1] and masks [R, M, M] of all of them
Pass = tuple[Sequence[Tensor], Tensor, Tensor]


def instances(
    passes: Sequence[Pass],
    image_sizes: Sequence[tuple[int, int]],
    config: ModelConfig,
    vote_iou: float,
) -> list[Detections]:
    """`select_instances` in each image, from one look at the RoIs or several.

    Args:
        passes: what each look saw: RoIs, class probabilities, masks.
        image_sizes: (height, width) of each image without padding.
        config, vote_iou: as in `select_instances`.
    """
    found = []
    for i, size in enumerate(image_sizes):
        parts = []
        for rois, scores, masks in passes:
            counts = [len(boxes) for boxes in rois]
            parts.append((scores.split(counts)[i], rois[i], masks.split(counts)[i]))
        together = [torch.cat(one) for one in zip(*parts, strict=True)]
        found.append(
            select_instances(together[0], together[1], together[2], size, config, vote_iou)
        )
    return found


@torch.no_grad()
def select_instances(
    scores: Tensor,
    boxes: Tensor,
    masks: Tensor,
    image_size: tuple[int, int],
    config: ModelConfig,
    vote_iou: float,
) -> Detections:
    """What is reported of one image.

    Args:
        scores: [R, K+1] probabilities, background first.
        boxes: [R, 4], the RoIs; a mask lies in its RoI.
        masks: [R, M, M] probabilities.
        image_size: (height, width) without padding.
        config: `score_threshold`, `detection_nms_iou`, `detections_per_image`, `mask_threshold`.
        vote_iou: RoIs that overlap a kept one by so much vote on its mask; 0: none, a kept RoI
            keeps its own mask and box.

    Returns:
        boxes, labels, scores and masks, best first. After a vote a box is the tightest around its
        mask, and the mask is cut to it.
    """
    roi, label = (scores[:, 1:] > config.score_threshold).nonzero(as_tuple=True)
    kept = box_ops.batched_nms(
        boxes[roi],
        scores[roi, label + 1],
        label,
        config.detection_nms_iou,
        max_keep=config.detections_per_image,
    )
    roi, label = roi[kept], label[kept] + 1  # [D]
    found = Detections(boxes[roi], label, scores[roi, label], masks[roi])
    if not vote_iou or not len(roi):
        return found
    shares = vote_shares(found, boxes, scores, config.score_threshold, vote_iou)  # [D, R]
    pasted = mask_ops.paste(masks, boxes, image_size, config.mask_paste)  # [R, H, W]
    opinions = (pasted >= config.mask_threshold).to(shares)  # [R, H, W]
    voted = torch.tensordot(shares, opinions, dims=1)  # [D, H, W]
    return cut_out(found, voted, masks.shape[-1], config.mask_threshold)


def vote_shares(
    kept: Detections, boxes: Tensor, scores: Tensor, least: float, vote_iou: float
) -> Tensor:
    """The weight of each RoI's vote on each kept box's mask: [D, R], rows that sum to 1.

    Args:
        kept: the boxes, with their labels.
        boxes: [R, 4] of all RoIs.
        scores: [R, K+1].
        least: RoIs with a smaller score for the class do not vote.
        vote_iou: nor do those that overlap less.
    """
    near = box_ops.iou(kept.boxes, boxes) >= vote_iou  # [D, R]
    weight = scores[:, kept.labels].T * near  # [D, R]
    weight = torch.where(weight > least, weight, 0.0)
    return weight / weight.sum(dim=1, keepdim=True)


def cut_out(kept: Detections, voted: Tensor, side: int, threshold: float) -> Detections:
    """Put each voted mask into the tightest box around it.

    Args:
        kept: before the vote; one whose voted mask is empty stays as it was.
        voted: [D, H, W], the mean of the votes.
        side: M of the masks that come out.
        threshold: from which mean on a pixel belongs to the object.
    """
    tight = mask_ops.to_boxes((voted >= threshold).to(torch.uint8)).to(kept.boxes)  # [D, 4]
    full = box_ops.keep_large(tight, 1)  # [D]
    rows = torch.arange(int(full.sum()), device=tight.device)
    rois = torch.cat([rows[:, None].to(tight), tight[full]], dim=1)  # [≤ D, 5]
    cut = roi_align(voted[full][:, None], rois, side, 1.0, 0, aligned=True)[:, 0]  # [≤ D, M, M]
    assert kept.masks is not None
    masks, boxes = kept.masks.clone(), kept.boxes.clone()
    masks[full], boxes[full] = cut, tight[full]
    return Detections(boxes, kept.labels, kept.scores, masks)
