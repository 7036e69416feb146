"""Typical mistakes in the exercises of chapter 19."""

import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss


# ---------------------------------------------------------------- 19.1
def _focal(logits, targets, alpha=0.25, gamma=2.0):
    truth = targets[:, None].expand_as(logits)
    return sigmoid_focal_loss(logits, truth, alpha, gamma).mean(dim=(2, 3))


def _dice(logits, targets, one=1.0):
    p, t = logits.sigmoid(), targets[:, None]
    total = p.sum(dim=(2, 3)) + t.sum(dim=(2, 3))
    return 1 - (2 * (p * t).sum(dim=(2, 3)) + one) / (total + one)


def one_to_one(logits, targets):
    return _focal(logits, targets) + _dice(logits, targets)


def without_alpha(logits, targets):
    return 20 * _focal(logits, targets, alpha=-1) + _dice(logits, targets)


def alpha_reversed(logits, targets):
    return 20 * _focal(logits, targets, alpha=0.75) + _dice(logits, targets)


def cross_entropy(logits, targets):
    return 20 * _focal(logits, targets, gamma=0) + _dice(logits, targets)


def not_squared(logits, targets):
    return 20 * _focal(logits, targets, gamma=1) + _dice(logits, targets)


def summed(logits, targets):
    return 20 * logits[0, 0].numel() * _focal(logits, targets) + _dice(logits, targets)


def dice_without_one(logits, targets):
    return 20 * _focal(logits, targets) + _dice(logits, targets, one=0.0)


def one_for_all(logits, targets):
    return (20 * _focal(logits, targets) + _dice(logits, targets)).mean().expand(logits.shape[:2])


def log_of_sigmoid(logits, targets):
    p, t = logits.sigmoid(), targets[:, None]
    right = p * t + (1 - p) * (1 - t)
    weight = 0.25 * t + 0.75 * (1 - t)
    focal = (-weight * (1 - right) ** 2 * right.log()).mean(dim=(2, 3))
    return 20 * focal + _dice(logits, targets)


def hard_dice(logits, targets):
    return 20 * _focal(logits, targets) + _dice((logits > 0) * 1000.0 - 500, targets)


def detached(logits, targets):
    return 20 * _focal(logits, targets) + _dice(logits.detach(), targets)


# ---------------------------------------------------------------- 19.2
def _best(losses, eligible):
    return losses.masked_fill(~eligible, torch.inf).min(dim=1).values


def _said(scores, ious, eligible):
    return ((scores - ious) ** 2)[eligible].mean()


def over_all_masks(losses, scores, ious, eligible):
    return losses.min(dim=1).values.mean() + _said(scores, ious, eligible)


def all_masks(losses, scores, ious, eligible):
    return losses[eligible].mean() + _said(scores, ious, eligible)


def score_inside(losses, scores, ious, eligible):
    return _best(losses + (scores - ious) ** 2, eligible).mean()


def no_score(losses, scores, ious, eligible):
    return _best(losses, eligible).mean() + 0 * scores.sum()


def all_scores(losses, scores, ious, eligible):
    return _best(losses, eligible).mean() + ((scores - ious) ** 2).mean()


def sum_of_prompts(losses, scores, ious, eligible):
    return _best(losses, eligible).sum() + _said(scores, ious, eligible)


def one_for_each(losses, scores, ious, eligible):
    return _best(losses, eligible)


def absolute(losses, scores, ious, eligible):
    return _best(losses, eligible).mean() + (scores - ious).abs()[eligible].mean()


def without_gradient(losses, scores, ious, eligible):
    return _best(losses.detach(), eligible).mean() + _said(scores, ious, eligible)


def times_zero(losses, scores, ious, eligible):
    return (losses * eligible).max(dim=1).values.mean() + _said(scores, ious, eligible)


# ---------------------------------------------------------------- 19.3
def _stable(logits, offset=1.0):
    inner = (logits > offset).sum(dim=(2, 3))
    outer = (logits > -offset).sum(dim=(2, 3))
    return inner / outer.clamp(min=1)


def _sorted(good, scores, descending=True):
    pairs = good.nonzero()
    return pairs[scores[good].argsort(descending=descending)]


def _good(logits, scores, least_score, least_stability, offset=1.0):
    good = (scores > least_score) & (_stable(logits, offset) >= least_stability)
    good[:, 0] = False
    return good


def with_mask_zero(logits, scores, least_score=0.88, least_stability=0.95):
    return _sorted((scores > least_score) & (_stable(logits) >= least_stability), scores)


def worst_first(logits, scores, least_score=0.88, least_stability=0.95):
    return _sorted(_good(logits, scores, least_score, least_stability), scores, descending=False)


def in_their_order(logits, scores, least_score=0.88, least_stability=0.95):
    return _good(logits, scores, least_score, least_stability).nonzero()


def on_probabilities(logits, scores, least_score=0.88, least_stability=0.95):
    good = _good(torch.where(logits == 0, 0.5, logits), scores, least_score, least_stability, 0.2)
    return _sorted(good, scores)


def either(logits, scores, least_score=0.88, least_stability=0.95):
    good = (scores > least_score) | (_stable(logits) >= least_stability)
    good[:, 0] = False
    return _sorted(good, scores)


def turned_over(logits, scores, least_score=0.88, least_stability=0.95):
    inner, outer = (logits > 1).sum(dim=(2, 3)), (logits > -1).sum(dim=(2, 3))
    good = (scores > least_score) & (outer / inner.clamp(min=1) >= least_stability)
    good[:, 0] = False
    return _sorted(good, scores)


def edges_count(logits, scores, least_score=0.88, least_stability=0.95):
    inner, outer = (logits >= 1).sum(dim=(2, 3)), (logits > -1).sum(dim=(2, 3))
    good = (scores > least_score) & (inner / outer.clamp(min=1) >= least_stability)
    good[:, 0] = False
    return _sorted(good, scores)


def the_best_of_each(logits, scores, least_score=0.88, least_stability=0.95):
    good = _good(logits, scores, least_score, least_stability)
    only = F.one_hot(scores.masked_fill(~good, -1).argmax(dim=1), scores.shape[1]).bool()
    return _sorted(good & only, scores)


# ---------------------------------------------------------------- 19.4
def _deepest(region):
    left = F.pad(region.float()[None], (1, 1, 1, 1))
    depth = torch.zeros_like(left)
    while left.any():
        depth = depth + left
        left = 1 - F.max_pool2d(1 - left, 3, stride=1, padding=1)
    return divmod(int(depth[0, 1:-1, 1:-1].argmax()), region.shape[1])


def _region(mask, target):
    wrong = mask != target
    return wrong if wrong.any() else target


def row_first(mask, target):
    y, x = _deepest(_region(mask, target))
    return y + 0.5, x + 0.5, int(target[y, x])


def pixel_index(mask, target):
    y, x = _deepest(_region(mask, target))
    return x, y, int(target[y, x])


def always_on(mask, target):
    y, x = _deepest(_region(mask, target))
    return x + 0.5, y + 0.5, 1


def label_of_the_mask(mask, target):
    y, x = _deepest(_region(mask, target))
    return x + 0.5, y + 0.5, int(mask[y, x])


def first_mistake(mask, target):
    y, x = _region(mask, target).nonzero()[0].tolist()
    return x + 0.5, y + 0.5, int(target[y, x])


def mean_of_mistakes(mask, target):
    y, x = _region(mask, target).nonzero().float().mean(dim=0).long().tolist()
    return x + 0.5, y + 0.5, int(target[y, x])


def missing_only(mask, target):
    missing = target & ~mask
    y, x = _deepest(missing if missing.any() else target)
    return x + 0.5, y + 0.5, int(target[y, x])


def open_border(mask, target):
    left = _region(mask, target).float()[None]
    depth = torch.zeros_like(left)
    for _ in range(20):
        depth = depth + left
        left = 1 - F.max_pool2d(1 - left, 3, stride=1, padding=1)
    y, x = divmod(int(depth[0].argmax()), mask.shape[1])
    return x + 0.5, y + 0.5, int(target[y, x])


def no_mistake_no_click(mask, target):
    y, x = _deepest(mask != target)
    return x + 0.5, y + 0.5, int(target[y, x])


WRONG = {
    "check_mask_loss": {
        "one to one": (one_to_one, "counts 20 times"),
        "no alpha": (without_alpha, "α is missing"),
        "alpha reversed": (alpha_reversed, "α is the wrong way round"),
        "cross-entropy": (cross_entropy, "plain cross-entropy"),
        "not squared": (not_squared, "is not squared"),
        "summed": (summed, "not their sum"),
        "dice without one": (dice_without_one, "Dice without the + 1"),
        "logarithm of a probability": (log_of_sigmoid, "take the logarithm from the logit"),
        "one number for all": (one_for_all, "Two masks with logits of ±200"),
        "dice of a bitmap": (hard_dice, "logits 0 and 2"),
        "no gradient": (detached, "The gradient of the sum"),
    },
    "check_prompt_loss": {
        "over all masks": (over_all_masks, "went over all four masks"),
        "all are pulled": (all_masks, "the average of both"),
        "score inside": (score_inside, "is inside the minimum"),
        "no score": (no_score, "The scores have no loss"),
        "all scores": (all_scores, "are in the mean"),
        "summed": (sum_of_prompts, "not their sum"),
        "not reduced": (one_for_each, "is one number"),
        "absolute": (absolute, "mean of the four squares"),
        "no gradient": (without_gradient, "No gradient reaches `mask_losses`"),
    },
    "check_survivors": {
        "mask 0": (with_mask_zero, "Mask 0 is among them"),
        "worst first": (worst_first, "The worst comes first"),
        "unsorted": (in_their_order, "in the order of the clicks"),
        "probabilities": (on_probabilities, "too close to the threshold"),
        "one is enough": (either, "Two clicks."),
        "only score and order": (edges_count, "A logit of just 1"),
    },
    "check_next_click": {
        "row first": (row_first, "x and y are exchanged"),
        "pixel index": (pixel_index, "not the centre of a pixel"),
        "always on": (always_on, "here 0, not 1"),
        "what the mask says": (label_of_the_mask, "here 1, not 0"),
        "first mistake": (first_mistake, "layers of mistakes"),
        "missing only": (missing_only, "sticks out on the left. There is no mistake"),
        "open border": (open_border, "sticks out on the left. Your click"),
        "no mistake": (no_mistake_no_click, "No mistake: click in the object"),
    },
}
OTHER = {
    "check_prompt_loss": [times_zero],
    "check_survivors": [turned_over, the_best_of_each],
    "check_next_click": [mean_of_mistakes],
}
EQUIVALENT = {
    "check_survivors": {
        "stable = inner / outer": "0 / 0 is not a number, and that is not at least anything",
    },
    "check_next_click": {
        "depth = torch.ones_like(left)": "one more everywhere moves no maximum",
        "(1, 1, 1, 2)": "the picture may have more than one row of nothing below it",
        "deepest = depth[-1,": "there is one map: the first is the last",
    },
}
