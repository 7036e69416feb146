"""Typical mistakes in the exercises of chapter 16."""

import torch
from torch.nn import functional as F

from mrcnn_edu.nn.keypoint_head import keypoint_targets


# ---------------------------------------------------------------- 16.1
def _cells(keypoints, boxes, size, *, cut=torch.floor, edge=True, seen=1, swap=False, inside=True):
    corner, far = boxes[:, None, :2], boxes[:, None, 2:]
    place = keypoints[..., :2]
    cell = cut((place - corner) / (far - corner) * size)
    if edge:
        cell = torch.where(place == far, size - 1, cell)
    counts = keypoints[..., 2] >= seen
    if inside:
        counts = counts & ((cell >= 0) & (cell < size)).all(dim=2)
    cell = torch.where(counts[..., None], cell, 0).long().clamp(0, size - 1)
    column, row = cell.unbind(2)
    return (column * size + row if swap else row * size + column), counts


def row_and_column_swapped(keypoints, boxes, size):
    return _cells(keypoints, boxes, size, swap=True)


def rounded(keypoints, boxes, size):
    return _cells(keypoints, boxes, size, cut=torch.round)


def cut_to_zero(keypoints, boxes, size):
    return _cells(keypoints, boxes, size, cut=torch.trunc)


def edge_lost(keypoints, boxes, size):
    return _cells(keypoints, boxes, size, edge=False)


def only_visible(keypoints, boxes, size):
    return _cells(keypoints, boxes, size, seen=2)


def unlabelled_too(keypoints, boxes, size):
    return _cells(keypoints, boxes, size, seen=0)


def moved_into_the_box(keypoints, boxes, size):
    corner, far = boxes[:, None, :2], boxes[:, None, 2:]
    cell = ((keypoints[..., :2] - corner) / (far - corner) * size).floor()
    counts = (keypoints[..., 2] > 0) & (cell >= 0).all(dim=2)
    cell = torch.where(counts[..., None], cell.clamp(max=size - 1), 0).long()
    return cell[..., 1] * size + cell[..., 0], counts


def everything_moved_into_the_box(keypoints, boxes, size):
    return _cells(keypoints, boxes, size, inside=False)


def square_cells(keypoints, boxes, size):
    boxes = boxes.clone()
    boxes[:, 3] = boxes[:, 1] + boxes[:, 2] - boxes[:, 0]
    return _cells(keypoints, boxes, size)


def corner_kept(keypoints, boxes, size):
    extent = (boxes[:, 2:] - boxes[:, :2])[:, None]
    cell = (keypoints[..., :2] / extent * size).floor()
    counts = ((cell >= 0) & (cell < size)).all(dim=2) & (keypoints[..., 2] > 0)
    cell = torch.where(counts[..., None], cell, 0).long()
    return cell[..., 1] * size + cell[..., 0], counts


def cells_of_all(keypoints, boxes, size):
    cells, counts = keypoint_targets(keypoints, boxes, size)
    return torch.where(counts, cells, -1), counts


def visibility_as_counts(keypoints, boxes, size):
    cells, counts = keypoint_targets(keypoints, boxes, size)
    return cells, counts * keypoints[..., 2]


def float_cells(keypoints, boxes, size):
    cells, counts = keypoint_targets(keypoints, boxes, size)
    return cells.float(), counts


def boxes_changed(keypoints, boxes, size):
    found = keypoint_targets(keypoints, boxes, size)
    boxes -= 0.5
    return found


# ---------------------------------------------------------------- 16.2
def _chosen(logits, counts):
    return logits.flatten(2)[counts]


def _right(logits, cells, counts):
    total = F.cross_entropy(_chosen(logits, counts), cells[counts], reduction="sum")
    return total / counts.sum().clamp(min=1)


def all_joints(logits, cells, counts):
    return F.cross_entropy(logits.flatten(2).flatten(0, 1), cells.flatten())


def summed(logits, cells, counts):
    return F.cross_entropy(_chosen(logits, counts), cells[counts], reduction="sum")


def by_all_joints(logits, cells, counts):
    return summed(logits, cells, counts) / max(1, counts.numel())


def by_cells(logits, cells, counts):
    return _right(logits, cells, counts) / logits.shape[-1] ** 2


def sigmoids(logits, cells, counts):
    chosen = _chosen(logits, counts)
    hot = F.one_hot(cells[counts], chosen.shape[1]).float()
    return F.binary_cross_entropy_with_logits(chosen, hot)


def softmax_twice(logits, cells, counts):
    return _right(logits.flatten(2).softmax(dim=2).unflatten(2, logits.shape[2:]), cells, counts)


def transposed(logits, cells, counts):
    return _right(logits.transpose(2, 3), cells, counts)


def over_joints(logits, cells, counts):
    p = -logits.flatten(2).log_softmax(dim=1)
    chosen = p.gather(2, cells[..., None])[..., 0] * counts
    return chosen.sum() / counts.sum().clamp(min=1)


def mean_of_means(logits, cells, counts):
    rows = [r for r in range(len(logits)) if counts[r].any()]
    if not rows:
        return logits.sum() * 0
    one = [_right(logits[r : r + 1], cells[r : r + 1], counts[r : r + 1]) for r in rows]
    return torch.stack(one).mean()


def without_gradient(logits, cells, counts):
    return _right(logits, cells, counts).detach()


def by_hand(logits, cells, counts):
    p = logits.flatten(2).softmax(dim=2).gather(2, cells[..., None])[..., 0]
    return -(p[counts].log()).sum() / counts.sum().clamp(min=1)


def nan_when_empty(logits, cells, counts):
    return F.cross_entropy(_chosen(logits, counts), cells[counts])


def plain_zero(logits, cells, counts):
    return _right(logits, cells, counts) if counts.any() else torch.tensor(0.0)


# ---------------------------------------------------------------- 16.3
def _decode(logits, box, *, mode="bicubic", pixel=0.5, round_up=torch.ceil, scale=True, **options):
    extent = (box[2:] - box[:2]).clamp(min=1)
    pixels = round_up(extent).clamp(min=1)
    width, height = (int(v) for v in pixels.tolist())
    maps = F.interpolate(logits[None], (height, width), mode=mode, **options)[0]
    best = maps.flatten(1).argmax(dim=1)
    cell = torch.stack([best % width, best // width], dim=1) + pixel
    return cell * (extent / pixels if scale else 1) + box[:2]


def places_swapped(logits, box):
    return _decode(logits, box).flip(1)


def cell_swapped(logits, box):
    return _decode(logits.transpose(1, 2), box)


def inside_the_box(logits, box):
    return _decode(logits, box) - box[:2]


def corner_of_pixel(logits, box):
    return _decode(logits, box, pixel=0)


def corner_of_cell(logits, box):
    side = logits.shape[-1]
    best = logits.flatten(1).argmax(dim=1)
    return torch.stack([best % side, best // side], dim=1) * (box[2:] - box[:2]) / side + box[:2]


def in_cells(logits, box):
    side = logits.shape[-1]
    best = logits.flatten(1).argmax(dim=1)
    return torch.stack([best % side, best // side], dim=1) + 0.5 + box[:2]


def centre_of_cell(logits, box):
    return corner_of_cell(logits, box) + (box[2:] - box[:2]) / logits.shape[-1] / 2


def bilinear(logits, box):
    return _decode(logits, box, mode="bilinear")


def aligned_corners(logits, box):
    return _decode(logits, box, align_corners=True)


def probabilities_resized(logits, box):
    p = logits.flatten(1).softmax(dim=1).unflatten(1, logits.shape[1:])
    return _decode(p, box)


def rounded_down(logits, box):
    return _decode(logits, box, round_up=torch.floor)


def rounded_to_nearest(logits, box):
    return _decode(logits, box, round_up=torch.round)


def not_scaled(logits, box):
    return _decode(logits, box, scale=False)


def box_rounded(logits, box):
    return _decode(logits, box.round())


def no_tiny_box(logits, box):
    extent = box[2:] - box[:2]
    width, height = (int(v) for v in extent.ceil().tolist())
    maps = F.interpolate(logits[None], (height, width), mode="bicubic")[0]
    best = maps.flatten(1).argmax(dim=1)
    cell = torch.stack([best % width, best // width], dim=1) + 0.5
    return cell * extent / extent.ceil() + box[:2]


# ---------------------------------------------------------------- 16.4
def unchanged(names):
    return list(range(len(names)))


def from_one(names):
    return [i + 1 for i in mirror_order(names)]


def mirror_order(names):
    flip = {"left_": "right_", "right_": "left_"}
    order = []
    for i, name in enumerate(names):
        for side, other in flip.items():
            if name.startswith(side):
                partner = other + name.removeprefix(side)
                if partner not in names:
                    raise ValueError(f"{name} has no {partner}")
                order.append(names.index(partner))
                break
        else:
            order.append(i)
    return order


def left_to_right_only(names):
    swapped = [n.replace("left_", "right_") for n in names]
    return [names.index(n) for n in swapped]


def right_to_left_only(names):
    swapped = [n.replace("right_", "left_") for n in names]
    return [names.index(n) for n in swapped]


def backwards(names):
    return list(range(len(names)))[::-1]


def neighbours(names):
    order = list(range(len(names)))
    for i in range(1, len(names) - 1, 2):
        order[i], order[i + 1] = i + 1, i
    return order


def names_not_numbers(names):
    return [names[i] for i in mirror_order(names)]


def pairs(names):
    return [(i, j) for i, j in enumerate(mirror_order(names)) if i < j]


def anywhere_in_the_word(names):
    def other(name):
        if "left" in name:
            return name.replace("left", "right")
        return name.replace("right", "left")

    found = [other(n) for n in names]
    return [names.index(n) if n in names else i for i, n in enumerate(found)]


def index_error(names):
    def other(name):
        if name.startswith("left_"):
            return "right_" + name[5:]
        return "left_" + name[6:] if name.startswith("right_") else name

    place = {n: i for i, n in enumerate(names)}
    return [place[other(n)] for n in names]


def silent(names):
    try:
        return mirror_order(names)
    except ValueError:
        return list(range(len(names)))


def says_nothing(names):
    try:
        return mirror_order(names)
    except ValueError:
        raise ValueError("wrong names") from None


# ---------------------------------------------------------------- 16.5
def _joints(logits, boxes, joints=False, square=False, corner=False):
    side = logits.shape[-1]
    p = logits.flatten(2)
    best = (p.softmax(dim=1) if joints else p).argmax(dim=2)
    cell = torch.stack([best % side, best // side], dim=2) + (0 if corner else 0.5)
    extent = boxes[:, 2:] - boxes[:, :2]
    if square:
        extent = extent.amax(dim=1, keepdim=True)
    return boxes[:, None, :2] + cell * (extent / side)[:, None]


def the_broken_one(logits, boxes):
    return _joints(logits, boxes, True, True, True)


def still_competing(logits, boxes):
    return _joints(logits, boxes, joints=True)


def still_square(logits, boxes):
    return _joints(logits, boxes, square=True)


def still_corner(logits, boxes):
    return _joints(logits, boxes, corner=True)


def centres_only(logits, boxes):
    return _joints(logits, boxes, joints=True, square=True)


def shape_only(logits, boxes):
    return _joints(logits, boxes, joints=True, corner=True)


def softmax_only(logits, boxes):
    return _joints(logits, boxes, square=True, corner=True)


def visibility_added(logits, boxes):
    found = _joints(logits, boxes)
    return torch.cat([found, torch.ones_like(found[..., :1])], dim=2)


# ---------------------------------------------------------------- 16.6
def _seen(model, image, boxes):
    return model.keypoint_head(
        model.roi_features(model([image]), [boxes], model.config.keypoint_pool)
    )


def _chances(logits):
    return logits.flatten(2).softmax(dim=2).unflatten(2, logits.shape[2:])


def _mirrored(boxes, width):
    return torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)


def _views(model, image, boxes, order, *, width=None, rois=None, back=True, names=True):
    rois = _mirrored(boxes, width or image.shape[2]) if rois is None else rois
    other = _seen(model, image.flip(2), rois)
    other = other.flip(3) if back else other
    return _seen(model, image, boxes), other[:, order] if names else other


def _mean(one, two):
    return (_chances(one) + _chances(two)) / 2


def names_kept(model, image, boxes, order):
    return _mean(*_views(model, image, boxes, order, names=False))


def not_mirrored_back(model, image, boxes, order):
    return _mean(*_views(model, image, boxes, order, back=False))


def neither(model, image, boxes, order):
    return _mean(*_views(model, image, boxes, order, back=False, names=False))


def boxes_left(model, image, boxes, order):
    return _mean(*_views(model, image, boxes, order, rois=boxes))


def last_pixel(model, image, boxes, order):
    return _mean(*_views(model, image, boxes, order, width=image.shape[2] - 1))


def sides_not_swapped(model, image, boxes, order):
    width = image.shape[2]
    rois = torch.stack([width - boxes[:, 0], boxes[:, 1], width - boxes[:, 2], boxes[:, 3]], dim=1)
    return _mean(*_views(model, image, boxes, order, rois=rois))


def logits_returned(model, image, boxes, order):
    one, two = _views(model, image, boxes, order)
    return (one + two) / 2


def mean_of_logits(model, image, boxes, order):
    return _chances(logits_returned(model, image, boxes, order))


def with_sigmoids(model, image, boxes, order):
    one, two = _views(model, image, boxes, order)
    return (one.sigmoid() + two.sigmoid()) / 2


def softmax_over_joints(model, image, boxes, order):
    one, two = _views(model, image, boxes, order)
    return (one.softmax(dim=1) + two.softmax(dim=1)) / 2


def sum_of_views(model, image, boxes, order):
    one, two = _views(model, image, boxes, order)
    return _chances(one) + _chances(two)


def one_view(model, image, boxes, order):
    return _chances(_seen(model, image, boxes))


def other_view(model, image, boxes, order):
    return _chances(_views(model, image, boxes, order)[1])


WRONG = {
    "check_cells": {
        "row and column swapped": (row_and_column_swapped, "Row and column are swapped"),
        "rounded": (rounded, "Round down"),
        "cut to 0": (cut_to_zero, "cut it to 0"),
        "right edge lost": (edge_lost, "exactly on the right edge is lost"),
        "hidden joints left out": (only_visible, "though hidden"),
        "unlabelled joints too": (unlabelled_too, "v = 0 is not labelled"),
        "moved into the box": (moved_into_the_box, "was moved into it"),
        "square cells": (square_cells, "not its width"),
        "corner not subtracted": (corner_kept, "is the corner subtracted"),
        "cells of −1": (cells_of_all, "The cell is 0 where"),
        "visibility": (visibility_as_counts, "expected torch.bool"),
        "float cells": (float_cells, "expected torch.int64"),
        "boxes changed": (boxes_changed, "writes into its input `boxes`"),
    },
    "check_keypoint_loss": {
        "all joints": (all_joints, "its cell 0 is no answer"),
        "sum": (summed, "That is the sum"),
        "by all joints": (by_all_joints, "not by all 3"),
        "by cells": (by_cells, "no division by M²"),
        "sigmoids": (sigmoids, "Those are sigmoids"),
        "softmax twice": (softmax_twice, "taken twice"),
        "transposed": (transposed, "Rows and columns are swapped"),
        "over joints": (over_joints, "The softmax runs over the joints"),
        "mean of means": (mean_of_means, "mean over RoIs of their means"),
        "no gradient": (without_gradient, "cut it off"),
        "by hand": (by_hand, "underflows"),
        "NaN when empty": (nan_when_empty, "a mean over nothing"),
        "a plain zero": (plain_zero, "`backward` fails"),
    },
    "check_decode": {
        "x and y swapped": (places_swapped, "x and y are swapped"),
        "row and column swapped": (cell_swapped, "Row and column are swapped"),
        "inside the box": (inside_the_box, "upper left corner has to be added"),
        "corner of the pixel": (corner_of_pixel, "the corner of the best pixel"),
        "corner of the cell": (corner_of_cell, "the corner of the best cell"),
        "in cells": (in_cells, "a place in cells"),
        "centre of the cell": (centre_of_cell, "the centre of the best cell"),
        "bilinear": (bilinear, "bilinear peaks"),
        "align_corners": (aligned_corners, "align_corners=True"),
        "probabilities": (probabilities_resized, "You resized probabilities"),
        "rounded down": (rounded_down, "rounded up, not down"),
        "rounded to the nearest": (rounded_to_nearest, "not to the nearest"),
        "not scaled": (not_scaled, "Scale by the box's width"),
        "box rounded": (box_rounded, "The box was rounded first"),
        "no tiny box": (no_tiny_box, "taken as at least 1"),
    },
    "check_mirror_order": {
        "unchanged": (unchanged, "Nothing has changed places"),
        "from 1": (from_one, "Count from 0"),
        "left to right only": (left_to_right_only, "right has to become left, too"),
        "right to left only": (right_to_left_only, "left has to become right, too"),
        "backwards": (backwards, "the list backwards"),
        "neighbours": (neighbours, "Neighbours were exchanged"),
        "names": (names_not_numbers, "Names came back"),
        "pairs": (pairs, "Pairs came back"),
        "anywhere in the word": (anywhere_in_the_word, "Only a name that begins"),
        "a KeyError": (index_error, "yours is a KeyError"),
        "silent": (silent, "go on silently"),
        "says nothing": (says_nothing, "which joint has no partner"),
    },
    "check_joints": {
        "unchanged": (the_broken_one, "Nothing has changed"),
        "still competing": (still_competing, "still compete"),
        "still square": (still_square, "still square"),
        "still the corner": (still_corner, "still the corner"),
        "centres only": (centres_only, "Centres are right now"),
        "shape only": (shape_only, "The cells' shape is right now"),
        "softmax only": (softmax_only, "its own softmax now"),
        "visibility": (visibility_added, "One person, two joints"),
    },
    "check_two_views": {
        "names kept": (names_kept, "put the maps into `order`"),
        "not mirrored back": (not_mirrored_back, "were not mirrored back"),
        "neither": (neither, "lie mirrored under the wrong names"),
        "boxes not mirrored": (boxes_left, "The boxes were not mirrored"),
        "one pixel off": (last_pixel, "W − 1 − x"),
        "x1 and x2 not swapped": (sides_not_swapped, "with x2 < x1"),
        "logits": (logits_returned, "Those are logits"),
        "mean of logits": (mean_of_logits, "not the logits"),
        "sigmoids": (with_sigmoids, "Those are sigmoids"),
        "softmax over joints": (softmax_over_joints, "The softmax runs over the joints"),
        "sum": (sum_of_views, "the sum of both views"),
        "the image only": (one_view, "The mirror image has no say"),
        "the mirror only": (other_view, "The image itself has no say"),
    },
}

OTHER = {"check_cells": [everything_moved_into_the_box]}

EQUIVALENT = {
    "check_cells": {
        "cell = (place - corner)": "inside the box, making an integer rounds down as floor does"
    },
    "check_decode": {"mode='bicubic')[-1]": "of one RoI the last is the first"},
    "check_joints": {"logits.shape[-2]": "a map is as high as wide"},
}
