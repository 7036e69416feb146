"""Checks of chapter 11 that are about results: how they are written, how they are ranked."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrcnn_edu.checks.common import (
    case,
    check,
    inputs_kept,
    numbers,
    require,
    require_equal,
    require_not,
)

Floats = NDArray[np.float64]


@check("11.4")
def check_write_results(answer: Callable[..., Any]) -> None:
    """Check how detections become COCO results: format, ids, and pixels of the image."""
    answer = inputs_kept(answer)

    def run(
        boxes: Any, labels: Any, scores: Any, image_id: int, image: Any, net: Any, ids: list[int]
    ) -> list[dict[str, Any]]:
        b = np.array(boxes, np.float64).reshape(-1, 4)
        n, s = np.array(labels, np.int64), np.array(scores, np.float64)
        got = answer(b, n, s, image_id, image, net, ids)
        require(isinstance(got, list), "Return a list of dictionaries, one for each detection.")
        require(len(got) == len(b), f"{len(b)} detections, {len(got)} results.")
        keys = {"image_id", "category_id", "bbox", "score"}
        right = all(isinstance(r, dict) and set(r) == keys for r in got)
        require(right, f"Each result has the keys {', '.join(sorted(keys))}, and no others.")
        try:
            json.dumps(got)
        except TypeError as error:
            require(False, f"json cannot write your results ({error}): use int(…) and float(…).")
        return got

    case("nothing resized")
    same = (100, 200)  # height, width: nothing is resized
    got = run([[10, 20, 50, 80]], [1], [0.5], 7, same, same, [4, 9])[0]
    require(
        got["bbox"] != [10, 20, 50, 80],
        "The box is still x1, y1, x2, y2. COCO wants x, y, width, height.",
    )
    require_equal(got["bbox"], [10, 20, 40, 60], "A box from (10, 20) to (50, 80).")
    require(
        got["category_id"] not in (0, 1, 2),
        f"Category {got['category_id']} is not in the data set, whose ids are 4 and 9.",
    )
    require(
        got["category_id"] == 4,
        f"Label 1 is the first class, whose id is 4; yours is {got['category_id']}.",
    )
    require(got["image_id"] == 7, f"The image's id is 7; yours is {got['image_id']}.")
    require_equal(got["score"], 0.5, "The score goes through as it is.")
    case("twice as large")
    got = run([[10, 20, 50, 80]], [2], [0.25], 3, (100, 200), (200, 400), [4, 9])[0]
    require(got["category_id"] == 9, f"Label 2 has id 9; yours is {got['category_id']}.")
    require(
        not np.allclose(got["bbox"], [20, 40, 80, 120]),
        "The network saw the image twice as large. Its boxes have to shrink on the way back.",
    )
    require(
        not np.allclose(got["bbox"], [10, 20, 40, 60]),
        "These are pixels of the network's input, twice as large as the image.",
    )
    require_equal(got["bbox"], [5, 10, 20, 30], "The network saw the image twice as large.")
    case("not square")
    got = run([[30, 20, 60, 80]], [1], [0.5], 3, (100, 100), (200, 300), [4])[0]
    require(
        not np.allclose(got["bbox"], [15, 20 / 3, 15, 20]),
        "x was scaled with the height and y with the width: sizes are (height, width).",
    )
    require_equal(
        got["bbox"], [10, 10, 10, 30], "A square image that the network saw as 300 × 200 (W × H)."
    )
    require(run(np.zeros((0, 4)), [], [], 3, same, same, [4]) == [], "No detections: no results.")
    rng = np.random.default_rng(0)
    for trial in range(20):
        case(f"random {trial}")
        count, ids = int(rng.integers(1, 9)), sorted(rng.choice(90, 6, replace=False).tolist())
        corners = rng.random((count, 2)) * 100
        boxes = np.concatenate([corners, corners + rng.random((count, 2)) * 50], axis=1)
        labels, scores = rng.integers(1, 7, count), rng.random(count)
        image, net = ((int(a), int(b)) for a, b in rng.integers(50, 400, (2, 2)))
        results = run(boxes, labels, scores, trial, image, net, ids)
        scale = np.array([image[1] / net[1], image[0] / net[0]] * 2)
        x1, y1, x2, y2 = (boxes * scale).T
        what = f"Random case {trial}: image {image}, network {net} (height, width)."
        wanted = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1)
        require_equal([r["bbox"] for r in results], wanted, what, 1e-3)
        require([r["category_id"] for r in results] == [ids[n - 1] for n in labels], what)
        require_equal([r["score"] for r in results], scores, what, 1e-3)
        require(all(r["image_id"] == trial for r in results), what)


@check("11.5")
def check_rescore(answer: Callable[[Floats, Any, Floats, Any], Any]) -> None:
    """Check new scores [D]: each times the best IoU with an object of its own class."""
    answer = inputs_kept(answer)

    def run(scores: Any, labels: Any, ious: Any, object_labels: Any) -> Any:
        s, n = np.array(scores, np.float64), np.array(labels, np.int64)
        g = np.array(object_labels, np.int64)
        o = np.array(ious, np.float64).reshape(len(s), len(g))
        return numbers(answer(s, n, o, g))

    case("two classes")
    got = run([0.8, 0.5], [1, 2], [[0.5, 0.9], [0.2, 0.6]], [1, 2])
    require_not(
        got,
        [0.72, 0.3],
        "Detection 0 is of class 1, and the object that it overlaps by 0.9 is of class 2: only "
        "objects of its own class count.",
    )
    require_not(
        got,
        [0.5, 0.6],
        "That is the IoU alone. Multiply the score with it: how sure the model is still counts.",
    )
    require_equal(got, [0.4, 0.3], "Two detections of classes 1 and 2; objects of classes 1 and 2.")
    require_equal(
        run([0.8], [1], [[0.3, 0.7, 0.5]], [1, 1, 1]),
        [0.56],
        "Three objects of the right class, IoU 0.3, 0.7, 0.5: the best one counts.",
    )
    case("nothing of its class")
    got = run([0.8], [3], [[0.9]], [1])
    require(
        not got.isnan().any(),
        "No object of its class gives NaN; it should give a score of 0.",
    )
    require_equal(got, [0.0], "A detection of a class that is not in the picture.")
    require_equal(run([0.8, 0.4], [1, 1], np.zeros((2, 0)), []), [0.0, 0.0], "No objects.")
    require(run([], [], np.zeros((0, 2)), [1, 2]).numel() == 0, "No detections: no scores.")
    rng = np.random.default_rng(0)
    for trial in range(20):
        case(f"random {trial}")
        d, g = (int(v) for v in rng.integers(1, 9, 2))
        scores, ious = rng.random(d), rng.random((d, g))
        labels, objects = rng.integers(1, 4, d), rng.integers(1, 4, g)
        best = np.where(labels[:, None] == objects, ious, 0).max(axis=1)
        require_equal(
            run(scores, labels, ious, objects), scores * best, f"Random case {trial}.", 1e-6
        )
