"""Which boxes are positive: matching to the ground truth, and balanced sampling.

In: ground-truth boxes [G, 4] and anchors or proposals [A, 4], xyxy. Out: for each of the A boxes
the index of its ground truth, BELOW or BETWEEN; then two short lists of sampled indices. Faster
R-CNN, §3.1.2 (RPN) and Fast R-CNN, §2.3 (RoIs); Mask R-CNN, §3.1 keeps both. Chapter 03 builds the
matcher, Chapter 04 the sampler.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mrcnn_edu.boxes import iou
from mrcnn_edu.kernels.matching import BELOW, BETWEEN, match_rows


def match(
    gt_boxes: Tensor,
    boxes: Tensor,
    fg_iou: float,
    bg_iou: float,
    allow_low_quality: bool,
    chunk: int = 1 << 22,
) -> Tensor:
    """Match each of `boxes` to the ground truth with the highest IoU, the first one of equals.

    With `allow_low_quality`, the boxes with the highest IoU of some ground truth, ties included,
    also get the index of *their* best ground truth, however low it is: so no object goes without an
    anchor. With G = 0 every box is BELOW. IoUs are float32.

    Equal to torchvision's Matcher on `box_iou`, with one exception: the low-quality rule passes
    over a ground truth that overlaps no box at all. There torchvision turns every box of IoU 0,
    often the whole image, into a positive.

    Memory: on the CPU a row of A IoUs at a time, 17·A bytes in all (4.6 MB for 270,000 anchors and
    any number of objects). On other devices blocks of `chunk` IoUs, at most about 30·chunk bytes;
    the whole matrix of 500 × 270,000 takes 0.54 GB, with the temporaries of the broadcast IoU about
    4 GB. Chapter 03.

    Args:
        gt_boxes: the ground truth [G, 4].
        boxes: anchors or RoIs [A, 4].
        fg_iou: from this IoU on a box is matched.
        bg_iou: below this IoU it is background.
        allow_low_quality: the rule above, for anchors.
        chunk: IoUs in a block; devices other than the CPU only.

    Returns:
        int64 [A]: the index of the ground truth, BELOW (−1) for background, BETWEEN (−2) otherwise.

    Raises:
        ValueError: bg_iou > fg_iou.
    """
    if bg_iou > fg_iou:
        raise ValueError(f"Matching needs bg_iou ≤ fg_iou, got {bg_iou} and {fg_iou}.")
    if boxes.device.type == "cpu":
        gt = gt_boxes.detach().float().contiguous().numpy()  # [G, 4]
        columns = boxes.detach().float().T.contiguous().numpy()  # [4, A]
        low, high = np.float32(bg_iou), np.float32(fg_iou)
        return torch.from_numpy(match_rows(gt, columns, high, low, allow_low_quality))
    return _match_blocks(gt_boxes, boxes, fg_iou, bg_iou, allow_low_quality, chunk)


def _match_blocks(
    gt_boxes: Tensor,
    boxes: Tensor,
    fg_iou: float,
    bg_iou: float,
    allow_low_quality: bool,
    chunk: int,
) -> Tensor:
    """`match` in plain torch, a block of ground truths at a time; runs on any device."""
    best = boxes.new_full((len(boxes),), -1.0, dtype=torch.float32)  # [A]
    best_gt = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)  # [A]
    is_best = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)  # [A]
    rows = max(1, chunk // max(1, len(boxes)))
    for first in range(0, len(gt_boxes) if len(boxes) else 0, rows):
        overlap = iou(gt_boxes[first : first + rows].float(), boxes.float())  # [≤ rows, A]
        value, index = overlap.max(dim=0)  # [A]
        best_gt = torch.where(value > best, index + first, best_gt)
        best = torch.maximum(best, value)
        if allow_low_quality:
            highest = overlap.amax(dim=1, keepdim=True)  # [≤ rows, 1]
            is_best |= ((overlap == highest) & (highest > 0)).any(dim=0)
    low = torch.where(best < bg_iou, BELOW, BETWEEN)  # [A]
    if len(gt_boxes) == 0:
        return torch.full_like(low, BELOW)
    return torch.where((best >= fg_iou) | is_best, best_gt, low)


def sample_balanced(
    matches: Tensor, num: int, positive_fraction: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Choose boxes at random, positives and negatives apart.

    Negatives fill the rest, also where positives are missing. Sampling is uniform without
    replacement, and the generator is drawn from in torchvision's order, positives first: the same
    seed gives the boxes of its BalancedPositiveNegativeSampler. Chapter 04.

    Args:
        matches: [A], what `match` returns: ≥ 0 is positive, BELOW negative, BETWEEN is never
            chosen.
        num: at most so many boxes are chosen.
        positive_fraction: at most int(num · positive_fraction) of them are positive.
        generator: what is drawn from.

    Returns:
        (positive indices, negative indices), each ascending.

    Raises:
        ValueError: num < 0, or a fraction outside [0, 1].
    """
    if num < 0 or not 0 <= positive_fraction <= 1:
        raise ValueError(
            f"Sampling needs num ≥ 0 and a fraction in [0, 1], got {num} and {positive_fraction}."
        )
    positive = (matches >= 0).nonzero()[:, 0]
    negative = (matches == BELOW).nonzero()[:, 0]
    n_positive = min(len(positive), int(num * positive_fraction))
    n_negative = min(len(negative), num - n_positive)
    return _choose(positive, n_positive, generator), _choose(negative, n_negative, generator)


def _choose(candidates: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """`n` of `candidates` [C], uniformly without replacement, in ascending order: [n]."""
    order = torch.randperm(len(candidates), generator=generator, device=generator.device)
    return candidates[order[:n].to(candidates.device)].sort().values
