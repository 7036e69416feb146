"""Typical mistakes in the exercises of chapter 11."""

import numpy as np

from mrcnn_edu.coco_ap import RECALL_POINTS, reference

# ---------------------------------------------------------------- 11.1


def _greedy(ious, threshold, choose, spend=True):
    """One detection after the other; ``choose`` gets its row of free IoUs."""
    free = np.ones(ious.shape[1], bool)
    matches = []
    for row in ious:
        g = choose(np.where(free, row, -1), threshold)
        matches.append(g)
        if g >= 0 and spend:
            free[g] = False
    return matches


def _best(row, threshold):
    return int(row.argmax()) if len(row) and row.max() >= threshold else -1


def found_again_and_again(ious, threshold):
    return _greedy(ious, threshold, _best, spend=False)


def best_free_whatever_its_iou(ious, threshold):
    def choose(row, _):
        return int(row.argmax()) if len(row) and row.max() >= 0 and row.any() else -1

    return [
        g if d != 2 or ious[d].any() else -1 for d, g in enumerate(_greedy(ious, threshold, choose))
    ]


def more_than_the_threshold(ious, threshold):
    return _greedy(ious, threshold, lambda row, t: int(row.argmax()) if (row > t).any() else -1)


def the_first_above(ious, threshold):
    def choose(row, t):
        return int((row >= t).argmax()) if (row >= t).any() else -1

    return _greedy(ious, threshold, choose)


def best_pairs_first(ious, threshold):
    left, matches = ious.copy(), [-1] * len(ious)
    while left.size and left.max() >= threshold:
        d, g = np.unravel_index(left.argmax(), left.shape)
        matches[d] = int(g)
        left[d], left[:, g] = -1, -1
    return matches


def favourite_or_nothing(ious, threshold):
    """PASCAL VOC's rule."""
    taken, matches = set(), []
    for row in ious:
        g = _best(row, threshold)
        matches.append(-1 if g in taken else g)
        taken.add(g)
    return matches


def argmax_of_nothing(ious, threshold):
    free = np.ones(ious.shape[1], bool)
    matches = []
    for row in ious:
        g = int(np.where(free, row, -1).argmax())
        good = free[g] and row[g] >= threshold
        matches.append(g if good else -1)
        free[g] &= not good
    return matches


def writes_into_its_input(ious, threshold):
    matches = []
    for d in range(len(ious)):
        g = _best(ious[d], threshold)
        matches.append(g)
        if g >= 0:
            ious[:, g] = -1
    return matches


def half_is_always_enough(ious, threshold):
    return _greedy(ious, min(threshold, 0.75), _best)


def true_or_false(ious, threshold):
    return None


# ---------------------------------------------------------------- 11.2


def _curve(scores, right, objects):
    p, r, _ = reference.precision_recall(scores, right, np.ones(len(right), bool), objects)
    return p, r


def _raw(scores, right, objects):
    hits = np.cumsum(right[np.argsort(-scores, kind="stable")])
    return hits / np.arange(1, len(hits) + 1), hits / objects


def in_percent(scores, right, objects):
    return 100 * reference.at_recalls(*_curve(scores, right, objects), RECALL_POINTS).mean()


def exact_area(scores, right, objects):
    p, r = _curve(scores, right, objects)
    return float((p * np.diff(r, prepend=0)).sum())


def eleven_points(scores, right, objects):
    return reference.at_recalls(*_curve(scores, right, objects), np.linspace(0, 1, 11)).mean()


def without_envelope(scores, right, objects):
    return reference.at_recalls(*_raw(scores, right, objects), RECALL_POINTS).mean()


def recall_of_what_was_found(scores, right, objects):
    p, r = _curve(scores, right, max(1, right.sum()))
    return reference.at_recalls(p, r, RECALL_POINTS).mean()


def not_sorted(scores, right, objects):
    p, r = _curve(-np.arange(len(scores)), right, objects)
    return reference.at_recalls(p, r, RECALL_POINTS).mean()


def unstable(scores, right, objects):
    backwards = np.argsort(scores, kind="stable")[::-1]
    return reference.at_recalls(
        *_curve(-np.arange(len(scores)), right[backwards], objects), RECALL_POINTS
    ).mean()


def a_hundred_points(scores, right, objects):
    p, r = _curve(scores, right, objects)
    return reference.at_recalls(p, r, np.arange(0, 1, 0.01)).mean()


def last_value_goes_on(scores, right, objects):
    if not len(scores):
        return 0.0
    p, r = _curve(scores, right, objects)
    place = np.searchsorted(r, RECALL_POINTS).clip(max=len(p) - 1)
    return p[place].mean()


def sorts_in_place(scores, right, objects):
    order = np.argsort(-scores, kind="stable")
    scores[:] = scores[order]
    right[:] = right[order]
    return reference.at_recalls(*_curve(scores, right, objects), RECALL_POINTS).mean()


# ---------------------------------------------------------------- 11.3


def crowd_is_used_up(ious, crowd, outside, threshold):
    return reference.match(ious, crowd & False, outside, threshold)


def every_ignored_is_a_crowd(ious, crowd, outside, threshold):
    return reference.match(ious, outside, outside, threshold)


def best_of_all(ious, crowd, outside, threshold):
    free = np.ones(len(crowd), bool)
    matches = np.full(len(ious), -1)
    for d, row in enumerate(ious):
        fits = (free | crowd) & (row >= threshold)
        if fits.any():
            matches[d] = np.where(fits, row, -1).argmax()
            free[matches[d]] = False
    return matches, np.array([m >= 0 and outside[m] for m in matches], bool)


def crowd_counts_as_right(ious, crowd, outside, threshold):
    matches, _ = reference.match(ious, crowd, outside, threshold)
    return matches, np.zeros(len(ious), bool)


def crowds_left_out(ious, crowd, outside, threshold):
    matches, ignored = reference.match(np.where(crowd, 0, ious), crowd, outside, threshold)
    return matches, ignored


def wrong_is_ignored(ious, crowd, outside, threshold):
    matches, ignored = reference.match(ious, crowd, outside, threshold)
    return matches, ignored | (matches < 0)


def any_touch_of_a_crowd(ious, crowd, outside, threshold):
    return reference.match(np.where(crowd & (ious > 0.42), 0.99, ious), crowd, outside, threshold)


def no_second_look(ious, crowd, outside, threshold):
    """Crowds are looked at only by detections that overlap no object that counts."""
    matches, ignored = reference.match(ious, crowd, outside, threshold)
    near = ((ious >= threshold) & ~outside).any(axis=1)
    return np.where(near & ignored, -1, matches), ignored & ~near


def crowds_need_more(ious, crowd, outside, threshold):
    return reference.match(ious, crowd, outside, threshold + 1e-9)


def matches_only(ious, crowd, outside, threshold):
    return reference.match(ious, crowd, outside, threshold)[0]


# ---------------------------------------------------------------- 11.4


def _write(boxes, labels, scores, image_id, image, net, ids, *, corners=False, swap=False, grow=0):
    h, w = image[0] / net[0], image[1] / net[1]
    if swap:
        h, w = w, h
    if grow == 1:
        h, w = 1, 1
    if grow == 2:
        h, w = 1 / h, 1 / w
    results = []
    for (x1, y1, x2, y2), label, score in zip(
        boxes.tolist(), labels.tolist(), scores.tolist(), strict=True
    ):
        x1, x2, y1, y2 = x1 * w, x2 * w, y1 * h, y2 * h
        box = [x1, y1, x2, y2] if corners else [x1, y1, x2 - x1, y2 - y1]
        results.append({"image_id": image_id, "category_id": ids[label - 1]})
        results[-1] |= {"bbox": box, "score": score}
    return results


def still_corners(*inputs):
    return _write(*inputs, corners=True)


def network_pixels(*inputs):
    return _write(*inputs, grow=1)


def wrong_way(*inputs):
    return _write(*inputs, grow=2)


def height_and_width_swapped(*inputs):
    return _write(*inputs, swap=True)


def labels_as_ids(boxes, labels, scores, image_id, image, net, ids):
    results = _write(boxes, labels, scores, image_id, image, net, ids)
    return [r | {"category_id": n} for r, n in zip(results, labels.tolist(), strict=True)]


def off_by_one(boxes, labels, scores, image_id, image, net, ids):
    results = _write(boxes, labels, scores, image_id, image, net, ids)
    wanted = [ids[n % len(ids)] for n in labels.tolist()]
    return [r | {"category_id": n} for r, n in zip(results, wanted, strict=True)]


def one_number_too_many(*inputs):
    return [r | {"id": i} for i, r in enumerate(_write(*inputs))]


def arrays_inside(*inputs):
    return [r | {"score": np.float32(r["score"])} for r in _write(*inputs)]


def scales_in_place(boxes, labels, scores, image_id, image, net, ids):
    boxes *= 1.0 + 1e-9
    return _write(boxes, labels, scores, image_id, image, net, ids)


def without_clutter(*inputs):
    return [r for r in _write(*inputs) if r["score"] >= 0.3]


# ---------------------------------------------------------------- 11.5


def any_class(scores, labels, ious, object_labels):
    return scores * ious.max(axis=1, initial=0)


def iou_alone(scores, labels, ious, object_labels):
    return np.where(labels[:, None] == object_labels, ious, 0).max(axis=1, initial=0)


def mean_of_its_class(scores, labels, ious, object_labels):
    same = labels[:, None] == object_labels
    total = np.where(same, ious, 0).sum(axis=1)
    return scores * total / same.sum(axis=1).clip(min=1)


def nan_without_objects(scores, labels, ious, object_labels):
    same = labels[:, None] == object_labels
    best = np.where(same, ious, 0).max(axis=1, initial=0)
    return scores * np.where(same.any(axis=1), best, np.nan)


def kept_where_nothing_is(scores, labels, ious, object_labels):
    same = labels[:, None] == object_labels
    best = np.where(same, ious, 0).max(axis=1, initial=0)
    return scores * np.where(same.any(axis=1), best, 1)


def max_of_nothing(scores, labels, ious, object_labels):
    return scores * np.where(labels[:, None] == object_labels, ious, 0).max(axis=1)


def rescores_in_place(scores, labels, ious, object_labels):
    scores *= np.where(labels[:, None] == object_labels, ious, 0).max(axis=1, initial=0)
    return scores


WRONG = {
    "check_match": {
        "an object is found twice": (found_again_and_again, "An object can be found once"),
        "no threshold": (best_free_whatever_its_iou, "the threshold holds for every choice"),
        ">": (more_than_the_threshold, "at least, not more than"),
        "the first above the threshold": (the_first_above, "not the first"),
        "best pairs first": (best_pairs_first, "it chooses first"),
        "VOC's rule": (favourite_or_nothing, "VOC's rule"),
        "argmax of nothing": (argmax_of_nothing, "argmax of an empty sequence"),
        "in place": (writes_into_its_input, "writes into its input"),
        "0.75 instead of 0.95": (half_is_always_enough, "Random case"),
        "no return": (true_or_false, "returned None"),
    },
    "check_average_precision": {
        "percent": (in_percent, "That is in percent"),
        "area": (exact_area, "exact area under the curve"),
        "eleven points": (eleven_points, "PASCAL VOC 2007"),
        "no envelope": (without_envelope, "Precision goes up and down"),
        "recall of the right ones": (recall_of_what_was_found, "divides by the objects"),
        "not sorted": (not_sorted, "sort by score, best first"),
        "unstable order": (unstable, "Equal scores keep the order"),
        "100 points": (a_hundred_points, "six detections of section 2"),
        "the last precision goes on": (last_value_goes_on, "One of two objects was found"),
        "in place": (sorts_in_place, "writes into its input"),
    },
    "check_match_ignoring": {
        "crowd used up": (crowd_is_used_up, "A crowd is many objects"),
        "other sizes as crowds": (every_ignored_is_a_crowd, "it can be found once"),
        "best of all": (best_of_all, "objects that count come first"),
        "crowd is right": (crowd_counts_as_right, "neither right nor wrong"),
        "crowds left out": (crowds_left_out, "would count as wrong"),
        "wrong is ignored": (wrong_is_ignored, "is wrong, not ignored"),
        "any touch of a crowd": (any_touch_of_a_crowd, "has to be overlapped as well"),
        "no second look": (no_second_look, "falls back on the crowd"),
        ">": (crowds_need_more, "here as in 11.1"),
        "one value": (matches_only, "matches and ignored"),
    },
    "check_write_results": {
        "corners": (still_corners, "still x1, y1, x2, y2"),
        "pixels of the network": (network_pixels, "pixels of the network's input"),
        "wrong way": (wrong_way, "have to shrink"),
        "height and width": (height_and_width_swapped, "x was scaled with the height"),
        "labels as ids": (labels_as_ids, "is not in the data set"),
        "off by one": (off_by_one, "Label 1 is the first class"),
        "extra keys": (one_number_too_many, "and no others"),
        "NumPy numbers": (arrays_inside, "json cannot write"),
        "in place": (scales_in_place, "writes into its input"),
        "low scores dropped": (without_clutter, "1 detections, 0 results"),
    },
    "check_rescore": {
        "any class": (any_class, "only objects of its own class count"),
        "IoU alone": (iou_alone, "Multiply the score"),
        "mean": (mean_of_its_class, "the best one counts"),
        "NaN": (nan_without_objects, "gives NaN"),
        "kept": (kept_where_nothing_is, "a class that is not in the picture"),
        "maximum of nothing": (max_of_nothing, "zero-size array"),
        "in place": (rescores_in_place, "writes into its input"),
    },
}

_FITS = "what fits has an IoU of at least the threshold, so any value up to 0 loses"
EQUIVALENT = {
    "check_match": {"np.where(fits, row, -0)": _FITS, "np.where(fits, row, -2)": _FITS},
    "check_match_ignoring": {"np.where(fits, row, -0)": _FITS, "np.where(fits, row, -2)": _FITS},
    "check_write_results": {"strict=False": "the three are equally long"},
    "check_rescore": {"np.where(same, ious, -1)": "the maximum begins at 0"},
}
