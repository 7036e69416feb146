"""Error types: by hand, against edited results measured anew, and against TIDE's own code."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn_edu import coco_ap
from mrcnn_edu.coco_ap.breakdown import IGNORED, KINDS, RIGHT, _best_claims, _classify, breakdown
from mrcnn_edu.coco_ap.cases import make_case


def truth_of(boxes: list[tuple], classes: int = 2, images: int = 1) -> dict:
    """(image, class, x, y, w, h) of each object."""
    return {
        "info": {},
        "images": [{"id": i + 1, "height": 500, "width": 500} for i in range(images)],
        "categories": [{"id": c + 1, "name": str(c)} for c in range(classes)],
        "annotations": [
            {"id": n + 1, "image_id": b[0], "category_id": b[1], "bbox": list(b[2:])}
            | {"area": b[4] * b[5], "iscrowd": 0}
            for n, b in enumerate(boxes)
        ],
    }


def results_of(boxes: list[tuple]) -> list[dict]:
    """(score, image, class, x, y, w, h) of each detection."""
    return [
        {"score": b[0], "image_id": b[1], "category_id": b[2], "bbox": list(b[3:])} for b in boxes
    ]


def test_one_of_each_kind():
    truth = truth_of(
        [
            (1, 1, 0, 0, 10, 10),
            (1, 1, 50, 0, 10, 10),
            (1, 2, 100, 0, 10, 10),
            (1, 2, 150, 0, 10, 10),
        ]
    )
    results = results_of(
        [
            (0.95, 1, 1, 0, 0, 10, 10),  # right
            (0.9, 1, 1, 0, 1, 10, 10),  # the same object again
            (0.8, 1, 1, 50, 6, 10, 10),  # IoU 4/16 with the second object
            (0.7, 1, 1, 100, 0, 10, 10),  # the third, but it is of class 2
            (0.6, 1, 1, 150, 6, 10, 10),  # near the fourth, but it is of class 2
            (0.5, 1, 2, 300, 300, 10, 10),  # nothing there
        ]
    )
    got = breakdown(truth, results, "bbox")
    # The fourth object is met, but by a detection that is doubly wrong: it is missed.
    assert got.count == dict.fromkeys(KINDS, 1)
    # Class 1: one of two found, at once: recalls 0 to 0.5 of 101 have precision 1. Class 2: none.
    half = 51 / 101
    assert got.ap == pytest.approx(100 * half / 2, abs=1e-3)
    # Put in place, the third detection is the second of class 1, with one wrong before it: at
    # recall 1 precision is 2/3. Without the duplicate alone nothing is won.
    after = 100 * (half + 50 / 101 * 2 / 3) / 2
    assert got.cost["localisation"] == pytest.approx(after - got.ap, abs=2e-3)
    assert got.cost["duplicate"] == got.cost["background"] == got.cost["both"] == 0
    # Of class 2, the fourth detection comes before the wrong one: one of two objects, at once.
    assert got.cost["class"] == pytest.approx(100 * half / 2, abs=1e-3)
    assert got.cost["missed"] == 0  # class 2 has one object less, and still finds none


def test_what_is_found_anyway_is_taken_away():
    """A class mistake at an object that is found gains what its removal gains."""
    truth = truth_of([(1, 1, 0, 0, 10, 10), (1, 2, 50, 0, 10, 10)])
    results = results_of(
        [(0.9, 1, 2, 0, 0, 10, 10), (0.8, 1, 1, 0, 0, 10, 10), (0.7, 1, 2, 50, 0, 10, 10)]
    )
    got = breakdown(truth, results, "bbox")
    assert got.ap == pytest.approx(75)
    assert (got.count["class"], got.cost["class"]) == (1, pytest.approx(25))


seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(
    seeds, st.sampled_from(["bbox", "segm", "keypoints"]), st.integers(0, 10), st.integers(0, 14)
)
def test_on_any_case(seed, iou_type, objects, detections):
    """AP is that of the evaluation; every detection has one cause; a cure never costs anything."""
    truth, results = make_case(seed, iou_type, 2, 3, objects, detections)
    got = breakdown(truth, results, iou_type, 5)
    expected = coco_ap.evaluate(truth, results, iou_type, [5]).ap(0.5)
    assert got.ap == (None if expected is None else pytest.approx(expected, abs=1e-3))
    state = _classify(truth, results, iou_type, 5, coco_ap.COCO_SIGMAS)
    assert sorted(state.row) == list(range(detections))
    assert set(state.kind) <= {RIGHT, IGNORED, *KINDS} - {"missed"}
    for kind in KINDS:
        assert (got.cost[kind] is None) == (got.ap is None)
        assert got.cost[kind] is None or got.cost[kind] >= -1e-3


def random_case(seed: int, crowds: bool = False) -> tuple[dict, list[dict]]:
    """20 images with 8 objects of 4 classes; detections near them, some of another class."""
    rng = np.random.default_rng(seed)
    objects, found = [], []
    for image in range(1, 21):
        for _ in range(8):
            box = [*(rng.random(2) * 200), *(20 + rng.random(2) * 60)]
            label = int(rng.integers(1, 5))
            objects.append((image, label, *box))
            for _ in range(int(rng.integers(0, 4))):
                moved = np.array(box) + (rng.random(4) - 0.5) * 28
                other = label if rng.random() < 0.7 else int(rng.integers(1, 5))
                found.append((rng.random(), image, other, *moved.clip(1)))
        for _ in range(4):
            noise = [*(rng.random(2) * 200), *(20 + rng.random(2) * 60)]
            found.append((rng.random(), image, int(rng.integers(1, 5)), *noise))
    truth = truth_of(objects, 4, 20)
    if crowds:
        for a in truth["annotations"]:
            a["iscrowd"] = int(rng.random() < 0.1)
    return truth, results_of(found)


@pytest.mark.parametrize("crowds", [False, True])
def test_costs_are_what_edited_results_measure(crowds):
    """Each kind is put right in the files themselves, and these are evaluated."""
    truth, results = random_case(1, crowds)
    got = breakdown(truth, results, "bbox")
    state = _classify(truth, results, "bbox", 100, coco_ap.COCO_SIGMAS)
    assert min(got.count.values()) > 5
    best = _best_claims(state)
    # Objects in the state's order: by image, and as in the file within one.
    objects = sorted(truth["annotations"], key=lambda a: a["image_id"])
    for kind in ("class", "localisation", "both", "duplicate", "background"):
        edited = []
        for i, row in enumerate(state.row):
            result = dict(results[row])
            if state.kind[i] == kind:
                if i not in best:
                    continue
                target = objects[state.target[i]]
                result["category_id"] = target["category_id"]
                result["bbox"] = target["bbox"]
            edited.append(result)
        after = coco_ap.evaluate(truth, edited, "bbox").ap(0.5)
        assert got.ap + got.cost[kind] == pytest.approx(after, abs=2e-3), kind
        assert got.cost[kind] > 0


# What `tidecv` 1.0.1 (github.com/dbolya/tide) gives for random_case(0): AP, then counts and costs.
TIDE_AP = 11.195
TIDE = {
    "class": (30, 3.251),
    "localisation": (99, 25.335),
    "both": (43, 1.542),
    "duplicate": (23, 0.577),
    "background": (37, 2.033),
    "missed": (49, 4.729),
}


def test_tides_own_code_agrees():
    """Counts are equal. TIDE's recalls are i / 100, COCO's np.linspace: they differ in last bits,
    and where a recall is reached exactly, by one detection."""
    got = breakdown(*random_case(0), "bbox")
    assert got.ap == pytest.approx(TIDE_AP, abs=0.05)
    for kind, (count, cost) in TIDE.items():
        assert got.count[kind] == count
        assert got.cost[kind] == pytest.approx(cost, abs=0.05)
