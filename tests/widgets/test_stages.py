"""The stage explorer: its JavaScript decodes, finds and looks up as the library does."""

import dataclasses
import json

import pytest
import torch

pytest.importorskip("anywidget", reason="widgets need anywidget: pip install anywidget")

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.widgets.common import unpack
from mrcnn_edu.widgets.stages import StageExplorer
from tests.fake_data import small_config
from tests.widgets.node import call, needs_node


@pytest.fixture(scope="module")
def record():
    """A record, and its model's configuration, in which something was detected."""
    torch.manual_seed(0)
    model = MaskRCNN(small_config()).eval()
    with torch.no_grad():
        model.box_head.classes.weight.mul_(20)
        return model.detect(model([torch.rand(3, 96, 64)])), model.config


def explorer(record, **options) -> StageExplorer:
    detected, config = record
    names = [f"class{i}" for i in range(config.num_classes)]
    return StageExplorer.from_record(detected, config, names, **options)


def test_one_is_made_of_a_record_and_draws_itself(record):
    widget = explorer(record, min_score=0.0)
    detected, _ = record
    assert widget.size == [96, 64]
    assert len(widget.image) == 96 * 64 * 3
    maps = [*detected.backbone_maps, *detected.pyramid[:4]]
    assert len(widget.features) == sum(m.numel() for m in maps)
    assert [m["stride"] for m in widget.backbone] == [4, 8, 16, 32]
    count = len(detected.detections[0].boxes)
    assert count > 0
    assert len(unpack(widget.detections, (-1, 6))) == count
    assert len(widget.masks) == detected.detections[0].masks.numel()
    assert len(widget.figure().axes) == 2


def test_no_detections_is_no_mistake_but_no_detect_is(record):
    assert explorer(record, min_score=1.1).figure().axes
    detected, config = record
    undetected = dataclasses.replace(detected, detections=[])
    with pytest.raises(ValueError, match="no detections"):
        StageExplorer.from_record(undetected, config, ["a"])


@needs_node
def test_javascript_moves_the_anchors_of_the_record_as_the_library_does(record):
    """From the cell's anchors and the row and column, as the page does it."""
    widget = explorer(record)
    detected, _ = record
    rpn = unpack(widget.rpn, (-1, 5))
    cells = unpack(widget.cells, (-1, 3, 4))  # [levels, a, 4]
    level, row, column = 1, 3, 2
    stride, width = widget.pyramid[level]["stride"], widget.pyramid[level]["width"]
    start = len(detected.anchors[0]) + (row * width + column) * 3
    anchors = cells[level] + torch.tensor([column, row, column, row]).numpy() * stride
    expected = torch.cat(detected.anchors)[start : start + 3]
    torch.testing.assert_close(torch.from_numpy(anchors).float(), expected)
    cases = [[a.tolist(), r[1:].tolist()] for a, r in zip(anchors, rpn[start:], strict=False)]
    moved = torch.tensor(call("stages", "decode", cases))
    deltas = detected.deltas[0, start : start + 3]
    torch.testing.assert_close(
        moved, box_ops.decode(deltas, expected, (1, 1, 1, 1)), atol=1e-3, rtol=1e-4
    )


@needs_node
def test_javascript_looks_up_the_cell_that_a_pixel_is_in(record):
    widget = explorer(record)
    level = widget.pyramid[0]
    cases = [(0.0, 0.0), (3.99, 4.0), (63.9, 95.9), (64.0, 96.0), (-1.0, 10.0)]
    assert call("stages", "cellOf", [[x, y, level] for x, y in cases]) == [
        [0, 0],
        [1, 0],
        [23, 15],
        [23, 15],  # the far edge belongs to the last cell
        [2, 0],
    ]


@needs_node
def test_javascript_finds_the_smallest_box_under_the_probe():
    boxes = [[0, 0, 50, 50], [10, 10, 20, 20], [0, 0, 30, 30]]
    points = [(15, 15), (25, 25), (40, 40), (60, 5), (20, 20)]
    found = call("stages", "smallest", [[boxes, x, y] for x, y in points])
    assert found == [1, 2, 0, -1, 2]
    assert call("stages", "maskCell", [[[10, 20, 38, 48], 28, 10.5, 47.9]]) == [[27, 0]]


def test_what_it_saves_is_small_enough_for_a_page(record):
    state = explorer(record).get_state()
    size = sum(len(v) for v in state.values() if isinstance(v, bytes))
    assert size + len(json.dumps({k: v for k, v in state.items() if isinstance(v, str)})) < 1e6
