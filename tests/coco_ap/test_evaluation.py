"""AP and AR: the whole arrays are pycocotools', to the last bit, on whatever the format allows."""

import contextlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn_edu import coco_ap
from mrcnn_edu.coco_ap.cases import by_pycocotools, compressed, make_case, summarised

DATA = os.environ.get("MRCNN_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="MRCNN_DATA does not name the test data")


def assert_equal(ours: coco_ap.Evaluation, theirs) -> None:
    for name in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(getattr(ours, name), theirs.eval[name], name)


def assert_summary(ours: coco_ap.Evaluation, theirs) -> None:
    for value, expected in zip(ours.summary().values(), summarised(theirs), strict=True):
        if expected == -1:
            assert value is None
        else:
            assert value == pytest.approx(100 * expected, abs=0.5001e-3)  # three decimals


def check(seed, iou_type, images, classes, objects, detections, limits=None):
    case = make_case(seed, iou_type, images, classes, objects, detections)
    ours = coco_ap.evaluate(*case, iou_type, limits)
    theirs = by_pycocotools(*case, iou_type, limits and sorted(set(limits)))
    assert_equal(ours, theirs)
    if limits is None:
        assert_summary(ours, theirs)


few = st.integers(0, 12)
case = {
    "seed": st.integers(0, 2**32 - 1),
    "images": st.integers(1, 3),
    "classes": st.integers(1, 3),
    "objects": few,
    "detections": few,
}
limits = st.none() | st.lists(st.integers(1, 12), min_size=1, max_size=3, unique=True)


@settings(max_examples=450, deadline=None)
@given(**case, limits=limits)
def test_boxes_are_pycocotools(seed, images, classes, objects, detections, limits):
    check(seed, "bbox", images, classes, objects, detections, limits)


@settings(max_examples=350, deadline=None)
@given(**case, limits=limits)
def test_masks_are_pycocotools(seed, images, classes, objects, detections, limits):
    check(seed, "segm", images, classes, objects, detections, limits)


@settings(max_examples=200, deadline=None)
@given(**case, limits=limits)
def test_keypoints_are_pycocotools(seed, images, classes, objects, detections, limits):
    check(seed, "keypoints", images, classes, objects, detections, limits)


@pytest.mark.parametrize("iou_type", ["bbox", "segm", "keypoints"])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_many_objects_and_any_number_of_threads(iou_type, threads, monkeypatch):
    """Hundreds in a few images, above every limit; several threads give the same arrays."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr("mrcnn_edu.kernels.threads.SMALLEST_SHARE", 1)
    check(7, iou_type, 4, 2, 120, 1500)


@pytest.mark.parametrize("iou_type", ["bbox", "segm", "keypoints"])
def test_nothing_of_something(iou_type):
    for images, objects, detections in ((0, 0, 0), (2, 0, 0), (2, 5, 0), (2, 0, 5)):
        if images:
            check(1, iou_type, images, 2, objects, detections)
        else:
            empty = {"images": [], "categories": [], "annotations": []}
            values = coco_ap.evaluate(empty, [], iou_type).summary().values()
            assert set(values) == {None}


@needs_data
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_reference_case_of_the_coco_api(iou_type):
    """All 24 numbers published with the API for boxes and masks, and the arrays behind them."""
    folder = Path(DATA) / "coco_ap_reference"
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    results = json.loads((folder / f"instances_val2014_fake{iou_type}100_results.json").read_text())
    ours = coco_ap.evaluate(truth, results, iou_type)
    assert_equal(ours, by_pycocotools(truth, results, iou_type))
    output = (folder / "val2014_fake_eval_res.txt").read_text().split("type=")
    (section,) = (s for s in output if s.startswith(iou_type))
    published = [float(line.split("=")[-1]) for line in section.splitlines() if "Average" in line]
    assert len(published) == 12
    assert [round(v / 100, 3) for v in ours.summary().values()] == published


@needs_data
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_real_photographs_with_crowds(iou_type):
    folder = Path(DATA) / "coco_cc/annotations"
    truth = json.loads((folder / "instances_val2017.json").read_text())
    assert any(a["iscrowd"] for a in truth["annotations"])
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(folder / "instances_val2017.json")
    rng = np.random.default_rng(0)
    results = []
    for a in truth["annotations"]:
        bitmap = np.roll(coco.annToMask(a), tuple(rng.integers(-6, 7, 2)), (0, 1))
        for _ in range(2):
            shape = {"segmentation": compressed(bitmap)}
            if iou_type == "bbox":
                shape = {"bbox": (np.array(a["bbox"]) + rng.normal(0, 5, 4)).tolist()}
            ids = {k: a[k] for k in ("image_id", "category_id")}
            results.append(ids | shape | {"score": round(rng.random(), 2)})
    ours, theirs = (
        coco_ap.evaluate(truth, results, iou_type),
        by_pycocotools(truth, results, iou_type),
    )
    assert_equal(ours, theirs)
    assert_summary(ours, theirs)
    assert 10 < ours.ap() < 90


@needs_data
def test_real_keypoints():
    file = Path(DATA) / "coco_cc/annotations/person_keypoints_val2017.json"
    truth = json.loads(file.read_text())
    rng = np.random.default_rng(0)
    results = []
    for a in truth["annotations"]:
        points = np.array(a["keypoints"], float).reshape(17, 3)
        points[:, :2] += rng.normal(0, 0.03 * np.sqrt(a["area"]), (17, 2))
        ids = {k: a[k] for k in ("image_id", "category_id")}
        results.append(ids | {"keypoints": points.ravel().tolist(), "score": rng.random()})
    ours = coco_ap.evaluate(truth, results, "keypoints")
    theirs = by_pycocotools(truth, results, "keypoints")
    assert_equal(ours, theirs)
    assert_summary(ours, theirs)
    assert len(ours.summary()) == 10
    assert 10 < ours.ap() < 95


def test_masks_are_sorted_into_sizes_by_their_own_area():
    """A thin frame fills a large box; with the box in the result pycocotools calls it large."""
    bitmap = np.zeros((120, 120), np.uint8)
    bitmap[[10, 110], 10:111] = bitmap[10:111, [10, 110]] = 1
    shape = {"image_id": 1, "category_id": 1, "segmentation": compressed(bitmap)}
    truth = {
        "info": {},
        "images": [{"id": 1, "height": 120, "width": 120}],
        "categories": [{"id": 1, "name": "frame"}],
        "annotations": [shape | {"id": 1, "iscrowd": 0, "area": 400, "bbox": [10, 10, 101, 101]}],
    }
    # The second detection is wrong, and not small if its box decides.
    other = compressed(np.roll(bitmap, 5, 0))
    results = [shape | {"score": 0.5}, {**shape, "segmentation": other, "score": 0.9}]
    boxed = [r | {"bbox": [10, 10, 101, 101]} for r in results]
    ours = [coco_ap.evaluate(truth, r, "segm").summary() for r in (results, boxed)]
    assert ours[0] == ours[1]
    assert ours[0]["APs"] == pytest.approx(
        100 * summarised(by_pycocotools(truth, results, "segm"))[3]
    )
    assert summarised(by_pycocotools(truth, boxed, "segm"))[3] == pytest.approx(1)
    assert ours[0]["APs"] < 60


def test_an_object_with_id_zero_can_be_found():
    """pycocotools writes the id where it marks a match, and 0 is its mark for none."""
    truth, _ = make_case(0, "bbox", 1, 1, 1, 0)
    truth["annotations"][0] |= {"id": 0, "bbox": [0, 0, 50, 50], "area": 2500, "iscrowd": 0}
    a = truth["annotations"][0]
    results = [{k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 1.0}]
    assert coco_ap.evaluate(truth, results, "bbox").ap() == pytest.approx(100)
    assert summarised(by_pycocotools(truth, results, "bbox"))[0] == 0


def test_parts_of_an_evaluation():
    truth, results = make_case(3, "bbox", 3, 3, 30, 60)
    e = coco_ap.evaluate(truth, results, "bbox", [1, 5])
    assert list(e.summary())[6:8] == ["AR1", "AR5"]
    each = [e.ap(category_id=c) for c in e.category_ids]
    assert e.ap() == pytest.approx(np.mean([v for v in each if v is not None]))
    assert e.ar(max_detections=1) <= e.ar()
    values = [e.ap(t) for t in e.iou_thresholds]
    assert values == sorted(values, reverse=True)
    assert e.ap() == pytest.approx(np.mean(values))
    with pytest.raises(ValueError, match=r"IoU 0\.3 was not evaluated"):
        e.ap(0.3)
    low = coco_ap.evaluate(truth, results, "bbox", iou_thresholds=np.array([0.3]))
    assert low.ap() == low.ap(0.3) >= e.ap(0.5)


def test_arguments_that_make_no_sense():
    truth, results = make_case(3, "bbox", 1, 1, 2, 2)
    with pytest.raises(ValueError, match="iou_type is 'bbox', 'segm' or 'keypoints', got 'mask'"):
        coco_ap.evaluate(truth, results, "mask")
    for limits in ([], [0, 10]):
        with pytest.raises(ValueError, match="max_detections must be 1 or more"):
            coco_ap.evaluate(truth, results, "bbox", limits)
