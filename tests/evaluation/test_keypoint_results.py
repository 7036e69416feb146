"""Joints in COCO's results: the annotated ones, written as detections, score full marks."""

import contextlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.cocoeval import COCOeval

from mrcnn_edu.data.coco import CocoDataset
from mrcnn_edu.evaluation.coco_format import to_coco
from mrcnn_edu.evaluation.detect import coco_results
from mrcnn_edu.evaluation.measure import coco_metrics
from mrcnn_edu.evaluation.report import make_report
from mrcnn_edu.presets import KEYPOINT
from mrcnn_edu.record import Detections
from tests.fake_data import as_pycocotools, small_shapes

DATA = os.environ.get("MRCNN_DATA")


def truth_as_results(dataset) -> list[dict]:
    """The targets of a data set, through our detections, as COCO results."""
    results = []
    for i in range(len(dataset)):
        target = dataset.target(i)
        labelled = (target["keypoints"][..., 2] > 0).any(dim=1)
        found = Detections(
            boxes=target["boxes"],
            labels=target["labels"],
            scores=0.5 + 0.5 * labelled.float(),  # people without joints do not push others out
            keypoints=target["keypoints"],
        )
        image = dataset.images[i]
        size = (image["height"], image["width"])
        ids, joints = dataset.to_category_id, dataset.keypoint_labels
        results += to_coco(found, dataset.image_ids[i], size, ids, KEYPOINT, joints)
    return results


def pycocotools_ap(truth, results) -> float:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return float(evaluator.stats[0])


@pytest.mark.skipif(DATA is None, reason="MRCNN_DATA does not name the test data")
@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_annotated_people_score_full(split):
    folder = Path(DATA or "") / "coco_cc"
    file = folder / "annotations" / f"person_keypoints_{split}.json"
    dataset = CocoDataset(folder / split, file)
    results = truth_as_results(dataset)
    truth = as_pycocotools(dataset)
    assert pycocotools_ap(truth, results) == 1.0
    assert coco_metrics(truth.dataset, results, "keypoints")["AP"] == 100
    annotations = [a for i in range(len(dataset)) for a in dataset.annotations(i)]
    annotated = [a["keypoints"] for a in annotations if not a["iscrowd"]]
    assert len(annotated) == len(results)
    for theirs, result in zip(annotated, results, strict=True):
        assert len(result["keypoints"]) == 51
        expected = np.array(theirs, float).reshape(17, 3)
        written = np.array(result["keypoints"]).reshape(17, 3)
        seen = expected[:, 2] > 0
        assert np.allclose(written[seen], expected[seen], atol=1e-3)


def test_of_shapes_only_people_have_joints():
    dataset = small_shapes(24)
    results = truth_as_results(dataset)
    people = [r for r in results if "keypoints" in r]
    assert dataset.keypoint_labels == {10}
    assert len(people) < len(results)
    assert {r["category_id"] for r in people} == {10}
    truth = as_pycocotools(dataset)
    assert pycocotools_ap(truth, people) == 1.0
    assert coco_metrics(truth.dataset, people, "keypoints")["AP"] == 100


def test_the_report_measures_joints_of_people_beside_boxes_of_all():
    dataset = small_shapes(24)
    metrics = make_report(dataset.ground_truth(), truth_as_results(dataset)).metrics()
    assert set(metrics) == {"box", "keypoints"}
    assert metrics["keypoints"]["AP"] == 100
    missing = truth_as_results(dataset)
    del next(r for r in missing if "keypoints" in r)["keypoints"]
    assert set(make_report(dataset.ground_truth(), missing).metrics()) == {"box"}


def test_joints_that_are_off_score_less():
    """Joints that are off by a pixel and a half cost small people their similarity."""
    dataset = small_shapes(24)
    moved = [r for r in truth_as_results(dataset) if "keypoints" in r]
    for r in moved:
        r["keypoints"] = [v + 1.5 * (k % 3 < 2) for k, v in enumerate(r["keypoints"])]
    assert pycocotools_ap(as_pycocotools(dataset), moved) < 1.0


def test_written_joints_by_hand():
    found = Detections(
        boxes=torch.tensor([[0.0, 0, 10, 20], [0, 0, 10, 20]]),
        labels=torch.tensor([1, 2]),
        scores=torch.tensor([0.9, 0.8]),
        keypoints=torch.full((2, 17, 3), 1.0) * torch.tensor([3.5, 7.25, 1]),
    )
    first, second = to_coco(found, 5, (30, 40), lambda label: label, KEYPOINT, {1})
    assert first["keypoints"] == [3.0, 6.75, 1.0] * 17
    assert "keypoints" not in second
    both = to_coco(found, 5, (30, 40), lambda label: label, KEYPOINT)
    assert all("keypoints" in r for r in both)


def test_a_keypoint_model_writes_them(monkeypatch):
    """From end to end on Shapes: a small random model with the head."""
    import dataclasses

    from mrcnn_edu.model import MaskRCNN
    from mrcnn_edu.presets import TINY_FPN

    config = dataclasses.replace(
        TINY_FPN, keypoints=17, keypoint_convs=1, keypoint_channels=8, score_threshold=0.0
    )
    torch.manual_seed(0)
    dataset = small_shapes(2)
    results = coco_results(MaskRCNN(config), dataset, progress=False)
    assert any("keypoints" in r for r in results)
    for r in results:
        assert ("keypoints" in r) == (r["category_id"] == 10)
        if "keypoints" in r:
            x, y, w, h = r["bbox"]
            points = np.array(r["keypoints"]).reshape(17, 3)
            assert (points[:, 0] >= x - 1).all()
            assert (points[:, 0] <= x + max(w, 1) + 1).all()
            assert (points[:, 1] <= y + max(h, 1) + 1).all()
            assert (points[:, 2] == 1).all()
