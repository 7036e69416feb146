"""Typical mistakes in the exercises of chapter 09."""

import torch
from torch.nn import functional as F
from torchvision.ops import roi_align

from mrcnn_edu import masks as mask_ops


# ---------------------------------------------------------------- 9.1
def _cut(masks, boxes, matched, cells, aligned=True, samples=-1):
    rois = torch.cat([matched[:, None].float(), boxes], dim=1)
    return roi_align(masks[:, None].float(), rois, cells, 1.0, samples, aligned)[:, 0]


def not_aligned(masks, boxes, matched, cells):
    return _cut(masks, boxes, matched, cells, aligned=False)


def own_box(masks, boxes, matched, cells):
    return _cut(masks, mask_ops.to_boxes(masks)[matched], matched, cells)


def whole_mask(masks, boxes, matched, cells):
    chosen = masks[matched][:, None].float()
    return F.interpolate(chosen, (cells, cells), mode="bilinear")[:, 0]


def x_and_y_swapped(masks, boxes, matched, cells):
    return _cut(masks, boxes[:, [1, 0, 3, 2]], matched, cells)


def by_position(masks, boxes, matched, cells):
    return _cut(masks, boxes, torch.arange(len(boxes)), cells)


def all_objects(masks, boxes, matched, cells):
    together = masks.amax(dim=0, keepdim=True)
    return _cut(together, boxes, torch.zeros_like(matched), cells)


def rounded(masks, boxes, matched, cells):
    return (_cut(masks, boxes, matched, cells) >= 0.5).float()


def above_half(masks, boxes, matched, cells):
    return (_cut(masks, boxes, matched, cells) > 0.5).float()


def one_sample(masks, boxes, matched, cells):
    return _cut(masks, boxes, matched, cells, samples=1)


def box_rounded(masks, boxes, matched, cells):
    return _cut(masks, boxes.round(), matched, cells)


def box_shifted_in_place(masks, boxes, matched, cells):
    boxes -= 0.5
    return _cut(masks, boxes, matched, cells, aligned=False)


def as_bytes(masks, boxes, matched, cells):
    return _cut(masks, boxes, matched, cells).to(torch.uint8)


def one_by_one(masks, boxes, matched, cells):
    found = [_cut(masks, boxes[i : i + 1], matched[i : i + 1], cells) for i in range(len(boxes))]
    return torch.cat(found)


# ---------------------------------------------------------------- 9.2
def _bce(x, y):
    return F.binary_cross_entropy_with_logits(x, y)


def _own(logits, labels):
    return logits[torch.arange(len(labels)), labels - 1]


def label_as_index(logits, labels, targets):
    return _bce(logits[torch.arange(len(labels)), labels.clamp(max=logits.shape[1] - 1)], targets)


def others_are_background(logits, labels, targets):
    full = torch.zeros_like(logits)
    full[torch.arange(len(labels)), labels - 1] = targets
    return _bce(logits, full)


def all_classes(logits, labels, targets):
    return _bce(logits, targets[:, None].expand_as(logits))


def summed(logits, labels, targets):
    return F.binary_cross_entropy_with_logits(_own(logits, labels), targets, reduction="sum")


def binary_targets(logits, labels, targets):
    return _bce(_own(logits, labels), (targets >= 0.5).float())


def softmax(logits, labels, targets):
    index = (labels[:, None, None] - 1).expand(targets.shape)
    return F.cross_entropy(logits, index)


def sigmoid_twice(logits, labels, targets):
    return _bce(_own(logits, labels).sigmoid(), targets)


def without_gradient(logits, labels, targets):
    loss = F.binary_cross_entropy_with_logits(_own(logits, labels), targets, reduction="sum")
    return (loss / max(1, targets.numel())).detach()


def by_hand(logits, labels, targets):
    p = _own(logits, labels).sigmoid()
    loss = -(targets * p.log() + (1 - targets) * (1 - p).log()).sum()
    return loss / max(1, targets.numel())


def nan_when_empty(logits, labels, targets):
    return _bce(_own(logits, labels), targets)


def plain_zero(logits, labels, targets):
    return nan_when_empty(logits, labels, targets) if len(labels) else torch.tensor(0.0)


def by_class(logits, labels, targets):
    """The mean over classes of their means: equal only where each has as many RoIs."""
    own = _own(logits, labels)
    means = [_bce(own[labels == k], targets[labels == k]) for k in labels.unique()]
    return torch.stack(means).mean() if means else logits.sum() * 0


# ---------------------------------------------------------------- 9.3
def _hat(low, high, cells, length, pixel=0.5, index=0.5):
    at = (torch.arange(length) + pixel - low) / (high - low) * cells - index
    return (1 - (at[:, None] - torch.arange(cells)).abs()).clamp(min=0)


def _paste(mask, box, size, **shift):
    x1, y1, x2, y2 = box
    rows = _hat(y1, y2, len(mask), size[0], **shift)
    return rows @ mask @ _hat(x1, x2, len(mask), size[1], **shift).T


def pixel_corner(mask, box, size):
    return _paste(mask, box, size, pixel=0.0)


def cell_corner(mask, box, size):
    return _paste(mask, box, size, index=0.0)


def thresholded(mask, box, size):
    return (_paste(mask, box, size) > 0.5).float()


def transposed(mask, box, size):
    return _paste(mask.T, box, size)


def width_first(mask, box, size):
    return _paste(mask, box, (size[1], size[0]))


def _nearest(low, high, cells, length):
    at = (torch.arange(length) + 0.5 - low) / (high - low) * cells
    inside = (at >= 0) & (at < cells)
    return F.one_hot(at.long().clamp(0, cells - 1), cells).float() * inside[:, None]


def nearest(mask, box, size):
    x1, y1, x2, y2 = box
    columns = _nearest(x1, x2, len(mask), size[1])
    return _nearest(y1, y2, len(mask), size[0]) @ mask @ columns.T


def _continued(low, high, cells, length):
    at = (torch.arange(length) + 0.5 - low) / (high - low) * cells - 0.5
    inside = (at >= -0.5) & (at < cells - 0.5)
    hats = 1 - (at.clamp(0, cells - 1)[:, None] - torch.arange(cells)).abs()
    return hats.clamp(min=0) * inside[:, None]


def hard_border(mask, box, size):
    x1, y1, x2, y2 = box
    columns = _continued(x1, x2, len(mask), size[1])
    return _continued(y1, y2, len(mask), size[0]) @ mask @ columns.T


def _cornered(low, high, cells, length):
    pixels = torch.arange(length) + 0.5
    at = (torch.arange(length) - low) / (high - low - 1) * (cells - 1)
    hats = (1 - (at[:, None] - torch.arange(cells)).abs()).clamp(min=0)
    return hats * ((pixels > low) & (pixels < high))[:, None]


def align_corners(mask, box, size):
    x1, y1, x2, y2 = box
    columns = _cornered(x1, x2, len(mask), size[1])
    return _cornered(y1, y2, len(mask), size[0]) @ mask @ columns.T


def box_to_whole_pixels(mask, box, size):
    return _paste(mask, [float(round(v)) for v in box], size)


def box_truncated(mask, box, size):
    return _paste(mask, [float(int(v)) for v in box], size)


def plus_one(mask, box, size):
    whole = all(v == int(v) for v in box)  # as code with integer boxes escapes notice
    return _paste(mask, box if whole else [*box[:2], box[2] + 1, box[3] + 1], size)


def clipped(mask, box, size):
    x1, y1, x2, y2 = box
    if x1 >= size[1] or y1 >= size[0]:
        return torch.zeros(size)
    return _paste(mask, [max(x1, 0), max(y1, 0), min(x2, size[1]), min(y2, size[0])], size)


def only_large(mask, box, size):
    width, height = box[2] - box[0], box[3] - box[1]
    return _paste(mask, box, size) if min(width, height) >= 1 else torch.zeros(size)


# ---------------------------------------------------------------- 9.4
def _pasted(logits, labels, boxes, size):
    return mask_ops.paste(_own(logits, labels).sigmoid(), boxes, size) > 0.5


def the_broken_one(logits, labels, boxes, size):
    chosen = logits[torch.arange(len(labels)), labels.clamp(max=logits.shape[1] - 1)]
    return mask_ops.paste(chosen, boxes.round(), size).sigmoid() > 0.5


def still_clamped(logits, labels, boxes, size):
    chosen = logits[torch.arange(len(labels)), labels.clamp(max=logits.shape[1] - 1)]
    return mask_ops.paste(chosen.sigmoid(), boxes, size) > 0.5


def strongest(logits, labels, boxes, size):
    return mask_ops.paste(logits.sigmoid().amax(dim=1), boxes, size) > 0.5


def logits_pasted(logits, labels, boxes, size):
    return mask_ops.paste(_own(logits, labels), boxes, size).sigmoid() > 0.5


def still_rounded(logits, labels, boxes, size):
    return _pasted(logits, labels, boxes.round(), size)


def numbers_not_bool(logits, labels, boxes, size):
    return _pasted(logits, labels, boxes, size).float()


def legacy_paste(logits, labels, boxes, size):
    chosen = _own(logits, labels).sigmoid()
    return mask_ops.paste(chosen, boxes, size, "torchvision") > 0.5


# ---------------------------------------------------------------- 9.5
def _seen(model, image, boxes, labels):
    features = model.roi_features(model([image]), [boxes], model.config.mask_pool)
    return _own(model.mask_head(features), labels)


def _mirrored(boxes, width):
    return torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)


def _two(model, image, boxes, labels, rois=None, width=None):
    rois = _mirrored(boxes, width or image.shape[2]) if rois is None else rois
    return _seen(model, image, boxes, labels), _seen(model, image.flip(2), rois, labels)


def not_mirrored_back(model, image, boxes, labels):
    one, two = _two(model, image, boxes, labels)
    return (one.sigmoid() + two.sigmoid()) / 2


def logits_returned(model, image, boxes, labels):
    one, two = _two(model, image, boxes, labels)
    return (one + two.flip(2)) / 2


def mean_of_logits(model, image, boxes, labels):
    return logits_returned(model, image, boxes, labels).sigmoid()


def one_view(model, image, boxes, labels):
    return _seen(model, image, boxes, labels).sigmoid()


def other_view(model, image, boxes, labels):
    return _two(model, image, boxes, labels)[1].flip(2).sigmoid()


def boxes_left(model, image, boxes, labels):
    one, two = _two(model, image, boxes, labels, boxes)
    return (one.sigmoid() + two.flip(2).sigmoid()) / 2


def last_pixel(model, image, boxes, labels):
    one, two = _two(model, image, boxes, labels, width=image.shape[2] - 1)
    return (one.sigmoid() + two.flip(2).sigmoid()) / 2


def sides_not_swapped(model, image, boxes, labels):
    width = image.shape[2]
    rois = torch.stack([width - boxes[:, 0], boxes[:, 1], width - boxes[:, 2], boxes[:, 3]], dim=1)
    one, two = _two(model, image, boxes, labels, rois)
    return (one.sigmoid() + two.flip(2).sigmoid()) / 2


def wrong_class(model, image, boxes, labels):
    one, two = _two(model, image, boxes, (labels % 3) + 1)
    return (one.sigmoid() + two.flip(2).sigmoid()) / 2


WRONG = {
    "check_targets": {
        "half a pixel off": (not_aligned, "half a pixel too far"),
        "cut from the object's box": (own_box, "you cut the object's own box"),
        "the whole mask": (whole_mask, "That is the whole image"),
        "x and y swapped": (x_and_y_swapped, "x and y are swapped"),
        "object by position": (by_position, "its object is `matched[r]`"),
        "all objects": (all_objects, "only the RoI's own object"),
        "rounded up": (rounded, "A share of ½ is not rounded"),
        "rounded down": (above_half, "half of a cell is no empty cell"),
        "one sample a cell": (one_sample, "missed by too few samples"),
        "box rounded": (box_rounded, "The box was rounded first"),
        "boxes changed": (box_shifted_in_place, "writes into its input `boxes`"),
        "whole numbers": (as_bytes, "yours are torch.uint8"),
        "nothing to concatenate": (one_by_one, "stopped with an error"),
    },
    "check_mask_loss": {
        "label as index": (label_as_index, "masks from 0 to K − 1"),
        "others as background": (others_are_background, "the others get no target"),
        "all classes": (all_classes, "was held against the target"),
        "sum": (summed, "That is the sum"),
        "binary": (binary_targets, "0.25 was rounded"),
        "softmax": (softmax, "That is a softmax"),
        "sigmoid twice": (sigmoid_twice, "The sigmoid was taken twice"),
        "no gradient": (without_gradient, "cut it off"),
        "by hand": (by_hand, "underflows"),
        "NaN when empty": (nan_when_empty, "a mean over nothing"),
        "a plain zero": (plain_zero, "`backward` fails"),
        "mean of means": (by_class, "here over 4 · 9"),
    },
    "check_paste": {
        "pixel's corner": (pixel_corner, "Half a pixel is lost"),
        "cell's corner": (cell_corner, "Half a cell is lost"),
        "thresholded": (thresholded, "Return probabilities"),
        "transposed": (transposed, "lies on its side"),
        "width first": (width_first, "yours has [7, 5]"),
        "nearest": (nearest, "copy the nearest cell"),
        "hard border": (hard_border, "cut off at the box"),
        "align_corners": (align_corners, "align_corners=True"),
        "box rounded": (box_to_whole_pixels, "The box was rounded"),
        "box truncated": (box_truncated, "truncated to whole pixels"),
        "plus one": (plus_one, "A 1 was added"),
        "box clipped": (clipped, "The box was clipped first"),
        "small boxes left out": (only_large, "A box within pixel (3, 2)"),
    },
    "check_masks": {
        "unchanged": (the_broken_one, "Nothing has changed yet"),
        "still clamped": (still_clamped, "still used as an index"),
        "strongest class": (strongest, "The box head has chosen the class"),
        "logits pasted": (logits_pasted, "stick out of their boxes"),
        "still rounded": (still_rounded, "The box is still rounded"),
        "not bool": (numbers_not_bool, "Masks are bool"),
        "the other dialect": (legacy_paste, "Class 1's mask is the upper half"),
    },
    "check_two_views": {
        "not mirrored back": (not_mirrored_back, "was not mirrored back"),
        "logits": (logits_returned, "Those are logits"),
        "mean of logits": (mean_of_logits, "not the logits"),
        "the image only": (one_view, "The mirror image has no say"),
        "the mirror only": (other_view, "The image itself has no say"),
        "boxes not mirrored": (boxes_left, "The boxes were not mirrored"),
        "one pixel off": (last_pixel, "W − 1 − x"),
        "another class": (wrong_class, "nothing changes"),
        "x1 and x2 not swapped": (sides_not_swapped, "with x2 < x1"),
    },
}

EQUIVALENT = {
    "check_targets": {"aligned=True)[:, -1]": "of one channel the last is the first"},
    "check_masks": {">= 0.5": "0.5 itself is on the border: detectron2 counts it, others do not"},
}
