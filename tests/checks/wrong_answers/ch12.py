"""Typical mistakes in the exercises of chapter 12."""

import dataclasses

import torch
from torch.nn import functional as F
from torchvision.ops import masks_to_boxes

from mrcnn_edu.data.transforms import MIRRORED_JOINTS
from mrcnn_edu.masks import polygons_to_mask


def _runs(values):
    runs, value, count = [], 0, 0
    for pixel in values:
        if pixel != value:
            runs.append(count)
            value, count = pixel, 0
        count += 1
    return [*runs, count]


def _columns(mask):
    return mask.T.flatten().int().tolist()


def along_rows(mask):
    return _runs(mask.flatten().int().tolist())


def last_run_missing(mask):
    return _runs(_columns(mask))[:-1]


def places(mask):
    return torch.tensor(_runs(_columns(mask))).cumsum(0).tolist()


def object_first(mask):
    runs = _runs(_columns(mask))
    return runs[1:] if runs[0] == 0 else runs


def starts_and_lengths(mask):
    pairs, place = [], 0
    for i, run in enumerate(_runs(_columns(mask))):
        if i % 2:
            pairs += [place, run]
        place += run
    return pairs


def writes_into_the_mask(mask):
    mask[mask > 0] = 1
    mask[-1, -1] = 0
    return _runs(_columns(mask))


def empty_is_nothing(mask):
    return _runs(_columns(mask)) if mask.any() else []


def read(text, *, sign=True, back=2, first=3, bits=5, low_first=True, stop=32):
    runs, pieces = [], []
    for char in text:
        code = ord(char) - 48
        pieces.append(code)
        if code & stop:
            continue
        order = pieces if low_first else pieces[::-1]
        number = sum((piece & 31) << (bits * k) for k, piece in enumerate(order))
        if sign and code & 16:
            number -= 1 << (bits * len(pieces))
        runs.append(number + (runs[-back] if back and len(runs) >= first else 0))
        pieces = []
    return runs


def one_number_a_character(text):
    return [(ord(char) - 48) & 31 for char in text]


def high_bits_first(text):
    return read(text, low_first=False)


def no_differences(text):
    return read(text, back=0)


def difference_to_the_last(text):
    return read(text, back=1)


def differences_too_early(text):
    return read(text, first=2)


def no_sign(text):
    return read(text, sign=False)


def sign_of_one_piece(text):
    runs, number, shift = [], 0, 0
    for char in text:
        code = ord(char) - 48
        number |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        number = number - 32 if code & 16 else number
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
        number, shift = 0, 0
    return runs


def mirror(
    image,
    target,
    *,
    shift=0,
    swap=True,
    boxes=True,
    masks=True,
    joints=True,
    rename=True,
    stay=True,
    joint_shift=0,
    axis=-1,
):
    width = image.shape[2]
    new = dict(target)
    x1, y1, x2, y2 = target["boxes"].unbind(dim=1)
    if boxes:
        left, right = (x2, x1) if swap else (x1, x2)
        new["boxes"] = torch.stack([width - shift - left, y1, width - shift - right, y2], dim=1)
    if masks:
        new["masks"] = target["masks"].flip(-1)
    if joints and "keypoints" in target:
        points = target["keypoints"]
        points = points[:, list(MIRRORED_JOINTS)] if rename else points
        x, y, seen = points.unbind(dim=2)
        x = width - joint_shift - x
        new["keypoints"] = torch.stack([x * (seen > 0) if stay else x, y, seen], dim=2)
    return image.flip(axis), new


def upside_down(image, target):
    return mirror(image, target, axis=1)


def image_alone(image, target):
    return mirror(image, target, boxes=False, masks=False, joints=False)


def sides_not_exchanged(image, target):
    return mirror(image, target, swap=False)


def one_pixel_off(image, target):
    return mirror(image, target, shift=1)


def masks_left_behind(image, target):
    return mirror(image, target, masks=False)


def joints_left_behind(image, target):
    return mirror(image, target, joints=False)


def joints_not_renamed(image, target):
    return mirror(image, target, rename=False)


def unlabelled_joints_moved(image, target):
    return mirror(image, target, stay=False)


def joints_one_pixel_off(image, target):
    return mirror(image, target, joint_shift=1)


def mirror_in_place(image, target):
    new_image, new = mirror(image, target)
    target.update(new)
    return new_image, target


def always_joints(image, target):
    return mirror(image, target | {"keypoints": target["keypoints"]})


def build(
    objects, names, height, width, *, first=1, keep=False, clip=True, one=False, scale=1, add=False
):
    boxes, labels, masks = [], [], []
    for name, polygons in objects:
        parts = polygons[:1] if one else polygons
        mask = polygons_to_mask(parts, (height, width))
        if add:
            mask = sum(polygons_to_mask([p], (height, width)) for p in parts)
        if not mask.any() and not keep:
            continue
        x = torch.tensor([v for p in polygons for v in p[0::2]])
        y = torch.tensor([v for p in polygons for v in p[1::2]])
        if clip:
            x, y = x.clamp(0, width), y.clamp(0, height)
        boxes.append([x.min(), y.min(), x.max(), y.max()])
        labels.append(names.index(name) + first)
        masks.append(scale * mask)
    none = torch.zeros(0, height, width, dtype=torch.uint8)
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": torch.stack(masks) if masks else none,
    }


def labels_from_zero(objects, names, height, width):
    return build(objects, names, height, width, first=0)


def empty_objects_kept(objects, names, height, width):
    return build(objects, names, height, width, keep=True)


def not_clipped(objects, names, height, width):
    return build(objects, names, height, width, clip=False)


def first_polygon_only(objects, names, height, width):
    return build(objects, names, height, width, one=True)


def masks_of_255(objects, names, height, width):
    return build(objects, names, height, width, scale=255)


def masks_added(objects, names, height, width):
    return build(objects, names, height, width, add=True)


def boxes_of_last_pixels(objects, names, height, width):
    target = build(objects, names, height, width)
    if len(target["masks"]):
        target["boxes"] = masks_to_boxes(target["masks"])
    return target


def boxes_as_xywh(objects, names, height, width):
    target = build(objects, names, height, width)
    x1, y1, x2, y2 = target["boxes"].unbind(1)
    return target | {"boxes": torch.stack([x1, y1, x2 - x1, y2 - y1], dim=1)}


def whole_number_boxes(objects, names, height, width):
    target = build(objects, names, height, width)
    return target | {"boxes": target["boxes"].long()}


def shapeless_when_empty(objects, names, height, width):
    if not objects:
        return {k: torch.zeros(0) for k in ("boxes", "labels", "masks")}
    return build(objects, names, height, width)


def ready(image, target, height, width, flip, *, swapped=False, cut=False, old=False, corner=False):
    old_height, old_width = image.shape[1:]
    sy, sx = height / old_height, width / old_width
    image = F.interpolate(image[None], (height, width), mode="bilinear")[0]
    scale = [sy, sx, sy, sx] if swapped else [sx, sy, sx, sy]
    boxes = target["boxes"] * torch.tensor(scale)
    masks = target["masks"][None]
    if cut:
        masks = F.interpolate(masks.float(), (height, width), mode="bilinear")[0].to(torch.uint8)
    else:
        mode = "nearest" if corner else "nearest-exact"
        masks = F.interpolate(masks, (height, width), mode=mode)[0]
    if flip:
        image, masks = image.flip(-1), masks.flip(-1)
        x1, y1, x2, y2 = boxes.unbind(1)
        w = old_width if old else width
        boxes = torch.stack([w - x2, y1, w - x1, y2], dim=1)
    return image, {"boxes": boxes, "labels": target["labels"], "masks": masks}


def x_with_the_height(*args):
    return ready(*args, swapped=True)


def masks_cut(*args):
    return ready(*args, cut=True)


def old_width(*args):
    return ready(*args, old=True)


def nearest_corner(*args):
    return ready(*args, corner=True)


def masks_as_fractions(image, target, height, width, flip):
    got, new = ready(image, target, height, width, flip)
    masks = F.interpolate(target["masks"][None].float(), (height, width), mode="bilinear")[0]
    return got, new | {"masks": masks.flip(-1) if flip else masks}


def image_not_resized(image, target, height, width, flip):
    _, new = ready(image, target, height, width, flip)
    return image, new


def _found(model, image):
    return model.detect(model([image])).detections[0]


def _back(found, width):
    x1, y1, x2, y2 = found.boxes.unbind(1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)


def no_mirror(model, image):
    return _found(model, image)


def boxes_not_back(model, image):
    return _found(model, image.flip(-1))


def corners_not_exchanged(model, image):
    found = _found(model, image.flip(-1))
    x1, y1, x2, y2 = found.boxes.unbind(1)
    width = image.shape[2]
    boxes = torch.stack([width - x1, y1, width - x2, y2], dim=1)
    return dataclasses.replace(found, boxes=boxes, masks=found.masks.flip(-1))


def masks_still_mirrored(model, image):
    found = _found(model, image.flip(-1))
    return dataclasses.replace(found, boxes=_back(found, image.shape[2]))


def masks_dropped(model, image):
    found = _found(model, image.flip(-1))
    return dataclasses.replace(found, boxes=_back(found, image.shape[2]), masks=None)


def boxes_alone(model, image):
    return _back(_found(model, image.flip(-1)), image.shape[2])


def one_off_in_the_mirror(model, image):
    found = _found(model, image.flip(-1))
    boxes = _back(found, image.shape[2] - 1)
    return dataclasses.replace(found, boxes=boxes, masks=found.masks.flip(-1))


WRONG = {
    "check_runs": {
        "along the rows": (along_rows, "go along the rows"),
        "last run missing": (last_run_missing, "The last run is missing"),
        "places instead of lengths": (places, "places where runs end"),
        "object first": (object_first, "always background"),
        "start and length": (starts_and_lengths, "pairs of start and length"),
        "written into": (writes_into_the_mask, "writes into its input"),
        "an empty mask has no runs": (empty_is_nothing, "one run, [12]"),
    },
    "check_read_counts": {
        "one number a character": (one_number_a_character, "the number goes on"),
        "high bits first": (high_bits_first, "*low* five bits"),
        "no differences": (no_differences, "you took it as it is"),
        "difference to the last": (difference_to_the_last, "two before, not to the last"),
        "differences too early": (differences_too_early, "begin with the fourth"),
        "no sign": (no_sign, "ends so is negative"),
        "sign of one piece": (sign_of_one_piece, "100 − 47"),
    },
    "check_mirror": {
        "upside down": (upside_down, "upside down"),
        "image alone": (image_alone, "where they were"),
        "sides not exchanged": (sides_not_exchanged, "x1 is now right of x2"),
        "one pixel off": (one_pixel_off, "boxes are one pixel off"),
        "masks left behind": (masks_left_behind, "masks are not mirrored"),
        "joints left behind": (joints_left_behind, "joints are not mirrored"),
        "joints not renamed": (joints_not_renamed, "under the wrong names"),
        "unlabelled joints moved": (unlabelled_joints_moved, "went to x = W"),
        "joints one pixel off": (joints_one_pixel_off, "joints are one pixel off"),
        "in place": (mirror_in_place, "writes into its input `target`"),
        "joints always expected": (always_joints, "KeyError"),
    },
    "check_target_of": {
        "labels from zero": (labels_from_zero, "labels begin with 0"),
        "empty objects kept": (empty_objects_kept, "without a single pixel"),
        "not cut to the image": (not_clipped, "leaves the image on the left"),
        "first polygon only": (first_polygon_only, "holds the first"),
        "masks of 255": (masks_of_255, "not 255"),
        "masks added": (masks_added, "your mask holds 2"),
        "boxes end at the last pixel": (boxes_of_last_pixels, "*index* of the last pixel"),
        "boxes as xywh": (boxes_as_xywh, "boxes are xywh"),
        "whole boxes": (whole_number_boxes, "'boxes' is torch.int64"),
        "no shape without objects": (shapeless_when_empty, "expected [0, 4]"),
    },
    "check_ready": {
        "x with the height": (x_with_the_height, "x goes with the width"),
        "masks cut off": (masks_cut, "cuts them off"),
        "old width": (old_width, "old picture's width"),
        "nearest corner": (nearest_corner, "under its centre"),
        "fractions": (masks_as_fractions, "float32, expected"),
        "image not resized": (image_not_resized, "The image has shape"),
    },
    "check_see_in_mirror": {
        "no mirror": (no_mirror, "never shows the mirrored image"),
        "boxes not back": (boxes_not_back, "boxes in the mirrored image"),
        "corners not exchanged": (corners_not_exchanged, "x1 is right of x2"),
        "masks still mirrored": (masks_still_mirrored, "faces the other way"),
        "masks dropped": (masks_dropped, "The masks are gone"),
        "boxes alone": (boxes_alone, "Return Detections"),
        "one pixel off": (one_off_in_the_mirror, "Boxes of three blobs"),
    },
}

EQUIVALENT = {
    "check_target_of": {"torch.ones(0,": "masks [0, H, W] have no pixels that could be 0 or 1"},
    "check_ready": {
        "mode='nearest-exact')[-1]": "there is one image in this batch: the last is the first",
        "mode='bilinear')[-1]": "there is one image in this batch: the last is the first",
    },
    "check_see_in_mirror": {"detections[-1]": "there is one image: the last is the first"},
}
