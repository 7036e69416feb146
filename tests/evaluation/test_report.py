"""A report says what the evaluation found, in tables, files and pictures."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from mrcnn_edu import coco_ap
from mrcnn_edu.coco_ap.cases import by_pycocotools, make_case
from mrcnn_edu.data.dataset import Categories
from mrcnn_edu.errors import UserError
from mrcnn_edu.evaluation import report
from mrcnn_edu.evaluation.coco_format import to_coco
from mrcnn_edu.pictures.overlay import draw_detections
from mrcnn_edu.presets import TINY_FPN
from mrcnn_edu.record import Detections
from tests.evaluation.test_detect import noisy_results, truth_as_results
from tests.fake_data import as_pycocotools, small_shapes


def text(table) -> str:
    console = Console(width=80, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def shapes():
    dataset = small_shapes(8)
    truth = as_pycocotools(dataset)
    return dataset, truth.dataset, noisy_results(truth, 0)


def test_boxes_and_masks_of_a_data_set(shapes):
    _, truth, results = shapes
    made = report.make_report(truth, results)
    assert list(made.evaluations) == list(made.errors) == ["box", "mask"]
    for kind, iou_type in (("box", "bbox"), ("mask", "segm")):
        assert made.metrics()[kind] == coco_ap.evaluate(truth, results, iou_type).summary()
        assert made.errors[kind].ap == made.metrics()[kind]["AP50"]
    printed = text(report.summary_table(made))
    unknown = [v for values in made.metrics().values() for v in values.values() if v is None]
    assert printed.count(report.NOTHING) == len(unknown) + 1 > 4  # and the caption
    assert "-1" not in printed
    assert "no ground truth in this range" in printed
    assert f"{made.metrics()['mask']['AP']:.1f}" in printed
    assert "1 detection an image" in printed
    errors = text(report.error_table(made))
    assert all(kind in errors for kind in made.errors["box"].count)


def test_what_is_measured_follows_the_results():
    truth, results = make_case(4, "keypoints", 2, 1, 6, 8)
    for image in truth["images"]:
        del image["height"]
    made = report.make_report(truth, results)
    assert list(made.evaluations) == ["keypoints"]
    assert made.evaluations["keypoints"].max_detections == (20,)
    assert text(report.summary_table(made)).count("│ AR") == 5
    boxed = [r | {"bbox": [0, 0, 5, 5]} for r in results]
    assert list(report.make_report(truth, boxed).evaluations) == ["box", "keypoints"]
    mixed = [{k: v for k, v in boxed[0].items() if k != "keypoints"}, *results[1:]]
    with pytest.raises(UserError, match=r"Detection 1 .* has no 'bbox'"):
        report.make_report(truth, mixed)


def test_no_results_and_no_objects(tmp_path):
    dataset = small_shapes(3)
    made = report.make_report(dataset.ground_truth(), [])
    assert made.metrics()["mask"]["AP"] == 0
    report.save_report(tmp_path, made)
    report.save_pictures(tmp_path / "p.png", dataset, [], range(3))
    empty = report.make_report(small_shapes(0).ground_truth(), [])
    printed = text(report.summary_table(empty))
    assert printed.count(report.NOTHING) == 25
    text(report.error_table(empty))
    report.save_report(tmp_path / "empty", empty)
    assert json.loads((tmp_path / "empty/metrics.json").read_text())["box"]["AP"] is None


def test_files(shapes, tmp_path):
    dataset, truth, results = shapes
    made = report.make_report(truth, results)
    report.save_report(tmp_path, made)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics == made.metrics()
    classes = json.loads((tmp_path / "classes.json").read_text())["mask"]
    assert list(classes) == dataset.class_names
    known = [c["AP"] for c in classes.values() if c["AP"] is not None]
    assert np.mean(known) == pytest.approx(metrics["mask"]["AP"], abs=1e-2)
    errors = json.loads((tmp_path / "errors.json").read_text())
    assert errors["box"]["count"] == made.errors["box"].count
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 800
        colours = {c for _, c in picture.convert("RGB").getcolors(1 << 20)}
    assert {(0, 114, 178), (213, 94, 0)} <= colours  # the curve at IoU 0.5 and the bars


def test_curves_are_pycocotools(shapes):
    _, truth, results = shapes
    content = report.curves(report.make_report(truth, results))
    boxes = [{k: v for k, v in r.items() if k != "segmentation"} for r in results]
    precision = by_pycocotools(truth, boxes, "bbox").eval["precision"][:, :, :, 0, -1]  # [T, Q, K]
    seen = precision[..., (precision > -1).all(axis=(0, 1))]
    got = np.array(list(content["box"]["all classes"].values()))
    np.testing.assert_allclose(got, seen.mean(axis=2), atol=1e-5)
    for k, curves in enumerate(content["box"]["classes"].values()):
        if precision[0, 0, k] == -1:
            assert curves["0.50"] is None
        else:
            np.testing.assert_allclose(curves["0.50"], precision[0, :, k], atol=1e-5)
    assert len(content["recall"]) == 101


@pytest.mark.parametrize("classes", [("a", "b"), ("nucleus",)])
def test_results_look_like_the_detections_they_are_of(classes):
    g = torch.Generator().manual_seed(0)
    image = (torch.rand(3, 60, 80, generator=g) * 255).byte()
    found = Detections(
        boxes=torch.tensor([[2.0, 3, 40.5, 50.25], [30, 10, 79.5, 58], [1, 1, 20, 20]]),
        labels=torch.tensor([1, len(classes), 1]),
        scores=torch.tensor([0.875, 0.75, 0.25]),
        masks=torch.rand(3, 28, 28, generator=g),
    )
    categories = Categories((7, 3)[: len(classes)], classes)
    results = to_coco(found, 1, (60, 80), lambda label: categories.ids[label - 1], TINY_FPN)
    for least in (0.5, 0.0):
        drawn = report.draw_results(image, results, categories, least, scale=3)
        expected = draw_detections(image, found, classes, least, scale=3)
        assert np.array_equal(np.asarray(drawn), np.asarray(expected))


@pytest.mark.parametrize("left_out", [set(), {"bbox"}, {"segmentation"}])
def test_pictures_show_results(shapes, tmp_path, left_out):
    """With the ground truth as results both halves show the same objects."""
    dataset, *_ = shapes
    results = [
        {k: v for k, v in r.items() if k not in left_out}
        for r in truth_as_results(as_pycocotools(dataset))
    ]
    path = tmp_path / "pictures.png"
    report.save_pictures(path, dataset, results, range(2))
    shown = np.asarray(Image.open(path).convert("RGB"))
    report.save_pictures(path, dataset, [r | {"score": 0.1} for r in results], range(2))
    hidden = np.asarray(Image.open(path).convert("RGB"))
    assert shown.shape == hidden.shape
    assert (shown != hidden).any(axis=2).mean() > 0.002
