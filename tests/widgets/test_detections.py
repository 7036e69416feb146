"""The detection explorer: what its JavaScript computes is what the library computes."""

import dataclasses

import pytest
import torch

pytest.importorskip("anywidget", reason="widgets need anywidget: pip install anywidget")

from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.widgets.common import pack, photograph, unpack
from mrcnn_edu.widgets.detections import DetectionExplorer
from tests.fake_data import small_config
from tests.widgets.node import call, needs_node


def random_boxes(generator, count):
    corners = torch.rand(count, 2, generator=generator) * 60
    return torch.cat([corners, corners + 5 + torch.rand(count, 2, generator=generator) * 40], dim=1)


def explorer(seed, count=150, objects=6, **traits) -> DetectionExplorer:
    generator = torch.Generator().manual_seed(seed)
    truths = random_boxes(generator, objects)
    noise = 6 * torch.rand(count, 4, generator=generator)
    near = truths[torch.arange(count) % max(1, objects)] + noise if objects else noise
    boxes = torch.where(
        torch.rand(count, 1, generator=generator) < 0.5, near, random_boxes(generator, count)
    )
    return DetectionExplorer(
        image=photograph(torch.zeros(3, 110, 120, dtype=torch.uint8)),
        size=[110, 120],
        candidates=pack(boxes),
        scores=pack(torch.linspace(1, 0, count)),
        labels=torch.randint(1, 4, (count,), generator=generator).tolist(),
        truths=pack(truths),
        truth_labels=torch.randint(1, 4, (objects,), generator=generator).tolist(),
        names=["a", "b", "c"],
        **traits,
    )


def lists(values: bytes) -> list:
    return unpack(values, (-1, 4)).tolist()


@needs_node
@pytest.mark.parametrize("nms", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_javascript_reports_what_the_library_reports(nms, across, threshold):
    for seed in range(3):
        widget = explorer(seed, nms=nms, across=across, threshold=threshold)
        boxes = lists(widget.candidates)
        scores = unpack(widget.scores, (-1,)).tolist()
        (order,) = call("detections", "survivors", [[boxes, widget.labels, nms, across]])
        (count,) = call("detections", "reported", [[order, scores, threshold]])
        assert order[:count] == widget.shown().tolist()
        if nms == 1 and threshold == 0:
            assert count == 100  # the limit, and not all 149


@needs_node
@pytest.mark.parametrize("overlap", [0.3, 0.5, 0.8])
def test_javascript_judges_as_the_library_judges(overlap):
    rights = 0
    for seed in range(5):
        widget = explorer(seed, nms=0.9, overlap=overlap)
        shown = widget.shown().tolist()
        chosen = [lists(widget.candidates)[i] for i in shown]
        labels = [widget.labels[i] for i in shown]
        arguments = [chosen, labels, lists(widget.truths), widget.truth_labels, overlap]
        (claimed,) = call("detections", "claims", [arguments])
        assert claimed == widget.claims()
        hits = [g for g in claimed if g >= 0]
        assert len(hits) == len(set(hits)), "an object is claimed once"
        (found,) = call("detections", "precisionRecall", [[claimed, len(claimed), 6]])
        assert found == pytest.approx(widget.precision_recall())
        rights += len(hits)
    assert rights > 0


def test_a_copy_of_a_right_detection_is_wrong_and_so_is_another_class():
    box = [[10.0, 10, 50, 50]]
    widget = explorer(0, nms=1.0, threshold=0.0)
    widget.candidates = pack(torch.tensor(box * 3))
    widget.scores, widget.labels = pack(torch.tensor([0.9, 0.8, 0.7])), [1, 1, 2]
    widget.truths, widget.truth_labels = pack(torch.tensor(box)), [1]
    assert widget.claims() == [0, -1, -1]
    assert widget.precision_recall() == pytest.approx((1 / 3, 1))
    widget.nms = 0.5
    assert widget.claims() == [0, -1]
    widget.across = True
    assert widget.claims() == [0]


def test_one_is_made_of_a_record_and_reports_what_the_model_detects():
    torch.manual_seed(0)
    model = MaskRCNN(dataclasses.replace(small_config(), score_threshold=0.05))
    record = model([torch.rand(3, 64, 96), torch.rand(3, 64, 64)])
    target = {"boxes": torch.tensor([[5.0, 5, 40, 40]]), "labels": torch.tensor([1])}
    names = tuple(f"class {k}" for k in range(model.config.num_classes))
    for index, found in enumerate(model.detect(record).detections):
        widget = DetectionExplorer.from_record(model, record, target, names, index)
        boxes = torch.from_numpy(unpack(widget.candidates, (-1, 4)).copy())
        assert widget.size == list(record.image_sizes[index])
        assert len(found.boxes) > 0
        assert torch.equal(boxes[widget.shown()], found.boxes)
        assert [widget.labels[i] for i in widget.shown().tolist()] == found.labels.tolist()
        assert "precision" in widget.figure().axes[0].get_title()


def test_nothing_to_report_and_nothing_to_find():
    widget = explorer(0, count=0, objects=0)
    assert widget.shown().tolist() == []
    assert widget.precision_recall() == (1.0, 1.0)
    widget.figure()
