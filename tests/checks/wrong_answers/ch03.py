"""Wrong answers to the exercises of Chapter 03: each is caught with a message of its own."""

import torch

from mrcnn_edu.anchors import cell_anchors, grid_anchors
from mrcnn_edu.boxes import iou
from mrcnn_edu.matching import BELOW, BETWEEN, match


def ratios_as_width_over_height(sizes, ratios):
    return cell_anchors(sizes, [1 / r for r in ratios], rounding="none")


def ratios_that_change_the_area(sizes, ratios):
    sides = torch.tensor([(s, s * r) for r in ratios for s in sizes])
    return torch.cat((-sides / 2, sides / 2), dim=1)


def anchors_from_the_corner(sizes, ratios):
    anchors = cell_anchors(sizes, ratios, rounding="none")
    return anchors - anchors[:, [0, 1, 0, 1]]


def anchors_size_by_size(sizes, ratios):
    return torch.cat([cell_anchors((s,), ratios, rounding="none") for s in sizes])


def anchors_rounded(sizes, ratios):
    return cell_anchors(sizes, ratios)


def grid_half_a_stride_inside(cell, feature_size, stride):
    y, x = stride[0] / 2, stride[1] / 2
    return grid_anchors(cell, feature_size, stride) + torch.tensor([x, y, x, y])


def grid_with_strides_swapped(cell, feature_size, stride):
    return grid_anchors(cell, feature_size, stride[::-1])


def grid_by_columns(cell, feature_size, stride):
    height, width = feature_size
    grid = grid_anchors(cell, feature_size, stride)
    return grid.reshape(height, width, -1, 4).transpose(0, 1).flatten(0, 2)


def grid_anchor_by_anchor(cell, feature_size, stride):
    grid = grid_anchors(cell, feature_size, stride)
    return grid.reshape(-1, len(cell), 4).transpose(0, 1).flatten(0, 1)


def grid_of_width_and_height(cell, feature_size, stride):
    return grid_anchors(cell, feature_size[::-1], stride)


def grid_not_flattened(cell, feature_size, stride):
    return grid_anchors(cell, feature_size, stride).reshape(*feature_size, len(cell), 4)


def coverage_of_anchors(gt_boxes, anchors, threshold):
    return (iou(gt_boxes, anchors).amax(0) >= threshold).float().mean()


def coverage_of_pairs(gt_boxes, anchors, threshold):
    return (iou(gt_boxes, anchors) >= threshold).float().mean()


def coverage_as_a_mean(gt_boxes, anchors, threshold):
    return iou(gt_boxes, anchors).amax(1).mean()


def coverage_above(gt_boxes, anchors, threshold):
    return (iou(gt_boxes, anchors).amax(1) > threshold).float().mean()


def match_without_the_rule(gt_boxes, boxes, fg_iou, bg_iou):
    return match(gt_boxes, boxes, fg_iou, bg_iou, allow_low_quality=False)


def match_without_between(gt_boxes, boxes, fg_iou, bg_iou):
    return match(gt_boxes, boxes, fg_iou, fg_iou, allow_low_quality=True)


def _match(gt_boxes, boxes, fg_iou, bg_iou, ties=True, own=True, lost=False, empty=True, at=True):
    if empty and len(gt_boxes) == 0:
        return torch.full((len(boxes),), BELOW)
    overlap = iou(gt_boxes, boxes)
    best, owner = overlap.max(dim=0)
    positive = best >= fg_iou if at else best > fg_iou
    matches = torch.where(best < bg_iou, BELOW, BETWEEN)
    matches[positive] = owner[positive]
    for g, row in enumerate(overlap):
        if row.max() == 0 and not lost:
            continue
        good = (row == row.max()).nonzero()[:, 0] if ties else row.argmax()[None]
        matches[good] = owner[good] if own else g
    return matches


def match_of_the_first(gt_boxes, boxes, fg_iou, bg_iou):
    return _match(gt_boxes, boxes, fg_iou, bg_iou, ties=False)


def match_to_the_object_that_asked(gt_boxes, boxes, fg_iou, bg_iou):
    flipped = _match(gt_boxes.flip(0), boxes, fg_iou, bg_iou, own=False)  # object 0 asks last
    return torch.where(flipped >= 0, len(gt_boxes) - 1 - flipped, flipped)


def match_of_lost_objects(gt_boxes, boxes, fg_iou, bg_iou):
    return _match(gt_boxes, boxes, fg_iou, bg_iou, lost=True)


def match_of_nothing(gt_boxes, boxes, fg_iou, bg_iou):
    return _match(gt_boxes, boxes, fg_iou, bg_iou, empty=False)


def grid_of_whole_numbers(cell, feature_size, stride):
    return grid_anchors(cell.long(), feature_size, stride).float()


def grid_in_place(cell, feature_size, stride):
    cell += 0.5
    return grid_anchors(cell, feature_size, stride)


def coverage_of_each(gt_boxes, anchors, threshold):
    return iou(gt_boxes, anchors).amax(1) >= threshold


def coverage_as_a_count(gt_boxes, anchors, threshold):
    return (iou(gt_boxes, anchors).amax(1) >= threshold).sum()


WRONG = {
    "check_cell_anchors": {
        "takes width over height": (ratios_as_width_over_height, "a ratio is height over width"),
        "changes the area": (ratios_that_change_the_area, "every ratio keeps 32²"),
        "begins at the corner": (anchors_from_the_corner, "begins at (0, 0)"),
        "goes size by size": (anchors_size_by_size, "The order"),
        "rounds": (anchors_rounded, "rounded to whole pixels"),
    },
    "check_grid": {
        "centres the cell": (grid_half_a_stride_inside, "half a stride inside"),
        "swaps the strides": (grid_with_strides_swapped, "the stride is (y, x)"),
        "goes down first": (grid_by_columns, "not below it"),
        "goes anchor by anchor": (grid_anchor_by_anchor, "one after the other"),
        "takes (W, H)": (grid_of_width_and_height, "feature_size is (H, W)"),
        "cuts to whole numbers": (grid_of_whole_numbers, "lost their halves"),
        "moves the cell itself": (grid_in_place, "writes into its input `cell`"),
        "keeps four axes": (grid_not_flattened, "are 12 boxes"),
    },
    "check_coverage": {
        "counts anchors": (coverage_of_anchors, "share of anchors that lie well"),
        "counts pairs": (coverage_of_pairs, "share of all pairs"),
        "gives one for each object": (coverage_of_each, "not yet a share"),
        "counts the objects": (coverage_as_a_count, "number of covered objects"),
        "takes the mean": (coverage_as_a_mean, "mean of the best overlaps"),
        "asks for more than the threshold": (coverage_above, "exactly 0.5 counts"),
    },
    "check_anchor_sizes": {
        "takes those for COCO": (lambda: (32, 64, 128, 256, 512), "begin smaller"),
        "stops too early": (lambda: (8, 12, 16, 20, 24), "end larger"),
        "begins with the largest": (lambda: (150, 96, 60, 30, 15), "P2 first"),
        "leaves a gap": (lambda: (14, 15, 16, 100, 150), "Look for a gap"),
        "gives three": (lambda: (16, 32, 64), "One size for each"),
    },
    "check_match": {
        "forgets the low-quality rule": (match_without_the_rule, "Object 1 has no box at all"),
        "knows no between": (match_without_between, "neither positive nor negative"),
        "takes the first of equals": (match_of_the_first, "Both become positive"),
        "gives it to the object that asked": (match_to_the_object_that_asked, "*its own*"),
        "matches what overlaps nothing": (match_of_lost_objects, "overlaps no box"),
        "fails without objects": (match_of_nothing, "in the case “no objects”"),
    },
}

EQUIVALENT = {
    "check_anchor_sizes": {
        "return (": "sizes one pixel off cover 96 % as well: any that do are right",
    },
}
