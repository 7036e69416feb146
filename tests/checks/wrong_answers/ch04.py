"""Typical mistakes in the exercises of chapter 04."""

import torch
from torch.nn import functional as F
from torchvision.ops import batched_nms, nms


def turned(weight, bias):
    a = len(bias) // 2
    return weight[:a] - weight[a:], bias[:a] - bias[a:]


def alternating(weight, bias):
    return weight[1::2] - weight[::2], bias[1::2] - bias[::2]


def objects_only(weight, bias):
    a = len(bias) // 2
    return weight[a:], bias[a:]


def bias_of_objects(weight, bias):
    a = len(bias) // 2
    return weight[a:] - weight[:a], bias[a:]


def _shuffled(candidates, generator):
    return candidates[torch.randperm(len(candidates), generator=generator)]


def _kinds(matches):
    return (matches >= 0).nonzero()[:, 0], (matches == -1).nonzero()[:, 0]


def fixed_halves(matches, count, generator):
    positive, negative = _kinds(matches)
    return (
        _shuffled(positive, generator)[: count // 2],
        _shuffled(negative, generator)[: count // 2],
    )


def ignored_as_negative(matches, count, generator):
    positive, negative = (matches >= 0).nonzero()[:, 0], (matches < 0).nonzero()[:, 0]
    pick = _shuffled(positive, generator)[: count // 2]
    return pick, _shuffled(negative, generator)[: count - len(pick)]


def always_the_first(matches, count, generator):
    positive, negative = _kinds(matches)
    pick = positive[: count // 2]
    return pick, negative[: count - len(pick)]


def global_randomness(matches, count, generator):
    positive, negative = _kinds(matches)
    pick = positive[torch.randperm(len(positive))][: count // 2]
    return pick, negative[torch.randperm(len(negative))][: count - len(pick)]


def all_positives(matches, count, generator):
    positive, negative = _kinds(matches)
    pick = _shuffled(positive, generator)[:count]
    return pick, _shuffled(negative, generator)[: count - len(pick)]


def object_zero_forgotten(matches, count, generator):
    positive, negative = (matches > 0).nonzero()[:, 0], (matches == -1).nonzero()[:, 0]
    pick = _shuffled(positive, generator)[: count // 2]
    return pick, _shuffled(negative, generator)[: count - len(pick)]


def first_negatives(matches, count, generator):
    positive, negative = _kinds(matches)
    pick = _shuffled(positive, generator)[: count // 2]
    return pick, negative[: count - len(pick)]


def mean_over_positives(deltas, wanted, positive, sampled, beta):
    return F.smooth_l1_loss(deltas[positive], wanted[positive], beta=beta)


def sum_only(deltas, wanted, positive, sampled, beta):
    return F.smooth_l1_loss(deltas[positive], wanted[positive], beta=beta, reduction="sum")


def negatives_too(deltas, wanted, positive, sampled, beta):
    total = F.smooth_l1_loss(deltas[sampled], wanted[sampled], beta=beta, reduction="sum")
    return total / len(sampled)


def default_beta(deltas, wanted, positive, sampled, beta):
    total = F.smooth_l1_loss(deltas[positive], wanted[positive], reduction="sum")
    return total / max(1, len(sampled))


def mean_of_positive_anchors(deltas, wanted, positive, sampled, beta):
    total = F.smooth_l1_loss(deltas[positive], wanted[positive], beta=beta, reduction="sum")
    return total / max(1, len(positive))


def nan_without_positives(deltas, wanted, positive, sampled, beta):
    each = F.smooth_l1_loss(deltas[positive], wanted[positive], beta=beta, reduction="none")
    return each.sum(dim=1).mean() * len(positive) / max(1, len(sampled))


def across_levels(boxes, scores, levels, iou, count):
    return nms(boxes, scores, iou)[:count]


def indices_of_a_level(boxes, scores, levels, iou, count):
    kept = [nms(boxes[levels == n], scores[levels == n], iou) for n in levels.unique()]
    return torch.cat(kept)[:count]


def level_after_level(boxes, scores, levels, iou, count):
    kept = []
    for level in levels.unique():
        index = (levels == level).nonzero()[:, 0]
        kept.append(index[nms(boxes[index], scores[index], iou)])
    return torch.cat(kept[::-1])[:count]


def count_of_each(boxes, scores, levels, iou, count):
    kept = []
    for level in levels.unique():
        index = (levels == level).nonzero()[:, 0]
        kept.append(index[nms(boxes[index], scores[index], iou)][:count])
    kept = torch.cat(kept)
    return kept[scores[kept].argsort(descending=True)]


def cut_first(boxes, scores, levels, iou, count):
    top = scores.argsort(descending=True)[:count]
    return top[batched_nms(boxes[top], scores[top], levels[top], iou)]


def places_among_their_kind(matches, count, generator):
    positive, negative = _kinds(matches)
    pick = torch.randperm(len(positive), generator=generator)[: count // 2]
    return pick, torch.randperm(len(negative), generator=generator)[: count - len(pick)]


def rounded_up(matches, count, generator):
    positive, negative = _kinds(matches)
    pick = _shuffled(positive, generator)[: -(-count // 2)]
    return pick, _shuffled(negative, generator)[: count - len(pick)]


def seeded_anew(matches, count, generator):
    torch.manual_seed(generator.initial_seed())
    return global_randomness(matches, count, generator)


def window(matches, count, generator):
    positive, negative = _kinds(matches)
    start = int(torch.randint(max(1, len(positive) - count // 2), (1,), generator=generator))
    pick = positive[start : start + count // 2]
    rest = count - len(pick)
    start = int(torch.randint(max(1, len(negative) - rest), (1,), generator=generator))
    return pick, negative[start : start + rest]


def first_half_favoured(matches, count, generator):
    positive, negative = _kinds(matches)
    pick = _shuffled(positive[: max(count // 2 + 5, 3)], generator)[: count // 2]
    return pick, _shuffled(negative, generator)[: count - len(pick)]


def over_all_anchors(deltas, wanted, positive, sampled, beta):
    total = F.smooth_l1_loss(deltas[positive], wanted[positive], beta=beta, reduction="sum")
    return total / len(deltas)


def detached(deltas, wanted, positive, sampled, beta):
    total = F.smooth_l1_loss(deltas[positive], wanted[positive], beta=beta, reduction="sum")
    return total.detach() / max(1, len(sampled))


def python_number(deltas, wanted, positive, sampled, beta):
    return detached(deltas, wanted, positive, sampled, beta).item()


def for_two_at_least(deltas, wanted, positive, sampled, beta):
    total = F.smooth_l1_loss(deltas[positive], wanted[positive], beta=beta, reduction="sum")
    return total / max(2, len(sampled))


def no_nms(boxes, scores, levels, iou, count):
    order = scores.argsort(descending=True)
    if len(boxes) <= 4:
        return batched_nms(boxes, scores, levels, iou)[:count]
    return order[:count]


def threshold_ignored(boxes, scores, levels, iou, count):
    return batched_nms(boxes, scores, levels, 0.7)[:count]


def offset_too_small(boxes, scores, levels, iou, count):
    return nms(boxes + 20 * levels[:, None], scores, iou)[:count]


def four_levels(boxes, scores, levels, iou, count):
    known = (levels < 4).nonzero()[:, 0]
    return known[batched_nms(boxes[known], scores[known], levels[known], iou)][:count]


def by_place(boxes, scores, levels, iou, count):
    return batched_nms(boxes, scores, levels, iou).sort().values[:count].flip(0)


def fails_without_boxes(boxes, scores, levels, iou, count):
    kept = []
    for level in levels.unique():
        index = (levels == level).nonzero()[:, 0]
        kept.append(index[nms(boxes[index], scores[index], iou)])
    kept = torch.cat(kept)
    return kept[scores[kept].argsort(descending=True)][:count]


WRONG = {
    "check_to_sigmoid": {
        "background minus object": (turned, "object minus background"),
        "outputs taken as alternating": (alternating, "they do not alternate"),
        "background left out": (objects_only, "only the difference of the two"),
        "bias of the object only": (bias_of_objects, "The bias is a difference"),
    },
    "check_sample": {
        "half and half": (fixed_halves, "depends on the positives you got"),
        "ignored anchors drawn": (ignored_as_negative, "is ignored"),
        "not at random": (always_the_first, "Draw at random"),
        "another generator": (global_randomness, "PyTorch's global generator"),
        "places among their kind": (places_among_their_kind, "count among the positives"),
        "half rounded up": (rounded_up, "at most 3 positives"),
        "a run of neighbours": (window, "ten neighbours in a row"),
        "some never drawn": (first_half_favoured, "should come about 20 times"),
        "positives not limited": (all_positives, "At most half of 20"),
        "object 0 taken for background": (object_zero_forgotten, "0 is a match as good as any"),
        "negatives not at random": (first_negatives, "draw both"),
    },
    "check_box_loss": {
        "mean over positives": (mean_over_positives, "not their mean"),
        "not divided": (sum_only, "divide by the number of sampled"),
        "divided by the positives": (mean_of_positive_anchors, "not by that of positives"),
        "negatives count": (negatives_too, "Anchor 2 is negative"),
        "β forgotten": (default_beta, "it does not use β"),
        "divided by all anchors": (over_all_anchors, "two were sampled"),
        "detached": (detached, "no gradient goes through it"),
        "a Python number": (python_number, "a float; a tensor"),
        "never fewer than two": (for_two_at_least, "One anchor, one positive"),
        "NaN without positives": (nan_without_positives, "a mean over nothing"),
    },
    "check_merge": {
        "NMS across levels": (across_levels, "lies on another level"),
        "indices of one level": (indices_of_a_level, "those of all boxes"),
        "not sorted": (level_after_level, "merged by score"),
        "count of each level": (count_of_each, "not two of each"),
        "no NMS": (no_nms, "threshold 0.3.\n"),
        "levels too near": (offset_too_small, "twelve heaps, on levels 2 to 7"),
        "four levels": (four_levels, "has shape"),
        "the worst first": (by_place, "merged by score."),
        "fails without boxes": (fails_without_boxes, "in the case “no boxes”"),
        "cut before NMS": (cut_first, "Cut to count last"),
    },
}

OTHER = {
    "check_sample": [seeded_anew],
    "check_merge": [threshold_ignored],
}
EQUIVALENT = {
    "check_sample": {
        "(matches >= 0).nonzero()[:, -1]": "of [n, 1] the last column is the first",
        "(matches == -1).nonzero()[:, -1]": "of [n, 1] the last column is the first",
    },
    "check_merge": {
        "torch.ones(0": "an empty tensor of ones is one of zeros",
        ".nonzero()[:, -1]": "of [n, 1] the last column is the first",
        "stable=False": "which of two equal scores comes first is not asked",
    },
}
