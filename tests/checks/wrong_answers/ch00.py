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


def the_mask_of_the_last(labels, masks):
    order = torch.arange(1, len(labels) + 1)[:, None, None]  # fails without objects
    best = (order * masks).max(dim=0)
    return torch.where(best.values > 0, labels[best.indices], 0)


def as_floats(labels, masks):
    result = torch.zeros(masks.shape[1:])
    for label, mask in zip(labels, masks, strict=True):
        result[mask] = float(label)
    return result


def _place(index, sizes, per_cell, start=2, by_height=False):
    for level, (height, width) in enumerate(sizes, start=start):
        count = height * width * per_cell
        if index < count:
            cell, anchor = divmod(index, per_cell)
            return level, *divmod(cell, height if by_height else width), anchor
        index -= count
    raise IndexError(index)


def levels_from_zero(index, sizes, per_cell):
    return _place(index, sizes, per_cell, start=0)


def one_long_level(index, sizes, per_cell):
    cell, anchor = divmod(index, per_cell)
    return 2, *divmod(cell, sizes[0][1]), anchor


def rows_of_the_height(index, sizes, per_cell):
    return _place(index, sizes, per_cell, by_height=True)


def column_by_column(index, sizes, per_cell):
    level, row, column, anchor = _place(index, sizes, per_cell)
    height, width = sizes[level - 2]
    column, row = divmod(row * width + column, height)
    return level, row, column, anchor


def anchor_by_anchor(index, sizes, per_cell):
    height, width = sizes[0]
    anchor, cell = divmod(index, height * width)
    return 2, *divmod(cell, width), anchor


def not_counted_from_the_level(index, sizes, per_cell):
    before = 0
    for level, (height, width) in enumerate(sizes, start=2):
        before += height * width * per_cell
        if index < before:
            cell, anchor = divmod(index, per_cell)
            return level, *divmod(cell, width), anchor
    raise IndexError(index)


def background_may_win(logits):
    best = logits.softmax(dim=1).max(dim=1)
    return best.indices, best.values


def counted_from_zero(logits):
    best = logits.softmax(dim=1)[:, 1:].max(dim=1)
    return best.indices, best.values


def background_left_out(logits):
    best = logits[:, 1:].softmax(dim=1).max(dim=1)
    return best.indices + 1, best.values


def sigmoid_of_each(logits):
    best = logits.sigmoid()[:, 1:].max(dim=1)
    return best.indices + 1, best.values


def softmax_over_proposals(logits):
    label = background_left_out(logits)[0]
    return label, logits.softmax(dim=0).gather(1, label[:, None])[:, 0]


def probabilities_first(logits):
    best = logits.softmax(dim=1)[:, 1:].max(dim=1)
    return best.values, best.indices + 1


def overwritten(logits):
    logits -= logits.logsumexp(dim=1, keepdim=True)
    best = logits.exp()[:, 1:].max(dim=1)
    return best.indices + 1, best.values


def any_object(logits):
    return background_left_out(logits)[0], 1 - logits.softmax(dim=1)[:, 0]


def logits_returned(logits):
    best = logits[:, 1:].max(dim=1)
    return best.indices + 1, best.values


WRONG = {
    "check_semantic": {
        "labels added": (added, "labels were added"),
        "number instead of class": (numbers_of_objects, "holds its class"),
        "fails without objects": (the_mask_of_the_last, "in the case “no objects”"),
        "floats": (as_floats, "expected torch.int64"),
        "the first in front": (first_in_front, "the later one is in front"),
    },
    "check_place": {
        "levels from zero": (levels_from_zero, "levels count from 2"),
        "anchor by anchor": (anchor_by_anchor, "all anchors of a cell"),
        "column by column": (column_by_column, "row by row"),
        "rows of the height": (rows_of_the_height, "divide by the width"),
        "one long level": (one_long_level, "is not on it"),
        "not counted from the level": (not_counted_from_the_level, "from its own 0"),
    },
    "check_best_class": {
        "background may win": (background_may_win, "most likely background"),
        "labels from zero": (counted_from_zero, "count from 1"),
        "background out of the sum": (background_left_out, "softmax first"),
        "a sigmoid": (sigmoid_of_each, "is a sigmoid"),
        "softmax over the proposals": (softmax_over_proposals, "over the proposals"),
        "any object": (any_object, "that of any object"),
        "overwrites the logits": (overwritten, "writes into its input `logits`"),
        "in the wrong order": (probabilities_first, "labels first"),
        "no softmax": (logits_returned, "logits are not yet"),
    },
}
