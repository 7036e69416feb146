"""What kind of mistakes cost how much AP: the error types of TIDE.

Every detection that is wrong at an IoU of 0.5 has one cause, and an object that nobody found and
no other mistake explains is missed. What a cause costs is what AP would gain without it, all else
being as it is; the gains do not add up, because the first cure leaves less to gain.

Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", arXiv:2008.08115,
§2.2 and 2.3. Chapter 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mrcnn_edu.coco_ap import reference
from mrcnn_edu.coco_ap.evaluation import RECALL_POINTS
from mrcnn_edu.coco_ap.groups import group, overlaps
from mrcnn_edu.coco_ap.load import Bools, Floats, Ints, IouType, constants, load_results, load_truth

FOREGROUND, BACKGROUND = 0.5, 0.1  # IoU from which an object is found, up to which it is not met
KINDS = {
    "class": "right place, wrong class",
    "localisation": "right class, only near the place",
    "both": "wrong class, only near a place",
    "duplicate": "an object that is found already",
    "background": "no object there",
    "missed": "an object that nobody found",
}
RIGHT, IGNORED = "right", "ignored"


@dataclass(frozen=True)
class Breakdown:
    """How many mistakes of each kind there are, and the AP that each costs.

    `ap` is AP at an IoU of 0.5 in percent, `count` and `cost` have the keys of `KINDS`. All are
    None, or 0, where there is no object.
    """

    ap: float | None
    count: dict[str, int]
    cost: dict[str, float | None]


@dataclass
class _State:
    """All detections, best first in their image, and what became of them."""

    row: Ints  # [D] its place in the results
    label: Ints  # [D]
    score: Floats  # [D]
    kind: list[str]  # [D] RIGHT, IGNORED or one of KINDS
    target: Ints  # [D] the object it found, or would find once corrected; −1 for none
    objects: Ints  # [G] their classes; crowds are not among those that can be found
    countable: Bools  # [G]
    found: Bools  # [G]


def breakdown(
    ground_truth: dict[str, Any],
    results: Sequence[dict[str, Any]],
    iou_type: IouType,
    max_detections: int = 100,
    sigmas: Floats | None = None,
) -> Breakdown:
    """Sort the mistakes of COCO results by their cause.

    A detection is right if it finds an object of its class with an IoU of 0.5 or more that no
    better one has found. The first of these that holds names a wrong one's cause: it meets an
    object of its class with an IoU of 0.1 to 0.5 at most (localisation); it finds one of another
    class (class); it finds one of its class (duplicate, since that one is taken); it meets none
    with more than 0.1 (background); it meets one of another class (both). An object is missed if
    nobody found it, and no localisation or class mistake would have.

    The cures: of the localisation and class mistakes at one object, if nobody has found it, the
    best is put right and the others are taken away; the other kinds are taken away; missed
    objects are not asked for.

    Args:
        ground_truth: the content of an annotation file.
        results: detections in COCO's results format.
        iou_type: "bbox", "segm" or "keypoints".
        max_detections: of an image and class.
        sigmas: [J] the keypoints' constants; None: those of the categories' joints.

    Raises:
        UserError: see `mrcnn_edu.coco_ap.load`.
    """
    state = _classify(ground_truth, results, iou_type, max_detections, sigmas)
    count = {kind: state.kind.count(kind) for kind in KINDS}
    missed = _missed(state)
    count["missed"] = int(missed.sum())
    right = np.array([k == RIGHT for k in state.kind], np.bool_)
    ap = _ap(state, state.label, right, state.countable)
    cost: dict[str, float | None] = {}
    for kind in KINDS:
        cured = _cure(state, kind, missed)
        cost[kind] = None if ap is None or cured is None else round(cured - ap, 3)
    return Breakdown(None if ap is None else round(ap, 3), count, cost)


def _classify(
    ground_truth: dict[str, Any],
    results: Sequence[dict[str, Any]],
    iou_type: IouType,
    max_detections: int,
    sigmas: Floats | None,
) -> _State:
    sigmas = constants(ground_truth, iou_type, sigmas)
    index, truth = load_truth(ground_truth, iou_type, len(sigmas))
    found = load_results(results, index, iou_type, len(sigmas))
    # Only what counts in COCO's AP: the best detections of each image and class.
    n_images = len(index.image_ids)
    key = found.label * n_images + found.image
    kept = np.zeros(len(found), np.bool_)
    kept[group(key, found.score, truth.label[:0], max_detections).found] = True
    # Then one group an image: an object of any class can explain a mistake.
    image = np.where(kept, found.image, n_images)
    groups = group(image, found.score, truth.image, len(found) + 1)
    ious = overlaps(found, truth, groups, sigmas, BACKGROUND)  # [pairs]
    state = _State(
        row=groups.found,
        label=found.label[groups.found],
        score=found.score[groups.found],
        kind=[IGNORED] * len(groups.found),
        target=np.full(len(groups.found), -1),
        objects=truth.label[groups.truth],
        countable=~truth.ignore[groups.truth],
        found=np.zeros(len(groups.truth), np.bool_),
    )
    crowd = truth.crowd[groups.truth]
    for c, image_index in enumerate(groups.key):
        d = slice(groups.found_start[c], groups.found_start[c + 1])
        g = slice(groups.truth_start[c], groups.truth_start[c + 1])
        if image_index == n_images or d.start == d.stop:
            continue
        shape = (d.stop - d.start, g.stop - g.start)
        block = ious[groups.block[c] : groups.block[c] + shape[0] * shape[1]].reshape(shape)
        _classify_image(state, d, g, block, crowd[g])
    return state


def _classify_image(state: _State, d: slice, g: slice, ious: Floats, crowd: Bools) -> None:
    """Fill in kinds and targets of the detections `d` of one image with the objects `g`."""
    same = state.label[d, None] == state.objects[None, g]  # [D, G]
    matches, ignored = reference.match(
        np.where(same, ious, 0), crowd, ~state.countable[g], FOREGROUND
    )
    ious = np.where(state.countable[g], ious, 0)  # a crowd explains no mistake
    own, other = np.where(same, ious, 0), np.where(same, 0, ious)
    for i in range(len(ious)):
        at = d.start + i
        if ignored[i]:
            continue  # stays IGNORED
        if matches[i] >= 0:
            state.kind[at], state.target[at] = RIGHT, g.start + matches[i]
            state.found[g.start + matches[i]] = True
        elif BACKGROUND <= own[i].max(initial=0) < FOREGROUND:
            state.kind[at], state.target[at] = "localisation", g.start + int(own[i].argmax())
        elif other[i].max(initial=0) >= FOREGROUND:
            state.kind[at], state.target[at] = "class", g.start + int(other[i].argmax())
        elif own[i].max(initial=0) >= FOREGROUND:
            state.kind[at] = "duplicate"
        elif ious[i].max(initial=0) <= BACKGROUND:
            state.kind[at] = "background"
        else:
            state.kind[at] = "both"


def _missed(state: _State) -> Bools:
    """[G] objects that nobody found and that no correction would find."""
    explained = state.found.copy()
    explained[state.target[state.target >= 0]] = True
    return ~explained & state.countable


def _best_claims(state: _State) -> set[int]:
    """Wrong detections that would be right: for each object not found, the best that is near."""
    best: dict[int, int] = {}
    for i, (kind, target) in enumerate(zip(state.kind, state.target.tolist(), strict=True)):
        if kind in ("class", "localisation") and not state.found[target]:
            known = best.setdefault(target, i)
            if state.score[i] > state.score[known]:
                best[target] = i
    return set(best.values())


def _cure(state: _State, kind: str, missed: Bools) -> float | None:
    """AP without one kind of mistake."""
    label, kinds = state.label.copy(), list(state.kind)
    countable = state.countable & ~missed if kind == "missed" else state.countable
    best = _best_claims(state)
    for i in (i for i, k in enumerate(state.kind) if k == kind):
        kinds[i] = IGNORED
        if i in best:
            kinds[i], label[i] = RIGHT, state.objects[state.target[i]]
    present = np.array([k != IGNORED for k in kinds], np.bool_)
    right = np.array([k == RIGHT for k in kinds], np.bool_)
    return _ap(state, label, right, countable, present)


def _ap(
    state: _State, label: Ints, right: Bools, countable: Bools, present: Bools | None = None
) -> float | None:
    """Mean over classes of AP at one threshold, in percent."""
    if present is None:
        present = np.array([k != IGNORED for k in state.kind], np.bool_)
    values = []
    for k in np.unique(state.objects[state.countable]):
        objects = int((state.objects[countable] == k).sum())
        of = (label == k) & present
        if objects == 0:  # all were missed, none is asked for: the class stays in the mean
            values.append(0.0)
            continue
        p, r, _ = reference.precision_recall(
            state.score[of], right[of], np.ones(int(of.sum()), np.bool_), objects
        )
        values.append(float(reference.at_recalls(p, r, RECALL_POINTS).mean()))
    return 100 * float(np.mean(values)) if values else None
