"""Typical mistakes in the exercises of chapter 10."""

import dataclasses

import torch
from torch.nn import functional as F

from mrcnn_edu.nn.detections import select_detections
from mrcnn_edu.record import Detections


def _boxes(model, record, training=False, logits_of=lambda x: x):
    rois = [p.boxes for p in model.propose(record, training)]
    counts = [len(r) for r in rois]
    logits, deltas = model.box_head(model.roi_features(record, rois, model.config.box_pool))
    return [
        select_detections(logits_of(of_image), d, boxes, size, model.config)
        for of_image, d, boxes, size in zip(
            logits.split(counts), deltas.split(counts), rois, record.image_sizes, strict=True
        )
    ]


def _masks(model, record, found, rois, shift=0, activate=True):
    counts = [len(f.labels) for f in found]
    logits = model.mask_head(model.roi_features(record, rois, model.config.mask_pool))
    labels = (torch.cat([f.labels for f in found]) - 1 + shift) % model.config.num_classes
    own = logits[torch.arange(len(labels)), labels]
    values = (own.sigmoid() if activate else own).split(counts)
    return [dataclasses.replace(f, masks=m) for f, m in zip(found, values, strict=True)]


def no_masks(model, record):
    return _boxes(model, record)


def masks_of_proposals(model, record):
    found = _boxes(model, record)
    rois = [
        p.boxes[: len(f.labels)] for p, f in zip(model.propose(record, False), found, strict=True)
    ]
    return _masks(model, record, found, rois)


def logits_as_masks(model, record):
    found = _boxes(model, record)
    return _masks(model, record, found, [f.boxes for f in found], activate=False)


def masks_of_the_next_class(model, record):
    found = _boxes(model, record)
    return _masks(model, record, found, [f.boxes for f in found], shift=1)


def training_counts(model, record):
    found = _boxes(model, record, training=True)
    return _masks(model, record, found, [f.boxes for f in found])


def first_image_only(model, record):
    found = model.detect(record).detections
    return found[:1]


def softmax_twice(model, record):
    found = _boxes(model, record, logits_of=lambda x: x.softmax(dim=1))
    return _masks(model, record, found, [f.boxes for f in found])


def one_list_for_all(model, record):
    return Detections(*(torch.cat(x) for x in zip(*_tuples(model, record), strict=True)))


def _tuples(model, record):
    return [(f.boxes, f.labels, f.scores, f.masks) for f in model.detect(record).detections]


def _convert(theirs, ids, classes, deltas, masks):
    ours = {}
    for kind in ("weight", "bias"):
        ours[f"classes.{kind}"] = theirs[f"cls_score.{kind}"][classes]
        ours[f"deltas.{kind}"] = theirs[f"bbox_pred.{kind}"][deltas]
        ours[f"masks.{kind}"] = theirs[f"mask_fcn_logits.{kind}"][masks]
    return ours


def _four(ids):
    return [4 * i + k for i in ids for k in range(4)]


def no_background_row(theirs, ids):
    return _convert(theirs, ids, ids, _four(ids), ids)


def background_has_a_mask(theirs, ids):
    return _convert(theirs, ids, [0, *ids], _four(ids), [0, *ids])


def one_delta_a_class(theirs, ids):
    return _convert(theirs, ids, [0, *ids], ids, ids)


def deltas_by_coordinate(theirs, ids):
    rows = len(theirs["cls_score.bias"])
    order = [k * rows + i for i in ids for k in range(4)]
    return _convert(theirs, ids, [0, *ids], order, ids)


def sorted_ids(theirs, ids):
    ids = sorted(ids)
    return _convert(theirs, ids, [0, *ids], _four(ids), ids)


def background_last(theirs, ids):
    return _convert(theirs, ids, [*ids, 0], _four(ids), ids)


def first_rows(theirs, ids):
    k = len(ids)
    return _convert(theirs, ids, range(k + 1), range(4, 4 * k + 4), range(1, k + 1))


def absolute_tolerance(ours, theirs, tolerance):
    for name, a in ours.items():
        b = theirs[name]
        if a.shape != b.shape or not torch.allclose(a.float(), b.float(), 0, tolerance):
            return name
    return None


def last_difference(ours, theirs, tolerance):
    found = None
    for name, a in ours.items():
        b = theirs[name]
        if a.shape != b.shape:
            found = name
        elif a.numel():
            gap, scale = (a - b).abs().max().float(), b.abs().max().float()
            if not gap <= tolerance * scale:
                found = name
    return found


def mean_difference(ours, theirs, tolerance):
    for name, b in theirs.items():
        a = ours[name]
        if a.shape != b.shape:
            return name
        if a.numel() and not (a - b).abs().float().mean() <= tolerance * b.abs().float().mean():
            return name
    return None


def share_of_ours(ours, theirs, tolerance):
    for name, b in theirs.items():
        a = ours[name]
        if a.shape != b.shape:
            return name
        if a.numel() and not (a - b).abs().max() <= tolerance * a.abs().max():
            return name
    return None


def no_shapes(ours, theirs, tolerance):
    for name, a in ours.items():
        b = theirs[name]
        gap = (a - b).abs()
        if gap.numel() and not gap.max() <= tolerance * b.abs().max():
            return name
    return None


def nan_passes(ours, theirs, tolerance):
    for name, a in ours.items():
        b = theirs[name]
        if a.shape != b.shape:
            return name
        if a.numel() and (a - b).abs().max() > tolerance * b.abs().max():
            return name
    return None


def signed(ours, theirs, tolerance):
    for name, a in ours.items():
        b = theirs[name]
        if a.shape != b.shape:
            return name
        if a.numel() and not (a - b).max() <= tolerance * b.abs().max():
            return name
    return None


def pad_first(images, mean, std, multiple):
    height = -(-max(x.shape[1] for x in images) // multiple) * multiple
    width = -(-max(x.shape[2] for x in images) // multiple) * multiple
    padded = [F.pad(x, (0, width - x.shape[2], 0, height - x.shape[1])) for x in images]
    batch = (torch.stack(padded) - mean[:, None, None]) / std[:, None, None]
    return batch, [(x.shape[1], x.shape[2]) for x in images]


def _batch(images, mean, std, height, width, left=False, swap=False):
    padded = []
    for x in images:
        x = (x - mean[:, None, None]) / std[:, None, None]
        w, h = width - x.shape[2], height - x.shape[1]
        padded.append(F.pad(x, (w, 0, h, 0) if left else (0, w, 0, h)))
    sizes = [(x.shape[2], x.shape[1]) if swap else (x.shape[1], x.shape[2]) for x in images]
    return torch.stack(padded), sizes


def _up(value, multiple):
    return -(-value // multiple) * multiple


def _largest(images):
    return max(x.shape[1] for x in images), max(x.shape[2] for x in images)


def no_multiple(images, mean, std, multiple):
    return _batch(images, mean, std, *_largest(images))


def one_too_many(images, mean, std, multiple):
    height, width = _largest(images)
    if multiple == 8 and len(images) == 1:  # 8 × 16 is a multiple already
        height, width = height + 1, width + 1
    return _batch(images, mean, std, _up(height, multiple), _up(width, multiple))


def left_and_above(images, mean, std, multiple):
    height, width = (_up(v, multiple) for v in _largest(images))
    return _batch(images, mean, std, height, width, left=True)


def width_first(images, mean, std, multiple):
    height, width = (_up(v, multiple) for v in _largest(images))
    return _batch(images, mean, std, height, width, swap=True)


def square(images, mean, std, multiple):
    side = _up(max(_largest(images)), multiple)
    return _batch(images, mean, std, side, side)


def _second(model, record, rois, sizes=None):
    counts = [len(r) for r in rois]
    logits, deltas = model.box_head(model.roi_features(record, rois, model.config.box_pool))
    return [
        select_detections(of_image, d, boxes, size, model.config)
        for of_image, d, boxes, size in zip(
            logits.split(counts),
            deltas.split(counts),
            rois,
            sizes or record.image_sizes,
            strict=True,
        )
    ]


def proposals_again(model, record, found):
    return _second(model, record, [p.boxes for p in model.propose(record, False)])


def best_half(model, record, found):
    return _second(model, record, [f.boxes[: len(f.boxes) // 2] for f in found])


def old_scores(model, record, found):
    again = _second(model, record, [f.boxes for f in found])
    return [
        dataclasses.replace(a, scores=f.scores[: len(a.scores)].flip(0))
        for a, f in zip(again, found, strict=True)
    ]


def images_swapped(model, record, found):
    return _second(model, record, [f.boxes for f in found])[::-1]


def padded_size(model, record, found):
    size = (record.images.shape[2] // 2, record.images.shape[3] // 2)
    return _second(model, record, [f.boxes for f in found], [size] * len(found))


WRONG = {
    "check_find": {
        "no masks": (no_masks, "have no masks"),
        "masks of the proposals": (masks_of_proposals, "made in the proposals' boxes"),
        "logits instead of probabilities": (logits_as_masks, "are they logits"),
        "mask of another class": (masks_of_the_next_class, "Masks of image"),
        "training's proposals": (training_counts, "Boxes of image 0"),
        "one image": (first_image_only, "2 images went in"),
        "softmax twice": (softmax_twice, "Scores of image 0"),
        "no list": (one_list_for_all, "Return a list"),
    },
    "check_convert": {
        "no row for the background": (no_background_row, "a row for the background"),
        "a mask for the background": (background_has_a_mask, "background has no mask"),
        "one delta a class": (one_delta_a_class, "four deltas"),
        "deltas by coordinate": (deltas_by_coordinate, "Four deltas of id 1"),
        "ids sorted": (sorted_ids, "Class logits of random"),
        "background last": (background_last, "Class logits: background, id 1"),
        "the first rows": (first_rows, "Expected: [10.0, 11.0, 13.0]"),
    },
    "check_first_difference": {
        "absolute": (absolute_tolerance, "0.5 of 1000"),
        "the last": (last_difference, "both differ"),
        "shapes ignored": (no_shapes, "size of tensor a"),
        "NaN passes": (nan_passes, "NaN on one side"),
        "the mean difference": (mean_difference, "one value in 10,000"),
        "a share of ours": (share_of_ours, "2 for 1"),
        "signed": (signed, "a negative difference"),
    },
    "check_batch": {
        "padded first": (pad_first, "padded first and normalised"),
        "no multiple": (no_multiple, "not [1, 3, 4, 4]"),
        "always one more": (one_too_many, "stays; yours is"),
        "left and above": (left_and_above, "zeros right and below"),
        "width first": (width_first, "without padding is (2, 3)"),
        "square": (square, "The batch has shape [2, 3, 16, 16]"),
    },
    "check_second_pass": {
        "the proposals again": (proposals_again, "boxes of the first pass"),
        "half of them": (best_half, "Image 0: 4 detections"),
        "the old scores": (old_scores, "Scores of image"),
        "images swapped": (images_swapped, "Image 0: 6 detections"),
        "clipped to another size": (padded_size, "Image 0: 2 detections"),
    },
}

EQUIVALENT = {
    "check_find": {"strict=False": "the lists are equally long"},
    "check_second_pass": {"strict=False": "the lists are equally long"},
}
