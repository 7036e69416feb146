"""Proposals: the RPN's scores and deltas become the boxes that the heads look at.

The highest scores of each level are decoded, clipped, thinned by non-maximum suppression, and the
best of all levels are kept. Ren et al. (2015), §3.1; Lin et al. (2017), §4.1. Chapter 04.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.record import Proposals

SMALLEST = torch.finfo(torch.float32).tiny  # a box without area is never a proposal


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
    non-maximum suppression within the level; then the best of all levels are kept: of the image, so
    that no image's proposals depend on the others of its batch. Detectron took that last step over
    the batch in training (`rpn_top_scope="batch"`). No gradient flows into proposals. Chapter 04.

    Args:
        objectness: logits [N, A].
        deltas: [N, A, 4].
        anchors: [A, 4].
        level_sizes: anchors in each level; they add up to A.
        image_sizes: (height, width) of each image without its padding.
        config: counts, NMS threshold and smallest size.
        training: take the training counts instead of the test counts.

    Returns:
        one `Proposals` for each image.
    """
    found = propose_with_anchors(
        objectness, deltas, anchors, level_sizes, image_sizes, config, training
    )
    return [proposals for proposals, _ in found]


@torch.no_grad()
def propose_with_anchors(
    objectness: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    level_sizes: Sequence[int],
    image_sizes: Sequence[tuple[int, int]],
    config: ModelConfig,
    training: bool,
) -> list[tuple[Proposals, Tensor]]:
    """`propose`, and the anchor that each proposal came from, [R].

    Args:
        objectness, deltas, anchors, level_sizes, image_sizes, config, training: as in `propose`.
    """
    before = config.rpn_top_before_nms[0 if training else 1]
    after = config.rpn_top_after_nms[0 if training else 1]
    share = training and config.rpn_top_scope == "batch"
    picked, levels, start = [], [], 0
    for level, size in enumerate(level_sizes):
        count = min(before, size)
        top = objectness[:, start : start + size].topk(count, dim=1).indices  # [N, count]
        picked.append(top + start)
        levels.append(torch.full((count,), level, device=objectness.device))
        start += size
    level_of = torch.cat(levels)  # [candidates]
    found = []
    for i, index in enumerate(torch.cat(picked, dim=1)):  # [candidates]
        boxes = box_ops.decode(deltas[i, index], anchors[index], config.rpn_box_weights)
        boxes = box_ops.clip(boxes, image_sizes[i])
        scores = objectness[i, index].sigmoid()
        large = box_ops.keep_large(boxes, max(config.rpn_min_size, SMALLEST))
        boxes, scores, origin = boxes[large], scores[large], level_of[large]
        kept = box_ops.batched_nms(
            boxes, scores, origin, config.rpn_nms_iou, max_keep=None if share else after
        )
        proposals = Proposals(boxes[kept], scores[kept], origin[kept])
        found.append((proposals, index[large][kept]))
    return _best_of_batch(found, after) if share else found


def _best_of_batch(
    found: Sequence[tuple[Proposals, Tensor]], count: int
) -> list[tuple[Proposals, Tensor]]:
    """Keep the `count` highest scores of all images together; each image's stay in order."""
    scores = torch.cat([p.scores for p, _ in found])  # [R of all images]
    best = torch.zeros_like(scores, dtype=torch.bool)
    best[scores.topk(min(count, len(scores))).indices] = True
    keep = best.split([len(p.scores) for p, _ in found])
    return [
        (Proposals(*(value[k] for value in p)), index[k])
        for (p, index), k in zip(found, keep, strict=True)
    ]
