"""The precision-recall widget: its JavaScript, its Python and the evaluator give one AP."""

import numpy as np
import pytest
import torch

pytest.importorskip("anywidget", reason="widgets need anywidget: pip install anywidget")

from mrcnn_edu import coco_ap
from mrcnn_edu.widgets.precision_recall import PrecisionRecall
from tests.widgets.node import call, needs_node


def widget_of(seed: int, detections: int = 9, objects: int = 4, **traits) -> PrecisionRecall:
    """Whole coordinates, few of them, and scores in tenths: equal overlaps and equal scores."""
    rng = np.random.default_rng(seed)

    def boxes(count):
        corners = rng.integers(0, 4, (count, 2)) * 10
        sides = rng.integers(2, 5, (count, 2)) * 10
        return torch.from_numpy(np.concatenate([corners, corners + sides], axis=1)).float()

    return PrecisionRecall(
        boxes=boxes(detections),
        images=sorted(rng.integers(0, 2, detections).tolist()),
        scores=(rng.integers(0, 11, detections) / 10).tolist(),
        objects=boxes(objects),
        object_images=sorted(rng.integers(0, 2, objects).tolist()),
        size=(80, 80),
        **traits,
    )


def as_coco(widget: PrecisionRecall) -> tuple[dict, list[dict]]:
    truth = {
        "images": [{"id": 1, "height": 80, "width": 80}, {"id": 2, "height": 80, "width": 80}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": g + 1, "image_id": image + 1, "category_id": 1, "iscrowd": 0}
            | {"bbox": box.tolist(), "area": float(box[2] * box[3])}
            for g, (image, box) in enumerate(
                zip(widget.object_images, widget._xywh(widget.objects), strict=True)
            )
        ],
    }
    results = [
        {"image_id": image + 1, "category_id": 1, "bbox": box.tolist(), "score": score}
        for image, box, score in zip(
            widget.images, widget._xywh(widget.boxes), widget.scores, strict=True
        )
    ]
    return truth, results


@pytest.mark.parametrize("seed", range(40))
def test_its_ap_is_the_evaluator_s(seed):
    widget = widget_of(seed)
    expected = coco_ap.evaluate(*as_coco(widget), "bbox")
    assert 100 * widget.ap() == pytest.approx(expected.ap())
    for iou in (0.5, 0.75):
        assert 100 * widget.ap(iou) == pytest.approx(expected.ap(iou))


@needs_node
def test_javascript_s_ap_is_python_s():
    widgets = [widget_of(seed) for seed in range(25)]
    at = [(w, t) for w in widgets for t in w.thresholds]
    inputs = [
        [
            *(w._xyxy(w.boxes).tolist(), w.images, w.scores),
            *(w._xyxy(w.objects).tolist(), w.object_images, t),
        ]
        for w, t in at
    ]
    found = call("precision_recall", "match", inputs)
    assert found == [w.matches(t).tolist() for w, t in at]
    orders = call("precision_recall", "ranking", [[w.scores, w.images] for w, _ in at])
    right = [[f[d] >= 0 for d in order] for f, order in zip(found, orders, strict=True)]
    curves = call("precision_recall", "curve", [[r, 4] for r in right])
    for (w, t), curve in zip(at, curves, strict=True):
        for got, expected in zip(curve.values(), w.curve(t), strict=True):
            assert got == pytest.approx(expected.tolist())
    points = call("precision_recall", "atRecalls", [[c] for c in curves])
    means = call("precision_recall", "mean", [[p] for p in points])
    assert means == pytest.approx([w.ap(t) for w, t in at])


def test_a_better_score_for_a_right_detection_never_lowers_ap_at_a_threshold_it_is_right_at():
    box = torch.tensor([[0.0, 0, 10, 10], [20.0, 0, 30, 10], [50.0, 50, 60, 60]])
    widget = PrecisionRecall(box, [0, 0, 0], [0.3, 0.9, 0.6], box[:2], [0, 0], (70, 70))
    assert widget.matches(0.5).tolist() == [0, 1, -1]
    before = widget.ap(0.5)
    assert before == pytest.approx((51 + 50 * 2 / 3) / 101)
    widget.scores = [0.7, 0.9, 0.6]
    assert widget.ap(0.5) == 1


def test_it_draws_itself_and_no_detections_give_zero():
    widget = widget_of(1, cut=0.4)
    assert len(widget.figure().axes) == 3
    nothing = PrecisionRecall(torch.zeros(0, 4), [], [], torch.ones(1, 4), [0], (9, 9))
    assert nothing.ap() == 0
    nothing.figure()
