"""Typical mistakes in the exercises of chapter 00."""

import torch


def added(labels, masks):
    return (labels[:, None, None] * masks).sum(dim=0)


def numbers_of_objects(labels, masks):
    result = torch.zeros(masks.shape[1:], dtype=torch.long)
    for number, mask in enumerate(masks, start=1):
        result[mask] = number
    return result


def first_in_front(labels, masks):
    result = torch.zeros(masks.shape[1:], dtype=torch.long)
    for label, mask in zip(labels.flip(0), masks.flip(0), strict=True):
        result[mask] = label
    return result


def _boxes(masks, corners):
    boxes = torch.zeros(len(masks), 4)
    for box, mask in zip(boxes, masks, strict=True):
        x, y = mask.any(dim=0).nonzero()[:, 0], mask.any(dim=1).nonzero()[:, 0]
        if len(x):
            box[:] = torch.stack(corners(x, y)).float()
    return boxes


def without_the_last_pixel(masks):
    return _boxes(masks, lambda x, y: (x[0], y[0], x[-1], y[-1]))


def swapped(masks):
    return _boxes(masks, lambda x, y: (y[0], x[0], y[-1] + 1, x[-1] + 1))


def width_and_height(masks):
    return _boxes(masks, lambda x, y: (x[0], y[0], x[-1] + 1 - x[0], y[-1] + 1 - y[0]))


def background_may_win(logits):
    best = logits.softmax(dim=1).max(dim=1)
    return best.indices, best.values


def counted_from_zero(logits):
    best = logits.softmax(dim=1)[:, 1:].max(dim=1)
    return best.indices, best.values


def background_left_out(logits):
    best = logits[:, 1:].softmax(dim=1).max(dim=1)
    return best.indices + 1, best.values


def logits_returned(logits):
    best = logits[:, 1:].max(dim=1)
    return best.indices + 1, best.values


WRONG = {
    "check_semantic": {
        "labels added": (added, "labels were added"),
        "number instead of class": (numbers_of_objects, "holds its class"),
        "the first in front": (first_in_front, "the later one is in front"),
    },
    "check_mask_boxes": {
        "last pixel lost": (without_the_last_pixel, "it reaches to 6"),
        "x and y swapped": (swapped, "Rows and columns are swapped"),
        "width and height": (width_and_height, "two corners"),
    },
    "check_best_class": {
        "background may win": (background_may_win, "most likely background"),
        "labels from zero": (counted_from_zero, "count from 1"),
        "background out of the sum": (background_left_out, "softmax first"),
        "no softmax": (logits_returned, "logits are not yet"),
    },
}
