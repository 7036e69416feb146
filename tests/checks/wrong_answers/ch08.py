"""Typical mistakes in the exercises of chapter 08."""

import torch
from torch.nn import functional as F

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.matching import match

WEIGHTS = (10, 10, 5, 5)


# ---------------------------------------------------------------- 8.1


def _sample(boxes, matches, labels, count, generator, share=4, pick=None, label=None):
    """The right sample of matched boxes, but for what an argument changes."""

    def at_random(candidates, room):
        return candidates[torch.randperm(len(candidates), generator=generator)][:room]

    pick = pick or at_random
    positive = pick((matches >= 0).nonzero()[:, 0], count // share)
    negative = pick((matches < 0).nonzero()[:, 0], count - len(positive))
    matched = matches[positive]
    own = labels[matched] if label is None else label(matched)
    classes = torch.cat([own, labels.new_zeros(len(negative))])
    return boxes[torch.cat([positive, negative])], classes, matched


def without_true_boxes(proposals, gt_boxes, gt_labels, count, generator):
    matches = match(gt_boxes, proposals, 0.5, 0.5, False)
    return _sample(proposals, matches, gt_labels, count, generator)


def _joined(proposals, gt_boxes, iou=0.5):
    boxes = torch.cat([proposals, gt_boxes])
    return boxes, match(gt_boxes, boxes, iou, iou, False)


def half_positive(proposals, gt_boxes, gt_labels, count, generator):
    return _sample(*_joined(proposals, gt_boxes), gt_labels, count, generator, share=2)


def number_as_label(proposals, gt_boxes, gt_labels, count, generator):
    joined = _joined(proposals, gt_boxes)
    return _sample(*joined, gt_labels, count, generator, label=lambda matched: matched + 1)


def threshold_of_the_rpn(proposals, gt_boxes, gt_labels, count, generator):
    return _sample(*_joined(proposals, gt_boxes, 0.7), gt_labels, count, generator)


def first_object_that_fits(proposals, gt_boxes, gt_labels, count, generator):
    boxes = torch.cat([proposals, gt_boxes])
    if not len(gt_boxes):
        return _sample(*_joined(proposals, gt_boxes), gt_labels, count, generator)
    enough = box_ops.iou(gt_boxes, boxes) >= 0.5  # [G, R]
    matches = torch.where(enough.any(dim=0), enough.int().argmax(dim=0), -1)
    return _sample(boxes, matches, gt_labels, count, generator)


def negatives_first(proposals, gt_boxes, gt_labels, count, generator):
    joined = _joined(proposals, gt_boxes)
    boxes, labels, matched = _sample(*joined, gt_labels, count, generator)
    return boxes.flip(0), labels.flip(0), matched


def always_the_best(proposals, gt_boxes, gt_labels, count, generator):
    joined = _joined(proposals, gt_boxes)
    first = lambda candidates, room: candidates[:room]  # noqa: E731
    return _sample(*joined, gt_labels, count, generator, pick=first)


def a_window(proposals, gt_boxes, gt_labels, count, generator):
    def window(candidates, room):
        start = int(torch.randint(max(1, len(candidates)), (1,), generator=generator))
        return candidates.roll(-start)[:room]

    return _sample(*_joined(proposals, gt_boxes), gt_labels, count, generator, pick=window)


def global_randomness(proposals, gt_boxes, gt_labels, count, generator):
    def pick(candidates, room):
        return candidates[torch.randperm(len(candidates))][:room]

    return _sample(*_joined(proposals, gt_boxes), gt_labels, count, generator, pick=pick)


def with_repetition(proposals, gt_boxes, gt_labels, count, generator):
    def pick(candidates, room):
        if len(candidates) <= room:
            return candidates
        return candidates[torch.randint(len(candidates), (room,), generator=generator)]

    return _sample(*_joined(proposals, gt_boxes), gt_labels, count, generator, pick=pick)


# ---------------------------------------------------------------- 8.2


def _own(deltas, labels, wanted):
    rows = torch.arange(len(wanted))
    return deltas[rows, labels[rows] - 1]


def _right(deltas, labels, wanted, beta):
    own = _own(deltas, labels, wanted)
    return F.smooth_l1_loss(own, wanted, beta=beta, reduction="sum") / len(labels)


def column_of_the_next(logits, deltas, labels, wanted, beta):
    rows = torch.arange(len(wanted))
    total = F.smooth_l1_loss(deltas[rows, labels[rows]], wanted, beta=beta, reduction="sum")
    return F.cross_entropy(logits, labels), total / len(labels)


def divided_by_positives(logits, deltas, labels, wanted, beta):
    total = F.smooth_l1_loss(_own(deltas, labels, wanted), wanted, beta=beta, reduction="sum")
    return F.cross_entropy(logits, labels), total / max(1, len(wanted))


def mean_of_everything(logits, deltas, labels, wanted, beta):
    box = F.smooth_l1_loss(_own(deltas, labels, wanted), wanted, beta=beta)
    return F.cross_entropy(logits, labels), box


def not_divided(logits, deltas, labels, wanted, beta):
    total = F.smooth_l1_loss(_own(deltas, labels, wanted), wanted, beta=beta, reduction="sum")
    return F.cross_entropy(logits, labels), total


def positives_only(logits, deltas, labels, wanted, beta):
    positive = labels > 0
    classes = F.cross_entropy(logits[positive], labels[positive], reduction="sum")
    return classes / len(labels), _right(deltas, labels, wanted, beta)


def objects_only(logits, deltas, labels, wanted, beta):
    positive = labels > 0
    classes = F.cross_entropy(logits[positive][:, 1:], labels[positive] - 1)
    return classes, _right(deltas, labels, wanted, beta)


def class_loss_is_a_sum(logits, deltas, labels, wanted, beta):
    classes = F.cross_entropy(logits, labels, reduction="sum")
    return classes, _right(deltas, labels, wanted, beta)


def overflowing(logits, deltas, labels, wanted, beta):
    p = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    classes = -p[torch.arange(len(labels)), labels].log().mean()
    return classes, _right(deltas, labels, wanted, beta)


def without_gradient(logits, deltas, labels, wanted, beta):
    classes, box = F.cross_entropy(logits, labels), _right(deltas, labels, wanted, beta)
    return classes.detach(), box.detach()


def default_beta(logits, deltas, labels, wanted, beta):
    return F.cross_entropy(logits, labels), _right(deltas, labels, wanted, 1.0)


def nan_without_positives(logits, deltas, labels, wanted, beta):
    each = F.smooth_l1_loss(_own(deltas, labels, wanted), wanted, beta=beta, reduction="none")
    box = each.sum(dim=1).mean() * len(wanted) / len(labels)
    return F.cross_entropy(logits, labels), box


# ---------------------------------------------------------------- 8.3


def _detect(scores, deltas, proposals, size, threshold, iou, count, **changes):
    """The right selection on scores [R, K], but for what an argument changes."""
    roi, label = (scores > threshold).nonzero(as_tuple=True)
    column = changes.get("column", lambda k: k)(label)
    boxes = box_ops.decode(deltas[roi, column], proposals[roi], changes.get("weights", WEIGHTS))
    if changes.get("clip", True):
        boxes = box_ops.clip(boxes, size)
    scores, label = scores[roi, label], label + 1
    if changes.get("large", True):
        good = box_ops.keep_large(boxes, 1e-2)
        boxes, scores, label = boxes[good], scores[good], label[good]
    if changes.get("cut_first"):
        top = scores.argsort(descending=True)[:count]
        boxes, scores, label = boxes[top], scores[top], label[top]
    groups = None if changes.get("across") else label
    keep = box_ops.batched_nms(boxes, scores, groups, changes.get("suppress", iou))[:count]
    return boxes[keep], label[keep], scores[keep]


def _scores(logits):
    return logits.softmax(dim=1)[:, 1:]


def softmax_of_objects(logits, deltas, *rest):
    return _detect(logits[:, 1:].softmax(dim=1), deltas, *rest)


def best_class_only(logits, deltas, *rest):
    scores = _scores(logits)
    best = torch.nn.functional.one_hot(scores.argmax(dim=1), scores.shape[1]).bool()
    return _detect(torch.where(best, scores, -1.0), deltas, *rest)


def labels_from_zero(logits, deltas, *rest):
    boxes, labels, scores = _detect(_scores(logits), deltas, *rest)
    return boxes, labels - 1, scores


def next_class_s_box(logits, deltas, *rest):
    return _detect(_scores(logits), deltas.roll(-1, dims=1), *rest)


def weights_forgotten(logits, deltas, *rest):
    return _detect(_scores(logits), deltas, *rest, weights=(1, 1, 1, 1))


def not_clipped(logits, deltas, *rest):
    return _detect(_scores(logits), deltas, *rest, clip=False)


def sides_exchanged(logits, deltas, proposals, size, *rest):
    return _detect(_scores(logits), deltas, proposals, (size[1], size[0]), *rest)


def without_area(logits, deltas, *rest):
    return _detect(_scores(logits), deltas, *rest, large=False)


def across_classes(logits, deltas, *rest):
    return _detect(_scores(logits), deltas, *rest, across=True)


def no_suppression(logits, deltas, *rest):
    return _detect(_scores(logits), deltas, *rest, suppress=1.0)


def suppression_at_half(logits, deltas, *rest):
    return _detect(_scores(logits), deltas, *rest, suppress=0.5)


def cut_before_suppression(logits, deltas, *rest):
    return _detect(_scores(logits), deltas, *rest, cut_first=True)


def class_after_class(logits, deltas, proposals, size, threshold, iou, count):
    boxes, labels, scores = _detect(_scores(logits), deltas, proposals, size, threshold, iou, 10**6)
    order = labels.argsort(stable=True)[:count]
    return boxes[order], labels[order], scores[order]


def count_of_each_class(logits, deltas, proposals, size, threshold, iou, count):
    boxes, labels, scores = _detect(_scores(logits), deltas, proposals, size, threshold, iou, 10**6)
    keep = [i for i, k in enumerate(labels.tolist()) if labels[:i].tolist().count(k) < count]
    return boxes[keep], labels[keep], scores[keep]


def shapeless_when_empty(logits, deltas, *rest):
    found = _detect(_scores(logits), deltas, *rest)
    return found if len(found[0]) else (torch.zeros(0), torch.zeros(0), torch.zeros(0))


# ---------------------------------------------------------------- 8.4


def _flat(logits, deltas, proposals, size, in_place, first):
    classes = deltas.shape[1]
    scores = logits.softmax(dim=1)[:, 1:].flatten()
    labels = torch.arange(1, classes + 1).repeat(len(proposals))
    rois = proposals.repeat(classes, 1)
    if in_place:
        rois = proposals.repeat_interleave(classes, dim=0)
    boxes = box_ops.clip(box_ops.decode(deltas.flatten(0, 1), rois, WEIGHTS), size)
    best = scores.argsort(descending=True)[: 100 if first else len(scores)]
    best = best[scores[best] > 0.05]
    boxes, labels, scores = boxes[best], labels[best], scores[best]
    keep = box_ops.batched_nms(boxes, scores, labels, 0.5)[:100]
    return boxes[keep], labels[keep], scores[keep]


def as_it_was(logits, deltas, proposals, size):
    return _flat(logits, deltas, proposals, size, in_place=False, first=True)


def one_bug_left(logits, deltas, proposals, size):
    return _flat(logits, deltas, proposals, size, in_place=True, first=True)


def not_clipped_any_more(logits, deltas, proposals, size):
    return _flat(logits, deltas, proposals, (10**6, 10**6), in_place=True, first=False)


def repaired_across_classes(logits, deltas, proposals, size):
    return _detect(_scores(logits), deltas, proposals, size, 0.05, 0.5, 100, across=True)


def repaired_without_suppression(logits, deltas, proposals, size):
    return _detect(_scores(logits), deltas, proposals, size, 0.05, 1.0, 100)


# ---------------------------------------------------------------- 8.5


def _soft(boxes, scores, minimum, factor, original=False):
    overlap, left = box_ops.iou(boxes, boxes), scores.clone()
    order, lowered = [], []
    for _ in range(len(boxes)):
        best = int(left.argmax())
        if left[best] < minimum:
            break
        order.append(best)
        lowered.append(float(scores[best] if original else left[best]))
        left = left * factor(overlap[best])
        left[order] = -1
    return torch.tensor(order, dtype=torch.long), torch.tensor(lowered)


def hard(boxes, scores, sigma, minimum):
    return _soft(boxes, scores, max(minimum, 1e-6), lambda o: (o < 0.5).float())


def linear(boxes, scores, sigma, minimum):
    return _soft(boxes, scores, minimum, lambda o: 1 - o)


def not_squared(boxes, scores, sigma, minimum):
    return _soft(boxes, scores, minimum, lambda o: torch.exp(-o / sigma))


def sigma_ignored(boxes, scores, sigma, minimum):
    return _soft(boxes, scores, minimum, lambda o: torch.exp(-(o**2) / 0.5))


def old_scores(boxes, scores, sigma, minimum):
    return _soft(boxes, scores, minimum, lambda o: torch.exp(-(o**2) / sigma), original=True)


def in_the_old_order(boxes, scores, sigma, minimum):
    overlap, left = box_ops.iou(boxes, boxes), scores.clone()
    order = scores.argsort(descending=True)
    for place, i in enumerate(order):
        rest = order[place + 1 :]
        left[rest] = left[rest] * torch.exp(-(overlap[i, rest] ** 2) / sigma)
    order = order[left[order] >= minimum]
    return order, left[order]


def lowered_once(boxes, scores, sigma, minimum):
    overlap = box_ops.iou(boxes, boxes)
    order, lowered = [], []
    for _ in range(len(boxes)):
        worst = overlap[:, order].amax(dim=1) if order else torch.zeros(len(boxes))
        left = scores * torch.exp(-(worst**2) / sigma)
        left[order] = -1
        best = int(left.argmax())
        if left[best] < minimum:
            break
        order.append(best)
        lowered.append(float(left[best]))
    return torch.tensor(order, dtype=torch.long), torch.tensor(lowered)


def minimum_ignored(boxes, scores, sigma, minimum):
    return _soft(boxes, scores, 0.0, lambda o: torch.exp(-(o**2) / sigma))


def in_place(boxes, scores, sigma, minimum):
    order, lowered = _soft(boxes, scores, minimum, lambda o: torch.exp(-(o**2) / sigma))
    scores[order] = lowered
    return order, lowered


WRONG = {
    "check_sample_rois": {
        "no true boxes": (without_true_boxes, "The true boxes join"),
        "half positive": (half_positive, "Half of the sample is positive"),
        "the object's number": (number_as_label, "not the number of the object"),
        "0.7, as in the RPN": (threshold_of_the_rpn, "from 0.5 on"),
        "not the best object": (first_object_that_fits, "the one it overlaps most"),
        "negatives first": (negatives_first, "Positives come first"),
        "not at random": (always_the_best, "in every sample and some in none"),
        "a window": (a_window, "are neighbours in the list"),
        "another generator": (global_randomness, "not from torch's global one"),
        "drawn twice": (with_repetition, "drawn twice"),
    },
    "check_box_losses": {
        "the next class's column": (column_of_the_next, "deltas[:, 0] is class 1's"),
        "divided by the positives": (divided_by_positives, "Divided by the number of positives"),
        "mean of everything": (mean_of_everything, "not their mean"),
        "not divided": (not_divided, "The box loss is divided"),
        "positives only": (positives_only, "Background RoIs have a class loss"),
        "no background": (objects_only, "background's logit belongs"),
        "sum of the classes": (class_loss_is_a_sum, "not their sum"),
        "overflow": (overflowing, "log_softmax"),
        "no gradient": (without_gradient, "backward() can start from"),
        "β forgotten": (default_beta, "lies on the line"),
        "NaN without positives": (nan_without_positives, "a mean over nothing"),
    },
    "check_detections": {
        "no background": (softmax_of_objects, "softmax first, then drop"),
        "best class only": (best_class_only, "the best class of a proposal only"),
        "labels from 0": (labels_from_zero, "A label is 0"),
        "another class's box": (next_class_s_box, "Each class got the other's box"),
        "no weights": (weights_forgotten, "want (10, 10, 5, 5)"),
        "not clipped": (not_clipped, "clip them"),
        "width and height": (sides_exchanged, "y to the height"),
        "boxes without area": (without_area, "Clipped it has no area"),
        "across classes": (across_classes, "both stay. NMS is within a class"),
        "no suppression": (no_suppression, "NMS leaves one of them"),
        "IoU of one half": (suppression_at_half, "NMS 0.3, 40: scores"),
        "cut before NMS": (cut_before_suppression, "you cut before NMS"),
        "not sorted": (class_after_class, "Best first over all classes"),
        "count of each class": (count_of_each_class, "for all classes together"),
        "shape of nothing": (shapeless_when_empty, "boxes [0, 4]"),
    },
    "check_repaired": {
        "unchanged": (as_it_was, "whose deltas meet which proposal"),
        "one of two bugs": (one_bug_left, "a second bug"),
        "not clipped any more": (not_clipped_any_more, "of five classes: scores"),
        "across classes": (repaired_across_classes, "both stay: labels"),
        "no suppression": (repaired_without_suppression, "then another object: boxes"),
    },
    "check_soft_nms": {
        "hard": (hard, "throws nothing away"),
        "linear": (linear, "1 − IoU is the linear rule"),
        "not squared": (not_squared, "The overlap is squared"),
        "σ ignored": (sigma_ignored, "The same with σ = 0.1"),
        "old scores": (old_scores, "These are the old scores"),
        "old order": (in_the_old_order, "Box 1 falls below box 2"),
        "lowered once": (lowered_once, "is lowered twice"),
        "minimum ignored": (minimum_ignored, "below the minimum of 0.05"),
        "in place": (in_place, "writes into its input"),
    },
}

EQUIVALENT = {
    "check_sample_rois": {
        "0.5, -0.5, False": "between and below are both less than 0, and both are background",
        "0.5, 0.5, True": "the best box of an object is the object itself, which is positive",
        "nonzero()[:, -1]": "of one dimension the first index is the last",
    },
    "check_repaired": {
        "scores >= 0.05": "no score is exactly 0.05",
        "keep_large(": "what has no area is not this exercise's subject",
    },
    "check_soft_nms": {"left[order] = -2": "below every minimum, as −1 is"},
}
