"""Small COCO ground truths and results, made by chance, and what pycocotools says about them.

On easy cases any two evaluators agree, so these are hard ones: ties, crowds, overlaps exactly at a
threshold. The tests and Chapter 11 hold `mrcnn_edu.coco_ap.evaluate` against pycocotools.
"""

import contextlib
import copy
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as rle_ops
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

AREAS = (0, 5, 144, 1024, 1024.5, 9216, 9216.5, 20000)
SCORES = (0.0, 0.25, 0.5, 0.5000001, 1.0)


def by_pycocotools(
    ground_truth: dict[str, Any],
    results: list[dict[str, Any]],
    iou_type: str,
    max_detections: list[int] | None = None,
) -> COCOeval:
    """pycocotools' evaluator of a case, after `evaluate` and `accumulate`, without its prints.

    Args:
        ground_truth: the content of an annotation file; it is copied.
        results: detections in COCO's results format; copied, and none are allowed.
        iou_type: "bbox", "segm" or "keypoints".
        max_detections: three limits, ascending, instead of COCO's 1, 10 and 100.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset = copy.deepcopy(ground_truth)
        truth.createIndex()
        found.dataset = {**truth.dataset, "annotations": []}
        found.createIndex()
        if results:  # loadRes looks at the first
            found = truth.loadRes(copy.deepcopy(results))
        evaluator = COCOeval(truth, found, iou_type)
        if max_detections is not None:
            evaluator.params.maxDets = max_detections
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator


def summarised(evaluator: COCOeval) -> list[float]:
    """Its twelve or ten numbers, 0 to 1, −1 where it found no ground truth."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.summarize()
    return evaluator.stats.tolist()


def one_class(
    objects: Sequence[tuple[int, Sequence[float]]],
    detections: Sequence[tuple[int, float, Sequence[float]]],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Boxes of one class on images of 100 × 100, as annotations and results.

    Args:
        objects: image and box, (x, y, width, height), of each; image ids are 1, 2, …
        detections: image, score and box.
    """
    last = max([1, *(o[0] for o in objects), *(d[0] for d in detections)])
    ground_truth = {
        "info": {},
        "images": [{"id": i, "height": 100, "width": 100} for i in range(1, last + 1)],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": n, "image_id": i, "category_id": 1, "iscrowd": 0}
            | {"bbox": list(box), "area": box[2] * box[3]}
            for n, (i, box) in enumerate(objects, start=1)
        ],
    }
    results = [
        {"image_id": i, "category_id": 1, "bbox": list(box), "score": score}
        for i, score, box in detections
    ]
    return ground_truth, results


def make_case(
    seed: int, iou_type: str, images: int, classes: int, objects: int, detections: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Random annotations and results, as nasty as the format allows.

    Args:
        seed: the same gives the same.
        iou_type: "bbox", "segm" or "keypoints".
        images: how many; they are 12 or 120 pixels high.
        classes: how many.
        objects: annotations in all images.
        detections: results in all images.

    Coordinates lie on a coarse grid, so that overlaps are exactly at thresholds and equal to each
    other; scores repeat; areas lie on the borders of the size ranges; ids have holes and no order;
    there are crowds, `ignore` flags that the format no longer has, images and classes with nothing.
    """
    rng = np.random.default_rng(seed)
    image_ids = (rng.permutation(3 * images)[:images] + 5).tolist()
    category_ids = (rng.permutation(3 * classes)[:classes] + 2).tolist()
    side = int(rng.choice([12, 120]))
    ground_truth: dict[str, Any] = {
        "info": {},
        "images": [{"id": i, "height": side, "width": side + 4} for i in image_ids],
        "categories": [{"id": c, "name": str(c)} for c in category_ids],
        "annotations": [],
    }
    joints = [rng.integers(0, side, (17, 2)).astype(float) for _ in range(3)]

    def entry() -> dict[str, Any]:
        return {
            "image_id": int(rng.choice(image_ids)),
            "category_id": int(rng.choice(category_ids)),
        } | _shape(rng, iou_type, side, joints)

    for i in range(objects):
        crowd = int(rng.random() < 0.2)
        a = entry() | {"id": i + 1, "iscrowd": crowd, "ignore": int(rng.integers(2))}
        a["area"] = float(rng.choice(AREAS))
        if iou_type == "segm":
            a["segmentation"] = _other_form(rng, a["segmentation"])
        if iou_type == "keypoints":
            seen = rng.integers(0, 3, 17) * (rng.random() < 0.8)
            points = np.array(a["keypoints"]).reshape(17, 3)
            points[:, 2] = seen
            a["keypoints"] = points.ravel().tolist()
            a["num_keypoints"] = int((seen > 0).sum()) * int(rng.random() < 0.9)
            a["bbox"] = rng.integers(0, side, 4).tolist()
        ground_truth["annotations"].append(a)
    ground_truth["annotations"] = [ground_truth["annotations"][i] for i in rng.permutation(objects)]
    results = [entry() | {"score": float(rng.choice(SCORES))} for _ in range(detections)]
    return ground_truth, results


def _shape(rng: np.random.Generator, iou_type: str, side: int, joints: list) -> dict[str, Any]:
    if iou_type == "bbox":
        return {"bbox": (rng.integers(0, 5, 4) * side / 4).tolist()}  # many are the same
    if iou_type == "keypoints":
        points = np.ones((17, 3))
        moved = rng.normal(0, side * rng.choice([0, 0.02, 0.1]), (17, 2))
        points[:, :2] = joints[rng.integers(len(joints))] + moved
        return {"keypoints": points.ravel().tolist()}
    bitmap = np.zeros((side, side + 4), np.uint8, order="F")
    x1, x2, y1, y2 = rng.integers(0, 5, 4) * side // 4
    bitmap[y1:y2, x1:x2] = 1
    if rng.random() < 0.3:
        bitmap ^= (rng.random(bitmap.shape) < 0.2).astype(np.uint8)  # runs of every length
    return {"segmentation": compressed(bitmap)}


def compressed(bitmap: np.ndarray) -> dict[str, Any]:
    """A bitmap as in a results file."""
    rle = rle_ops.encode(np.asfortranarray(bitmap.astype(np.uint8)))
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode()}


def _other_form(rng: np.random.Generator, rle: dict[str, Any]) -> Any:
    """The same mask as a string, as bytes or as a list of runs, or a polygon in its stead."""
    form = rng.integers(4)
    if form == 0:
        return {**rle, "counts": rle["counts"].encode()}
    if form == 1:
        pixels = rle_ops.decode(rle).ravel(order="F")
        change = np.flatnonzero(np.diff(np.concatenate(([0], pixels)))).tolist()
        edges = np.array([0, *change, len(pixels)])
        return {**rle, "counts": np.diff(edges).tolist()}
    if form == 2:
        h, w = rle["size"]
        x1, y1, x2, y2 = (rng.random(4) * (w, h, w, h)).tolist()
        return [[x1, y1, x2, y1, x2, y2, x1, y2]]
    return rle
