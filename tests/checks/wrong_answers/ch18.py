"""Typical mistakes in the exercises of chapter 18."""

import math

import torch

from mrcnn_edu import boxes as box_ops
from mrcnn_edu import masks as mask_ops


# ---------------------------------------------------------------- 18.1
def _warp(features, box, size, half=0.5, middle=0.5, cut=False, swap=False):
    fraction = (torch.arange(size) + middle) / size
    x = box[0] * (1 - fraction) + box[2] * fraction - half
    y = box[1] * (1 - fraction) + box[3] * fraction - half
    left, top = x.detach().floor().long(), y.detach().floor().long()
    u, v = x - left, y - top
    if cut:
        u, v = u.detach(), v.detach()
    rows = features[:, top] * (1 - v)[:, None] + features[:, top + 1] * v[:, None]
    out = rows[:, :, left] * (1 - u) + rows[:, :, left + 1] * u
    return out.mT if swap else out


def without_half(features, box, size):
    return _warp(features, box, size, half=0)


def corner_of_bin(features, box, size):
    return _warp(features, box, size, middle=0.0 if size > 1 else 0.5)


def warp_transposed(features, box, size):
    return _warp(features, box, size, swap=True)


def weights_detached(features, box, size):
    return _warp(features, box, size, cut=True)


def box_as_numbers(features, box, size):
    return _warp(features, torch.tensor(box.tolist()), size)


# ---------------------------------------------------------------- 18.2
def everybody_votes(kept, boxes, scores, masks):
    weights = scores / scores.sum()
    return (weights[:, None, None] * (masks >= 0.4).float()).sum(dim=0) >= 0.4


def probabilities(kept, boxes, scores, masks):
    weights = scores * (box_ops.iou(boxes[[kept]], boxes)[0] >= 0.5)
    return ((weights / weights.sum())[:, None, None] * masks).sum(dim=0) >= 0.4


def normalised_before(kept, boxes, scores, masks):
    weights = scores / scores.sum() * (box_ops.iou(boxes[[kept]], boxes)[0] >= 0.5)
    return (weights[:, None, None] * (masks >= 0.4).float()).sum(dim=0) >= 0.4


def equal_votes(kept, boxes, scores, masks):
    near = box_ops.iou(boxes[[kept]], boxes)[0] >= 0.5
    return (masks[near] >= 0.4).float().mean(dim=0) >= 0.4


def the_mean_itself(kept, boxes, scores, masks):
    weights = scores * (box_ops.iou(boxes[[kept]], boxes)[0] >= 0.5)
    return ((weights / weights.sum())[:, None, None] * (masks >= 0.4).float()).sum(dim=0)


# ---------------------------------------------------------------- 18.3
def _pool(maps, box, bins, cells, cell, edges=(math.floor, math.ceil), layout="channels"):
    if layout == "channels":
        by_cell = maps.unflatten(0, (-1, cells, cells))
    else:
        by_cell = maps.unflatten(0, (cells, cells, -1)).movedim(2, 0)
    out = maps.new_zeros(len(by_cell), bins, bins)
    x1, y1, x2, y2 = box.tolist()
    for q in range(bins):
        for p in range(bins):
            top, bottom = (max(0, f(y1 + (q + i) * (y2 - y1) / bins)) for i, f in enumerate(edges))
            left, right = (max(0, f(x1 + (p + i) * (x2 - x1) / bins)) for i, f in enumerate(edges))
            i, j = cell(q), cell(p)
            window = by_cell[:, i, j, top:bottom, left:right]
            if window.numel():
                out[:, q, p] = window.mean(dim=(1, 2))
    return out


def modulo(maps, box, bins, cells):
    return _pool(maps, box, bins, cells, lambda p: p % cells)


def transposed(maps, box, bins, cells):
    return _pool(maps, box, bins, cells, lambda p: p * cells // bins).mT


def all_maps(maps, box, bins, cells):
    return _pool(maps.unflatten(0, (-1, cells**2)).mean(dim=1), box, bins, 1, lambda p: 0)


def rounded_bins(maps, box, bins, cells):
    return _pool(maps, box, bins, cells, lambda p: p * cells // bins, (round, round))


def cells_first(maps, box, bins, cells):
    return _pool(maps, box, bins, cells, lambda p: p * cells // bins, layout="cells")


def not_a_number(maps, box, bins, cells):
    by_cell = maps.unflatten(0, (-1, cells, cells))
    out = maps.new_zeros(len(by_cell), bins, bins)
    x1, y1, x2, y2 = box.tolist()
    for q in range(bins):
        for p in range(bins):
            y = [y1 + (q + i) * (y2 - y1) / bins for i in (0, 1)]
            x = [x1 + (p + i) * (x2 - x1) / bins for i in (0, 1)]
            rows = slice(max(0, math.floor(y[0])), max(0, math.ceil(y[1])))
            columns = slice(max(0, math.floor(x[0])), max(0, math.ceil(x[1])))
            window = by_cell[:, q * cells // bins, p * cells // bins, rows, columns]
            out[:, q, p] = window.mean(dim=(1, 2))
    return out


def pool_without_gradient(maps, box, bins, cells):
    return _pool(maps.detach(), box, bins, cells, lambda p: p * cells // bins)


# ---------------------------------------------------------------- 18.4
def _mask(inside, outside, logits):
    best = logits[:, 1:].argmax(dim=1) + 1
    rows = torch.arange(len(best))
    return (inside[rows, best] - outside[rows, best]).sigmoid()


def _joint(inside, outside):
    return torch.maximum(inside, outside).mean(dim=(2, 3))


def inside_only(inside, outside):
    logits = inside.mean(dim=(2, 3))
    return logits, _mask(inside, outside, logits)


def summed_scores(inside, outside):
    logits = (inside + outside).mean(dim=(2, 3))
    return logits, _mask(inside, outside, logits)


def mean_before_max(inside, outside):
    logits = torch.maximum(inside.mean(dim=(2, 3)), outside.mean(dim=(2, 3)))
    return logits, _mask(inside, outside, logits)


def background_too(inside, outside):
    logits = _joint(inside, outside)
    best, rows = logits.argmax(dim=1), torch.arange(len(logits))
    return logits, (inside[rows, best] - outside[rows, best]).sigmoid()


def swapped(inside, outside):
    logits = _joint(inside, outside)
    return logits, 1 - _mask(inside, outside, logits)


def sigmoid_of_inside(inside, outside):
    logits = _joint(inside, outside)
    return logits, _mask(inside, torch.zeros_like(outside), logits)


def by_exponentials(inside, outside):
    logits = _joint(inside, outside)
    best, rows = logits[:, 1:].argmax(dim=1) + 1, torch.arange(len(logits))
    a, b = inside[rows, best].exp(), outside[rows, best].exp()
    return logits, a / (a + b)


# ---------------------------------------------------------------- 18.5
def _boxes(boxes, factor):
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    return torch.cat([centre - factor * half, centre + factor * half], dim=1)


def _views(model, image, boxes, labels, factors=(1.0, 1.15, 1.3), own=False):
    maps, found = model.position_maps(model([image])), []
    for factor in factors:
        rois = _boxes(boxes, factor)
        masks = model.read(maps, [rois]).mask_logits(labels).sigmoid()
        found.append(mask_ops.paste(masks, boxes if own else rois, tuple(image.shape[1:])))
    return torch.stack(found)


def once(model, image, boxes, labels):
    return _views(model, image, boxes, labels, (1.0,)).mean(dim=0)


def pasted_into_the_box(model, image, boxes, labels):
    return _views(model, image, boxes, labels, own=True).mean(dim=0)


def added_up(model, image, boxes, labels):
    return _views(model, image, boxes, labels).sum(dim=0)


def class_before(model, image, boxes, labels):
    return _views(model, image, boxes, labels - 1).mean(dim=0)


def largest(model, image, boxes, labels):
    return _views(model, image, boxes, labels).amax(dim=0)


WRONG = {
    "check_pool": {
        "modulo": (modulo, "modulo k"),
        "transposed": (transposed, "Rows and columns are swapped"),
        "all maps": (all_maps, "the mean of all four maps"),
        "rounded bins": (rounded_bins, "floor where it"),
        "cells first": (cells_first, "cell by cell"),
        "not a number": (not_a_number, "not numbers"),
        "pool without gradient": (pool_without_gradient, "no gradient"),
    },
    "check_verdict": {
        "inside only": (inside_only, "inside score alone"),
        "summed scores": (summed_scores, "sum of both"),
        "mean before max": (mean_before_max, "the mean first"),
        "background too": (background_too, "background's mask"),
        "swapped": (swapped, "swapped"),
        "sigmoid of inside": (sigmoid_of_inside, "sigmoid of the inside score"),
        "by exponentials": (by_exponentials, "overflows"),
    },
    "check_warp": {
        "without half": (without_half, "j + ½"),
        "corner of bin": (corner_of_bin, "upper left corner"),
        "warp transposed": (warp_transposed, "Rows and columns are swapped"),
        "weights detached": (weights_detached, "does not depend on the box"),
    },
    "check_vote": {
        "everybody votes": (everybody_votes, "All RoIs vote"),
        "probabilities": (probabilities, "average probabilities"),
        "normalised before": (normalised_before, "sum to 1"),
        "the mean itself": (the_mean_itself, "true and false"),
    },
    "check_grown": {
        "once": (once, "read once"),
        "pasted into the box": (pasted_into_the_box, "pasted where it was read"),
        "added up": (added_up, "divide by three"),
        "class before": (class_before, "class before"),
    },
}

OTHER = {
    "check_warp": [box_as_numbers],
    "check_vote": [equal_votes],
    "check_grown": [largest],
}

EQUIVALENT = {
    "check_warp": {
        "detach().long()": "all samples lie on the map: cutting off decimals is the floor",
    },
    "check_vote": {"boxes)[-1] >= 0.5": "of one row the last is the first"},
}
