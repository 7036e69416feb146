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
def select_detections(
    logits: Tensor,
    deltas: Tensor,
    proposals: Tensor,
    image_size: tuple[int, int],
    config: ModelConfig,
) -> Detections:
    """Decide what is in one image.

    Every proposal offers one box for each class. Those above ``score_threshold`` are thinned by
    non-maximum suppression within their class, and the best ``detections_per_image`` over all
    classes are kept (paper §3.1, "Inference"). Chapter 08.

    Args:
        logits: [R, K+1] of this image's proposals.
        deltas: [R, K, 4], or [R, 1, 4] class-agnostic.
        proposals: [R, 4].
        image_size: (height, width) without padding.
        config: thresholds and counts.

    Returns:
        boxes, labels and scores; masks and keypoints come from heads that look at these boxes.
    """
    scores = logits.softmax(dim=1)[:, 1:]  # [R, K]
    roi, label = (scores > config.score_threshold).nonzero(as_tuple=True)  # [candidates] each
    scores = scores[roi, label]
    chosen = deltas[roi, label if deltas.shape[1] > 1 else 0]  # [candidates, 4]
    boxes = box_ops.decode(chosen, proposals[roi], config.box_weights)
    boxes = box_ops.clip(boxes, image_size)
    large = box_ops.keep_large(boxes, max(config.detection_min_size, SMALLEST))
    boxes, scores, label = boxes[large], scores[large], label[large]
    kept = box_ops.batched_nms(
        boxes, scores, label, config.detection_nms_iou, max_keep=config.detections_per_image
    )
    return Detections(boxes[kept], label[kept] + 1, scores[kept])
