"""COCO evaluation against pycocotools and faster-coco-eval: boxes, masks and keypoints.

Run with `python -m benchmarks.evaluate`. Prints one row a case and writes
results/evaluate_cpu.json. Whatever a case reads is generated: images of 640×480 with 20 objects
of 80 classes and 100 detections each. For pycocotools and faster-coco-eval only evaluate and
accumulate are timed, on objects that are loaded and indexed; ours is the whole call, from the
dictionaries of the two JSON files. Before any timing the precision, recall and score arrays are
checked to be pycocotools', to the last bit. faster-coco-eval is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib.metadata
import importlib.util
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.timing import interleave, medians, ratio, table
from mrcnn_edu import coco_ap, masks
from mrcnn_edu.files import write_json
from mrcnn_edu.provenance import provenance

SEED = 0
HEIGHT, WIDTH = 480, 640
IMAGES, OBJECTS, DETECTIONS, CLASSES = 500, 20, 100, 80
JOINTS = 17


def generate(
    images: int, iou_type: str, objects_of: Sequence[int] = (OBJECTS,)
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A ground truth and results; half of the detections are displaced objects, half are noise.

    Args:
        images: how many.
        iou_type: "bbox", "segm", "keypoints", or "both" for results with boxes and masks.
        objects_of: objects of the images, in turn.
    """
    rng = np.random.default_rng(SEED)
    classes = 1 if iou_type == "keypoints" else CLASSES
    annotations, results = [], []
    for image_id in range(1, images + 1):
        count = objects_of[image_id % len(objects_of)]
        truth = random_boxes(rng, count)  # [G, 4] xyxy
        labels = rng.integers(1, classes + 1, count)
        near = rng.integers(0, count, DETECTIONS // 2)
        shift = (
            rng.normal(0, 0.08, (len(near), 4))
            * np.tile(np.ptp(truth.reshape(-1, 2, 2), axis=1), 2)[near]
        )
        found = np.concatenate((truth[near] + shift, random_boxes(rng, DETECTIONS - len(near))))
        found = found.clip(0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        found_labels = np.concatenate(
            (labels[near], rng.integers(1, classes + 1, DETECTIONS - len(near)))
        )
        scores = rng.random(DETECTIONS).round(4)
        shapes = blobs(rng, count)
        shape_of = np.concatenate((near, rng.integers(0, count, DETECTIONS - len(near))))
        joints = rng.random((count, JOINTS, 2))
        for whose, boxes, names, form in (
            (annotations, truth, labels, shapes),
            (results, found, found_labels, shapes[torch.from_numpy(shape_of)]),
        ):
            rles: list[dict[str, Any]] = [{}] * len(boxes)
            if iou_type in ("segm", "both"):
                rles = masks.paste_to_rle(form, torch.from_numpy(boxes).float(), (HEIGHT, WIDTH))
            of = shape_of if whose is results else np.arange(count)
            for i, (box, name, rle) in enumerate(zip(boxes, names, rles, strict=True)):
                x, y, w, h = *box[:2], *(box[2:] - box[:2])
                entry: dict[str, Any] = {"image_id": image_id, "category_id": int(name)}
                if iou_type in ("segm", "both"):
                    entry["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
                if iou_type == "keypoints":
                    points = joints[of[i]] * (w, h) + (x, y)
                    entry["keypoints"] = (
                        np.column_stack((points, np.full(JOINTS, 2))).ravel().tolist()
                    )
                if iou_type in ("bbox", "both") or whose is annotations:
                    entry["bbox"] = [float(v) for v in (x, y, w, h)]
                if whose is annotations:
                    entry |= {"id": len(annotations) + 1, "iscrowd": int(rng.random() < 0.01)}
                    entry |= {"area": float(0.6 * w * h), "num_keypoints": JOINTS}
                else:
                    entry["score"] = float(scores[i])
                whose.append(entry)
    ids = range(1, images + 1)
    ground_truth = {
        "info": {},
        "images": [{"id": i, "height": HEIGHT, "width": WIDTH} for i in ids],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, classes + 1)],
        "annotations": annotations,
    }
    return ground_truth, results


def random_boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    """[n, 4] xyxy inside the image; sides of 12 to 245 px, evenly on a logarithmic scale."""
    centre = rng.random((n, 2)) * (WIDTH, HEIGHT)
    side = np.exp(rng.uniform(np.log(12), np.log(245), (n, 2)))
    boxes = np.concatenate((centre - side / 2, centre + side / 2), axis=1)
    return boxes.clip(0, [WIDTH, HEIGHT, WIDTH, HEIGHT])


def blobs(rng: np.random.Generator, n: int) -> torch.Tensor:
    """Probabilities [n, 28, 28]: an ellipse with an uneven outline."""
    noise = torch.from_numpy(rng.normal(size=(n, 1, 6, 6))).float()
    uneven = F.interpolate(noise, size=28, mode="bicubic")[:, 0]
    at = torch.linspace(-1, 1, 28)
    return (4 * (1 - at[:, None] ** 2 - at**2) + uneven).sigmoid()


def quietly(make: Callable[[], Any]) -> Any:
    """Run what prints as it goes."""
    with contextlib.redirect_stdout(io.StringIO()):
        return make()


def loaded(coco: Any, ground_truth: dict[str, Any], results: list[dict[str, Any]]) -> Any:
    """Ground truth and results as the COCO objects of one of the two libraries."""
    truth = coco()
    truth.dataset = copy.deepcopy(ground_truth)
    truth.createIndex()
    return truth, truth.loadRes(copy.deepcopy(results))


def rows(images: int, repeats: int) -> list[dict[str, object]]:
    """One row a kind of result."""
    found = []
    for iou_type in ("bbox", "segm", "keypoints"):
        ground_truth, results = generate(images, iou_type)
        objects = quietly(lambda g=ground_truth, r=results: loaded(COCO, g, r))

        def pycocotools(pair: Any = objects, kind: str = iou_type) -> Any:
            evaluator = COCOeval(*pair, kind)
            quietly(evaluator.evaluate)
            quietly(evaluator.accumulate)
            return evaluator.eval

        def ours(g: Any = ground_truth, r: Any = results, kind: Any = iou_type) -> Any:
            return coco_ap.evaluate(g, r, kind)

        expected, got = pycocotools(), ours()
        for key in ("precision", "recall", "scores"):
            np.testing.assert_array_equal(getattr(got, key), expected[key], f"{iou_type} {key}")
        calls = {"pycocotools": pycocotools, "ours": ours}
        if importlib.util.find_spec("faster_coco_eval"):
            calls["faster-coco-eval"] = faster(ground_truth, results, iou_type)
        seconds = interleave(calls, repeats, warmup=1)
        row: dict[str, object] = {"what": iou_type, "images": images, "results": len(results)}
        row |= {"AP": got.summary()["AP"]}
        row |= {f"ms_{name}": 1e3 * value for name, value in medians(seconds).items()}
        row |= {"ratio": ratio(seconds, "pycocotools", "ours")}
        if "faster-coco-eval" in calls:
            row |= {"ratio_faster": ratio(seconds, "pycocotools", "faster-coco-eval")}
        found.append(row)
    return found


def faster(ground_truth: Any, results: Any, iou_type: str) -> Callable[[], Any]:
    """faster-coco-eval's evaluate and accumulate on the same case."""
    from faster_coco_eval import COCO as FasterCOCO
    from faster_coco_eval import COCOeval_faster

    objects = quietly(lambda: loaded(FasterCOCO, ground_truth, results))

    def run() -> Any:
        evaluator = quietly(lambda: COCOeval_faster(*objects, iou_type))
        quietly(evaluator.evaluate)
        quietly(evaluator.accumulate)
        return evaluator.eval

    return run


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", default="results/evaluate_cpu.json")
    options = parser.parse_args()
    found = rows(options.images, options.repeats)
    print(table("COCO evaluation on the CPU: time of pycocotools / time of ours", found))
    config = {
        **vars(options),
        "threads": torch.get_num_threads(),
        "objects": OBJECTS,
        "detections": DETECTIONS,
        "classes": CLASSES,
        "size": [HEIGHT, WIDTH],
        "timed": "pycocotools and faster-coco-eval: evaluate + accumulate; ours: the whole call",
    }
    if importlib.util.find_spec("faster_coco_eval"):
        config["faster-coco-eval"] = importlib.metadata.version("faster-coco-eval")
    write_json(options.out, {**provenance(config, SEED), "rows": found})


if __name__ == "__main__":
    main()
