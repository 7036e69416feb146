"""Wrong answers to the exercises of Chapter 01: each is caught with a message of its own."""

import math

import torch

from mrcnn_edu import boxes as box_ops


def box_of_last_pixels(mask):
    rows, columns = mask.nonzero(as_tuple=True)
    return torch.stack([columns.min(), rows.min(), columns.max(), rows.max()]).float()


def box_with_axes_swapped(mask):
    rows, columns = mask.nonzero(as_tuple=True)
    return torch.stack([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]).float()


def box_as_xywh(mask):
    rows, columns = mask.nonzero(as_tuple=True)
    x, y = columns.min(), rows.min()
    return torch.stack([x, y, columns.max() + 1 - x, rows.max() + 1 - y]).float()


def box_without_the_empty_case(mask):
    rows, columns = mask.nonzero(as_tuple=True)
    return torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()


def box_of_whole_numbers(mask):
    return box_ends(mask, lambda places: (places.min(), places.max() + 1)).long()


def box_of_the_first_and_last(mask):
    return box_ends(mask, lambda places: (places[0], places[-1] + 1))


def box_ends(mask, ends):
    rows, columns = mask.nonzero(as_tuple=True)
    if len(rows) == 0:
        return torch.zeros(4)
    (x1, x2), (y1, y2) = ends(columns), ends(rows)
    return torch.stack([x1, y1, x2, y2]).float()


def flip_of_pixel_numbers(boxes, width):
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((width - 1 - x2, y1, width - 1 - x1, y2), dim=-1)


def flip_without_swapping(boxes, width):
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((width - x1, y1, width - x2, y2), dim=-1)


def flip_in_place(boxes, width):
    x1, x2 = boxes[..., 0].clone(), boxes[..., 2].clone()
    boxes[..., 0], boxes[..., 2] = width - x2, width - x1
    return boxes


def flip_of_both_axes(boxes, width):
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((width - x2, width - y2, width - x1, width - y1), dim=-1)


def _iou(a, b, plus=0.0, clamp=True, union="both", safe=True):
    sides = torch.minimum(a[:, None, 2:], b[None, :, 2:]) - torch.maximum(
        a[:, None, :2], b[None, :, :2]
    )
    sides = (sides + plus).clamp(min=0) if clamp else sides + plus
    shared = sides.prod(-1)
    area_a, area_b = ((c[:, 2:] - c[:, :2] + plus).prod(-1) for c in (a, b))
    whole = area_a[:, None] + area_b[None, :]
    if union == "both":
        whole = whole - shared
    if union == "first":
        whole = area_a[:, None].expand_as(shared)
    return torch.where(whole > 0, shared / whole, 0.0) if safe else shared / whole


def iou_plus_one(a, b):
    return _iou(a, b, plus=1.0)


def iou_with_the_shared_part_counted_twice(a, b):
    return _iou(a, b, union="sum")


def iou_as_a_share_of_the_first(a, b):
    return _iou(a, b, union="first")


def iou_without_clamp(a, b):
    return _iou(a, b, clamp=False)


def iou_with_nan(a, b):
    return _iou(a, b, safe=False)


def iou_of_corresponding_boxes(a, b):
    return torch.diagonal(_iou(a, b))


LIMIT = math.log(1000 / 16)


def _decode(deltas, anchors, weights, order="divide", limit=True, low=None, corner=False):
    w, h = anchors[..., 2] - anchors[..., 0], anchors[..., 3] - anchors[..., 1]
    scale = torch.tensor(weights)
    if order == "clamp first":
        deltas = torch.cat((deltas[..., :2], deltas[..., 2:].clamp(max=LIMIT)), dim=-1)
    dx, dy, dw, dh = (deltas * scale if order == "multiply" else deltas / scale).unbind(-1)
    if limit and order != "clamp first":
        dw, dh = dw.clamp(low, LIMIT), dh.clamp(low, LIMIT)
    new_w, new_h = w * dw.exp(), h * dh.exp()
    if corner:
        x, y = anchors[..., 0] + dx * w, anchors[..., 1] + dy * h
        return torch.stack((x, y, x + new_w, y + new_h), dim=-1)
    x, y = anchors[..., 0] + w / 2 + dx * w, anchors[..., 1] + h / 2 + dy * h
    return torch.stack((x - new_w / 2, y - new_h / 2, x + new_w / 2, y + new_h / 2), dim=-1)


def decode_from_the_corner(deltas, anchors, weights=(1, 1, 1, 1)):
    return _decode(deltas, anchors, weights, corner=True)


def decode_multiplying_weights(deltas, anchors, weights=(1, 1, 1, 1)):
    return _decode(deltas, anchors, weights, order="multiply")


def decode_without_clamp(deltas, anchors, weights=(1, 1, 1, 1)):
    return _decode(deltas, anchors, weights, limit=False)


def decode_clamping_before_the_weights(deltas, anchors, weights=(1, 1, 1, 1)):
    return _decode(deltas, anchors, weights, order="clamp first")


def decode_clamping_both_ends(deltas, anchors, weights=(1, 1, 1, 1)):
    return _decode(deltas, anchors, weights, low=-LIMIT)


def decode_clamping_the_width_only(deltas, anchors, weights=(1, 1, 1, 1)):
    return torch.where(
        torch.tensor([True, False, True, False]),
        _decode(deltas, anchors, weights),
        _decode(deltas, anchors, weights, limit=False),
    )


def decode_clamping_all_four(deltas, anchors, weights=(1, 1, 1, 1)):
    return box_ops.decode((deltas / torch.tensor(weights)).clamp(max=LIMIT), anchors)


def decode_moving_by_new_widths(deltas, anchors, weights=(1, 1, 1, 1)):
    grown = _decode(deltas * torch.tensor([0.0, 0, 1, 1]), anchors, weights)
    return _decode(deltas * torch.tensor([1.0, 1, 0, 0]), grown, weights)


def decode_to_width_and_height(deltas, anchors, weights=(1, 1, 1, 1)):
    x1, y1, x2, y2 = _decode(deltas, anchors, weights).unbind(-1)
    return torch.stack((x1, y1, x2 - x1, y2 - y1), dim=-1)


def flip_of_the_second_dimension(boxes, width):
    boxes = boxes.clone()
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    return boxes


def decode_moving_by_pixels(deltas, anchors, weights=(1, 1, 1, 1)):
    sized = _decode(deltas * torch.tensor([0.0, 0, 1, 1]), anchors, weights)
    return sized + (deltas / torch.tensor(weights))[..., [0, 1, 0, 1]]


def box_as_a_list(mask):
    return box_ends(mask, lambda places: (places.min(), places.max() + 1)).tolist()


def flip_with_absolute_values(boxes, width):
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack(((width - x2).abs(), y1, (width - x1).abs(), y2), dim=-1)


def flip_that_clips(boxes, width):
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack(((width - x2).clamp(0, width), y1, (width - x1).clamp(0, width), y2), dim=-1)


def flip_of_a_flipped_side(boxes, width):
    boxes = boxes.clone()
    boxes[..., 0] = width - boxes[..., 2]
    boxes[..., 2] = width - boxes[..., 0]
    return boxes


def flip_in_whole_pixels(boxes, width):
    return box_ops.hflip(boxes, int(width))


def iou_with_a_union_of_at_least_one(a, b):
    overlap = box_ops.iou(a, b)
    area_a, area_b = box_ops.area(a)[:, None], box_ops.area(b)[None]
    union = (area_a + area_b) / (1 + overlap)
    return overlap * union / union.clamp(min=1)


def iou_with_a_little_more_union(a, b):
    return _iou(a, b, safe=False).nan_to_num() * (1 - 0.5 * (box_ops.area(b) < 1))


def iou_of_dice(a, b):
    overlap = box_ops.iou(a, b)
    return 2 * overlap / (1 + overlap)


def decode_of_two_dimensions(deltas, anchors, weights=(1, 1, 1, 1)):
    dx, dy, dw, dh = (deltas / torch.tensor(weights)).unbind(1)
    deltas = torch.stack((dx, dy, dw, dh), dim=1)
    return _decode(deltas, anchors, (1, 1, 1, 1))


def decode_in_place(deltas, anchors, weights=(1, 1, 1, 1)):
    deltas /= torch.tensor(weights)
    return _decode(deltas, anchors, (1, 1, 1, 1))


def decode_clamping_after_exp(deltas, anchors, weights=(1, 1, 1, 1)):
    dx, dy, dw, dh = (deltas / torch.tensor(weights)).unbind(-1)
    w, h = anchors[..., 2] - anchors[..., 0], anchors[..., 3] - anchors[..., 1]
    x, y = anchors[..., 0] + w / 2 + dx * w, anchors[..., 1] + h / 2 + dy * h
    w, h = w * dw.exp().clamp(max=62.5), h * dh.exp().clamp(max=62.5)
    return torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), dim=-1)


def nms_places_of_the_sorted(boxes, scores, threshold):
    order = torch.argsort(scores, descending=True, stable=True)
    return box_ops.nms_reference(boxes[order], scores[order], threshold)


def nms_by_everyone(boxes, scores, threshold):
    overlap = box_ops.iou(boxes, boxes)
    order = torch.argsort(scores, descending=True, stable=True).tolist()
    return [i for n, i in enumerate(order) if all(overlap[i, k] <= threshold for k in order[:n])]


def nms_by_the_last(boxes, scores, threshold):
    overlap = box_ops.iou(boxes, boxes)
    kept = []
    for i in torch.argsort(scores, descending=True, stable=True).tolist():
        if not kept or overlap[i, kept[-1]] <= threshold:
            kept.append(i)
    return kept


def nms_by_place(boxes, scores, threshold):
    return box_ops.nms_reference(boxes, -torch.arange(len(boxes)).float(), threshold)


def nms_sorted_by_place(boxes, scores, threshold):
    return sorted(box_ops.nms_reference(boxes, scores, threshold))


def nms_at_least(boxes, scores, threshold):
    return box_ops.nms_reference(boxes, scores, threshold - 1e-6)


def nms_reversing_ties(boxes, scores, threshold):
    last = len(boxes) - 1
    flipped = box_ops.nms_reference(boxes.flip(0), scores.flip(0), threshold)
    return [last - i for i in flipped]


WRONG = {
    "check_mask_to_box": {
        "ends at the number of the last pixel": (box_of_last_pixels, "where the last pixel begins"),
        "swaps x and y": (box_with_axes_swapped, "x and y have changed places"),
        "returns xywh": (box_as_xywh, "x, y, width and height"),
        "returns integers": (box_of_whole_numbers, "Boxes are float32"),
        "trusts the order of nonzero": (box_of_the_first_and_last, "not be the leftmost"),
        "returns a list": (box_as_a_list, "a list; a tensor"),
        "forgets the empty mask": (box_without_the_empty_case, "in the case “no pixel”"),
    },
    "check_hflip": {
        "uses W − 1 − x": (flip_of_pixel_numbers, "Off by one"),
        "does not swap the sides": (flip_without_swapping, "x1 is larger than x2"),
        "takes absolute values": (flip_with_absolute_values, "leaves it on both sides"),
        "clips": (flip_that_clips, "clip or to take"),
        "overwrites x1 first": (flip_of_a_flipped_side, "from the new x1"),
        "cuts the width": (flip_in_whole_pixels, "the half counts"),
        "writes into its input": (flip_in_place, "writes into its input"),
        "indexes the second dimension": (flip_of_the_second_dimension, "the last dimension"),
        "flips y too": (flip_of_both_axes, "The box (1, 2, 4, 6) in"),
    },
    "check_iou": {
        "adds one to each side": (iou_plus_one, "nothing here adds 1"),
        "divides by the sum of areas": (iou_with_the_shared_part_counted_twice, "counts twice"),
        "divides by one area": (iou_as_a_share_of_the_first, "the share of one box alone"),
        "multiplies negative sides": (iou_without_clamp, "clamp the sides"),
        "divides by an empty union": (iou_with_nan, "gave NaN"),
        "gives Dice's measure": (iou_of_dice, "Dice's measure"),
        "divides by 1 at least": (iou_with_a_union_of_at_least_one, "add nothing to a union"),
        "changes what is small": (iou_with_a_little_more_union, "Expected: [[0.5]]"),
        "pairs boxes one to one": (iou_of_corresponding_boxes, "shape [1], expected [1, 1]"),
    },
    "check_decode": {
        "keeps the corner": (decode_from_the_corner, "grew downwards only"),
        "multiplies by the weights": (decode_multiplying_weights, "decoding divides by it"),
        "does not clamp": (decode_without_clamp, "infinite box"),
        "clamps before the weights": (decode_clamping_before_the_weights, "cut after the weight"),
        "clamps from below too": (decode_clamping_both_ends, "from above only"),
        "clamps the width only": (decode_clamping_the_width_only, "cut as dw is"),
        "clamps all four": (decode_clamping_all_four, "Only dw and dh"),
        "moves by new widths": (decode_moving_by_new_widths, "not in new widths"),
        "returns widths": (decode_to_width_and_height, "a width and a height"),
        "knows two dimensions": (decode_of_two_dimensions, "boxes [2, 20, 4]"),
        "divides in place": (decode_in_place, "writes into its input `deltas`"),
        "cuts after exp": (decode_clamping_after_exp, "infinity times 0"),
        "moves by pixels": (decode_moving_by_pixels, "by a quarter of its width"),
    },
    "check_nms": {
        "lets suppressed boxes suppress": (nms_by_everyone, "suppresses nobody"),
        "looks at the last kept box": (nms_by_the_last, "not with the last"),
        "goes by place": (nms_by_place, "go by score"),
        "returns them by place": (nms_sorted_by_place, "best score first"),
        "drops at the threshold": (nms_at_least, "not greater than the threshold"),
        "returns places in the sorted list": (nms_places_of_the_sorted, "places in the sorted"),
        "reverses ties": (nms_reversing_ties, "of equals the first"),
    },
}
