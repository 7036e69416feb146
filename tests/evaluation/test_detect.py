"""Evaluation: equal to pycocotools where its summary exists, and clear where ids do not match."""

import contextlib
import copy
import dataclasses
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mrcnn_edu import masks
from mrcnn_edu.cli.quickstart import metrics_table
from mrcnn_edu.data.coco import CocoDataset
from mrcnn_edu.errors import UserError
from mrcnn_edu.evaluation.coco_format import to_coco
from mrcnn_edu.evaluation.detect import coco_results
from mrcnn_edu.evaluation.measure import coco_metrics, measure
from mrcnn_edu.evaluation.predict import predict
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.presets import R50_FPN, TINY_FPN
from mrcnn_edu.record import Detections
from tests.fake_data import as_pycocotools, small_config, small_shapes

DATA = os.environ.get("MRCNN_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="MRCNN_DATA does not name the test data")


def truth_as_results(truth: COCO) -> list[dict]:
    """Every object that is not a crowd, as a detection with score 1."""
    return [
        {
            "image_id": a["image_id"],
            "category_id": a["category_id"],
            "bbox": a["bbox"],
            "score": 1.0,
            "segmentation": truth.annToRLE(a),
        }
        for a in truth.dataset["annotations"]
        if not a["iscrowd"]
    ]


def noisy_results(truth: COCO, seed: int) -> list[dict]:
    rng = np.random.default_rng(seed)
    results = truth_as_results(truth)
    for r in results:
        r["bbox"] = [v + rng.normal(0, 3) for v in r["bbox"]]
        r["score"] = float(rng.random())
        if rng.random() < 0.2:
            r["category_id"] = int(rng.choice(truth.getCatIds()))
    return results


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_numbers_are_pycocotools(iou_type):
    truth = as_pycocotools(small_shapes(20))
    results = noisy_results(truth, 1)
    ours = coco_metrics(truth.dataset, results, iou_type)
    with contextlib.redirect_stdout(io.StringIO()):
        # As detectron2 and torchvision do: no boxes beside masks, or mask sizes are box sizes.
        given = [{k: v for k, v in r.items() if iou_type == "bbox" or k != "bbox"} for r in results]
        theirs = COCOeval(truth, truth.loadRes(given), iou_type)
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    assert 5 < ours["AP"] < 95
    for value, expected in zip(ours.values(), theirs.stats, strict=True):
        if expected == -1:
            assert value is None
        else:
            assert value == pytest.approx(100 * expected, abs=1e-3)


@needs_data
@pytest.mark.parametrize(
    ("kind", "iou_type", "published"),
    # Published with the COCO API: val2014_fake_eval_res.txt.
    [
        ("bbox", "bbox", (50.5, 69.7, 57.3, 58.6, 51.9, 50.1)),
        ("segm", "segm", (32.0, 56.2, 29.9, 38.7, 31.0, 32.7)),
    ],
)
def test_reference_case_of_the_coco_api(kind, iou_type, published):
    folder = Path(DATA) / "coco_ap_reference"
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(folder / "instances_val2014_100.json")
    results = json.loads((folder / f"instances_val2014_fake{kind}100_results.json").read_text())
    metrics = coco_metrics(truth.dataset, results, iou_type)
    assert [round(v, 1) for v in metrics.values()][:6] == list(published)


def test_truth_as_detections_scores_full():
    dataset = small_shapes(12)
    metrics = measure(dataset, truth_as_results(as_pycocotools(dataset)), R50_FPN)
    for kind in ("box", "mask"):
        assert metrics[kind]["AP"] == metrics[kind]["APs"] == 100
        assert metrics[kind]["APl"] is None
    table = metrics_table(metrics, "title")
    assert "no objects" in list(table.columns[-1].cells)


@needs_data
@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_truth_of_real_photographs_scores_full(split):
    folder = Path(DATA) / "coco_cc"
    dataset = CocoDataset(folder / split, folder / f"annotations/instances_{split}.json")
    metrics = measure(dataset, truth_as_results(as_pycocotools(dataset)), R50_FPN)
    assert metrics["box"]["AP"] == metrics["mask"]["AP"] == 100


def test_more_than_a_hundred_detections_count_when_asked():
    """500 objects in one image: at maxDets 100 four fifths can never be found."""
    boxes = [(8 * (i % 25), 8 * (i // 25), 6, 6) for i in range(500)]
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": 1, "height": 160, "width": 200, "file_name": "a.png"}],
        "categories": [{"id": 3, "name": "dot"}],
        "annotations": [
            {
                "id": i + 1,
                "image_id": 1,
                "category_id": 3,
                "bbox": list(b),
                "area": 36,
                "iscrowd": 0,
                "segmentation": [[b[0], b[1], b[0] + 6, b[1], b[0] + 6, b[1] + 6, b[0], b[1] + 6]],
            }
            for i, b in enumerate(boxes)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    results = truth_as_results(truth)
    assert coco_metrics(truth.dataset, results, "segm", max_detections=500)["AP"] == 100
    assert 15 < coco_metrics(truth.dataset, results, "segm", max_detections=100)["AP"] < 25
    assert 0 < coco_metrics(truth.dataset, results, "segm", max_detections=5)["AP"] < 5


def test_no_detections_and_no_objects():
    nothing = coco_metrics(small_shapes(3).ground_truth(), [], "bbox")
    assert nothing["AP"] == 0
    assert nothing["APl"] is None
    nowhere = coco_metrics(small_shapes(0).ground_truth(), [], "bbox")
    assert len(nowhere) == 12
    assert set(nowhere.values()) == {None}


def test_ids_that_do_not_match_are_refused():
    truth = as_pycocotools(small_shapes(3))
    results = truth_as_results(truth)
    with pytest.raises(UserError, match=r"1 category ids .* example \[91\].*category ids"):
        coco_metrics(truth.dataset, [results[0] | {"category_id": 91}], "bbox")
    with pytest.raises(
        UserError, match=r"1 image ids .* example \[77\].*another data set or split"
    ):
        coco_metrics(truth.dataset, [results[0] | {"image_id": 77}], "bbox")


@pytest.fixture(scope="module")
def busy() -> MaskRCNN:
    torch.manual_seed(0)
    model = MaskRCNN(small_config())
    with torch.no_grad():
        model.box_head.classes.weight.mul_(5)
    return model


def test_predictions_come_in_pixels_of_the_given_image(busy):
    """An image enlarged threefold gives the same objects three times as large.

    Shrunk back by bilinear interpolation without antialiasing, it is the small image again: each
    sample falls on the centre of a 3×3 block of equal pixels.
    """
    image = (255 * torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(1))).byte()
    large = image.repeat_interleave(3, dim=1).repeat_interleave(3, dim=2)
    model = copy.deepcopy(busy)
    model.config = dataclasses.replace(model.config, short_side=48, long_side=64)
    small, found = predict(model, [image])[0], predict(model, [large])[0]
    assert len(small.scores) > 0
    torch.testing.assert_close(found.boxes, 3 * small.boxes, rtol=0, atol=1e-3)
    assert torch.equal(found.labels, small.labels)
    assert model.training  # predict restores the mode it found


def test_results_of_a_data_set(busy):
    dataset = small_shapes(4)
    one = coco_results(busy, dataset, batch_size=1, progress=False)
    four = coco_results(busy, dataset, batch_size=4, progress=False)
    assert len(one) == len(four) > 0
    for alone, together in zip(one, four, strict=True):
        assert alone["category_id"] == together["category_id"]
        assert alone["bbox"] == pytest.approx(together["bbox"], abs=2e-3)
        assert alone["score"] == pytest.approx(together["score"], abs=1e-4)
    for r in one:
        assert r["image_id"] in dataset.image_ids
        assert r["category_id"] in dataset.categories.ids
        assert r["segmentation"]["size"] == [64, 64]
    json.dumps(one)
    measure(dataset, one, busy.config)


def test_coco_record_of_a_detection():
    d = Detections(
        torch.tensor([[2.0, 3.0, 12.0, 8.0]]),
        torch.tensor([2]),
        torch.tensor([0.75]),
        torch.ones(1, 28, 28),
    )
    (record,) = to_coco(d, 9, (20, 30), {1: 7, 2: 11}.get, TINY_FPN)
    assert (record["image_id"], record["category_id"], record["score"]) == (9, 11, 0.75)
    assert record["bbox"] == [2, 3, 10, 5]
    assert record["segmentation"]["size"] == [20, 30]
    assert int(masks.decode(record["segmentation"]).sum()) == 50
