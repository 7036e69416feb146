"""Detections: from class scores and deltas of the proposals to the boxes that are reported.

Score threshold, one box for each class of each proposal, non-maximum suppression within a class,
the best of the image (paper §3.1, "Inference"). Chapter 08.
"""

import torch
from torch import Tensor

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.nn.proposals import SMALLEST
from mrcnn_edu.record import Detections


@torch.no_grad()
def candidates(
    logits: Tensor,
    deltas: Tensor,
    proposals: Tensor,
    image_size: tuple[int, int],
    config: ModelConfig,
) -> Detections:
    """Every box that every class offers in one image, before suppression.

    Each proposal has one box for each class; those above `score_threshold` are decoded, clipped and
    returned proposal by proposal, class by class. Chapter 08.

    Args:
        logits: [R, K+1] of this image's proposals.
        deltas: [R, K, 4], or [R, 1, 4] class-agnostic.
        proposals: [R, 4].
        image_size: (height, width) without padding.
        config: threshold, box weights and the smallest side.
    """
    scores = logits.softmax(dim=1)[:, 1:]  # [R, K]
    roi, label = (scores > config.score_threshold).nonzero(as_tuple=True)  # [candidates] each
    scores = scores[roi, label]
    chosen = deltas[roi, label if deltas.shape[1] > 1 else 0]  # [candidates, 4]
    boxes = box_ops.decode(chosen, proposals[roi], config.box_weights)
    boxes = box_ops.clip(boxes, image_size)
    large = box_ops.keep_large(boxes, max(config.detection_min_size, SMALLEST))
    return Detections(boxes[large], label[large] + 1, scores[large])


@torch.no_grad()
def select_detections(
    logits: Tensor,
    deltas: Tensor,
    proposals: Tensor,
    image_size: tuple[int, int],
    config: ModelConfig,
) -> Detections:
    """Decide what is in one image.

    The `candidates` are thinned by non-maximum suppression within their class, and the best
    `detections_per_image` over all classes are kept (paper §3.1, "Inference"). Chapter 08.

    Args:
        logits: [R, K+1] of this image's proposals.
        deltas: [R, K, 4], or [R, 1, 4] class-agnostic.
        proposals: [R, 4].
        image_size: (height, width) without padding.
        config: thresholds and counts.

    Returns:
        boxes, labels and scores; masks and keypoints come from heads that look at these boxes.
    """
    found = candidates(logits, deltas, proposals, image_size, config)
    kept = box_ops.batched_nms(
        found.boxes,
        found.scores,
        found.labels,
        config.detection_nms_iou,
        max_keep=config.detections_per_image,
    )
    return Detections(found.boxes[kept], found.labels[kept], found.scores[kept])
