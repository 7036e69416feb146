"""Checks of chapter 11: matching, average precision, crowds; of results: `ch11_results`."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrcnn_edu.checks.ch11_results import check_rescore, check_write_results
from mrcnn_edu.checks.common import (
    case,
    check,
    inputs_kept,
    numbers,
    parts,
    require,
    require_equal,
)
from mrcnn_edu.coco_ap import RECALL_POINTS, reference

__all__ = [
    "check_average_precision",
    "check_match",
    "check_match_ignoring",
    "check_rescore",
    "check_write_results",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def _no_flags(count: int) -> Bools:
    return np.zeros(count, np.bool_)


@check("11.1")
def check_match(answer: Callable[[Floats, float], Any]) -> None:
    """Check greedy matching: ious [D, G], detections best first, to an object each or −1."""
    answer = inputs_kept(answer)

    def run(rows: list[list[float]], threshold: float = 0.5) -> list[int]:
        ious = np.array(rows, np.float64)
        got = numbers(answer(ious, threshold))
        require(
            got.shape == (len(ious),),
            f"One number for each of the {len(ious)} detections, please; yours has shape "
            f"{list(got.shape)}.",
        )
        return got.long().tolist()

    case("image 1 of section 2")
    got = run([[0.9, 0.0], [0.86, 0.0], [0.0, 0.0], [0.0, 0.75]])
    require(
        got != [0, 0, -1, 1],
        "Detections A and B both found object 0. An object can be found once: B is a duplicate.",
    )
    require(
        got != [0, 1, -1, -1],
        "B took object 1 without touching it: the threshold holds for every choice.",
    )
    require_equal(got, [0, -1, -1, 1], "The four detections of image 1, at a threshold of 0.5.")
    case("at the threshold")
    require(
        run([[0.75, 0.0]], 0.75) == [0],
        "An IoU of exactly 0.75 is enough at a threshold of 0.75: at least, not more than.",
    )
    case("two objects")
    got = run([[0.6, 0.8]])
    require(
        got != [0],
        "Both objects are above the threshold, 0.6 and 0.8: the detection takes the one that it "
        "overlaps most, not the first.",
    )
    require(got == [1], f"One detection, IoU 0.6 and 0.8: it takes object 1; yours: {got}.")
    case("two detections")
    got = run([[0.6, 0.0], [0.9, 0.0]])
    require(
        got != [-1, 0],
        "The second detection overlaps more, but the first has the better score: it chooses first.",
    )
    require(got == [0, -1], f"Score decides who chooses; expected [0, −1], yours: {got}.")
    case("a favourite that is taken")
    got = run([[0.9, 0.7], [0.8, 0.6]])
    require(
        got != [0, -1],
        "The second detection's favourite is taken, but object 1 is free and its IoU of 0.6 is "
        "enough: it takes that one. (PASCAL VOC's rule would give up here; COCO's does not.)",
    )
    require_equal(got, [0, 1], "Two detections, each above the threshold with both objects.")
    case("nothing there")
    nobody = numbers(answer(np.zeros((3, 0)), 0.5)).flatten().tolist()
    require(nobody == [-1, -1, -1], "An image without objects: three detections find nothing.")
    nothing = numbers(answer(np.zeros((0, 2)), 0.5))
    require(nothing.numel() == 0, "An image without detections: return an empty list.")
    rng = np.random.default_rng(0)
    for trial in range(60):
        case(f"random {trial}")
        ious = rng.random((rng.integers(1, 9), rng.integers(1, 7)))
        threshold = float(rng.choice([0.3, 0.5, 0.75, 0.95]))
        none = _no_flags(ious.shape[1])
        expected = reference.match(ious, none, none, threshold)[0]
        require_equal(
            run(ious.tolist(), threshold),
            expected,
            f"Random case {trial}: {len(ious)} detections, {ious.shape[1]} objects, threshold "
            f"{threshold}.",
        )


@check("11.2")
def check_average_precision(answer: Callable[[Floats, Bools, int], Any]) -> None:
    """Check AP at 101 recalls from scores [D], right [D] and the number of objects."""
    answer = inputs_kept(answer)

    def run(scores: Any, right: Any, objects: int) -> float:
        s, r = np.array(scores, np.float64), np.array(right, np.bool_)
        got = numbers(answer(s, r, objects))
        require(got.numel() == 1, f"One number was expected, not shape {list(got.shape)}.")
        return float(got)

    def near(a: float, b: float) -> bool:
        return abs(a - b) < 1e-6

    case("the six of section 2")
    hit = [True, False, True, False, True, True]
    scores = [0.95, 0.9, 0.8, 0.7, 0.6, 0.4]
    got = run(scores, hit, 4)
    require(not near(got, 7600 / 101), "That is in percent: return a number between 0 and 1.")
    require(
        not near(got, 0.75),
        "0.75 is the exact area under the curve. COCO reads it at 101 recalls and averages.",
    )
    require(
        not near(got, (3 + 8 * 2 / 3) / 11),
        "Eleven recalls, 0, 0.1, …, 1: that is PASCAL VOC 2007. COCO takes 101.",
    )
    precision = np.array([1, 1 / 2, 2 / 3, 1 / 2, 3 / 5, 4 / 6])
    recall = np.array([1, 1, 2, 2, 3, 4]) / 4
    place = np.searchsorted(recall, RECALL_POINTS)
    require(
        not near(got, float(precision[place].mean())),
        "Precision goes up and down along your curve. At each recall take the best precision at "
        "that recall or any higher one.",
    )
    require_equal(got, 76 / 101, "The six detections of section 2, four objects.")
    case("one of two")
    got = run(scores[:1], [True], 2)
    require(
        not near(got, 1.0),
        "One of two objects was found. Recall divides by the objects that there are, and where "
        "the curve does not reach, precision is 0.",
    )
    require_equal(
        got, 51 / 101, "One of two objects found, at once: recalls 0 to 0.5 have precision 1."
    )
    case("not in order")
    got = run([0.2, 0.9], [True, False], 1)
    require(
        not near(got, 1.0),
        "The wrong detection has the higher score, so it comes first: sort by score, best first.",
    )
    require_equal(got, 0.5, "A wrong detection (0.9), then a right one (0.2); one object.")
    case("equal scores")
    require_equal(
        run([0.5] * 4, [False, True, False, False], 1),
        0.5,
        "Equal scores keep the order in which they are given: the right one is second.",
    )
    case("nothing found")
    require_equal(run([], [], 3), 0.0, "No detections, three objects: nothing is found.")
    require_equal(run([0.9, 0.8], [False, False], 3), 0.0, "Two detections, both wrong.")
    rng = np.random.default_rng(0)
    for trial in range(40):
        case(f"random {trial}")
        count = int(rng.integers(1, 60))
        s, hits = rng.random(count), rng.random(count) < 0.6
        objects = int(hits.sum() + rng.integers(0, 9)) or 1
        p, r, _ = reference.precision_recall(s, hits, np.ones(count, np.bool_), objects)
        expected = reference.at_recalls(p, r, RECALL_POINTS).mean()
        require_equal(
            run(s, hits, objects),
            expected,
            f"Random case {trial}: {count} detections, {objects} objects.",
            1e-6,
        )


@check("11.3")
def check_match_ignoring(answer: Callable[[Floats, Bools, Bools, float], Any]) -> None:
    """Check matching with crowds and objects that do not count: [D] objects and [D] ignored."""
    answer = inputs_kept(answer)

    def run(rows: Any, crowd: Any, outside: Any, threshold: float = 0.5) -> tuple[list, list]:
        ious = np.array(rows, np.float64).reshape(len(rows), len(crowd))
        c, o = np.array(crowd, np.bool_), np.array(outside, np.bool_)
        got = parts(answer(ious, c, o, threshold), "matches", "ignored")
        matches, ignored = (numbers(x).flatten() for x in got)
        require(
            len(matches) == len(ignored) == len(ious),
            f"{len(ious)} matches and {len(ious)} flags; yours: {len(matches)}, {len(ignored)}.",
        )
        return matches.long().tolist(), ignored.bool().tolist()

    no, yes = False, True
    case("nothing special")
    got = run([[0.9], [0.8], [0.1]], [no], [no])
    require(
        got[1] != [no, yes, yes] and got[1] != [no, yes, no],
        "A detection that finds nothing is wrong, not ignored.",
    )
    require(got == ([0, -1, -1], [no, no, no]), f"Nothing special here: as in 11.1. Yours: {got}.")
    require(
        run([[0.5]], [no], [no]) == ([0], [no]),
        "An IoU of exactly 0.5 is enough at a threshold of 0.5, here as in 11.1.",
    )
    case("a crowd")
    got = run([[0.9], [0.8]], [yes], [yes])
    require(
        got[1] != [no, no] or got[0] != [0, 0],
        "Detections in a crowd are neither right nor wrong: ignored is True for them.",
    )
    require(
        got[0] != [0, -1],
        "A crowd is many objects: the first detection does not use it up, the second finds it too.",
    )
    require(
        got[0] != [-1, -1],
        "Both detections lie in the crowd: without a match they would count as wrong.",
    )
    require(
        got == ([0, 0], [yes, yes]), f"Two detections in a crowd: both are ignored. Yours: {got}."
    )
    case("another size")
    got = run([[0.9], [0.8]], [no], [yes])
    require(
        got != ([0, 0], [yes, yes]),
        "This object does not count (wrong size), but it is one object, no crowd: it can be found "
        "once. The second detection is wrong.",
    )
    require(
        got == ([0, -1], [yes, no]), f"An object of another size and a duplicate. Yours: {got}."
    )
    case("an object and a crowd")
    got = run([[0.6, 0.9]], [no, yes], [no, yes])
    require(
        got != ([1], [yes]),
        "The crowd overlaps more, but object 0 counts and its 0.6 is enough: objects that count "
        "come first.",
    )
    require(got == ([0], [no]), f"An object, IoU 0.6, and a crowd, IoU 0.9. Yours: {got}.")
    require(
        run([[0.6, 0.0], [0.55, 0.7]], [no, yes], [no, yes]) == ([0, 1], [no, yes]),
        "The object is taken by the first detection, so the second falls back on the crowd.",
    )
    require(
        run([[0.4, 0.45]], [no, yes], [no, yes]) == ([-1], [no]),
        "Neither reaches the threshold of 0.5; a crowd has to be overlapped as well.",
    )
    case("nothing there")
    require(
        run(np.zeros((2, 0)), [], []) == ([-1, -1], [no, no]),
        "No objects at all: two wrong detections.",
    )
    require(run(np.zeros((0, 1)), [no], [no]) == ([], []), "No detections: two empty lists.")
    rng = np.random.default_rng(0)
    for trial in range(80):
        case(f"random {trial}")
        ious = rng.random((rng.integers(1, 8), rng.integers(1, 7)))
        crowd: Bools = np.asarray(rng.random(ious.shape[1]) < 0.3)
        outside: Bools = crowd | (rng.random(ious.shape[1]) < 0.3)
        matches, ignored = run(ious, crowd, outside, 0.4)
        expected, excused = reference.match(ious, crowd, outside, 0.4)
        require_equal(matches, expected, f"Random case {trial}, matches.")
        require_equal(ignored, excused, f"Random case {trial}, ignored.")
