"""The heatmap widget: its JavaScript decodes as the library does; it keeps its state."""

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("anywidget", reason="widgets need anywidget: pip install anywidget")

from mrcnn_edu.nn.keypoint_head import decode_keypoints
from mrcnn_edu.widgets.common import unpack
from mrcnn_edu.widgets.heatmap import OWN, HeatmapDecode
from tests.widgets.node import call, needs_node

PHOTOGRAPH = torch.randint(256, (3, 60, 80), dtype=torch.uint8)
NAMES = ("nose", "left_wrist", "right_wrist")
BOX = (20.0, 10.0, 50.3, 52.0)


def maps(joints=3, cells=14, seed=0):
    return torch.randn(joints, cells, cells, generator=torch.Generator().manual_seed(seed))


def widget(**state):
    truth = torch.tensor([[30.0, 20, 2], [25, 40, 1], [0, 0, 0]])
    return HeatmapDecode(maps(), NAMES, BOX, PHOTOGRAPH, truth, **state)


@needs_node
def test_softmax_is_pytorch_s():
    values = 5 * maps()
    got = torch.tensor(call("heatmap", "softmax", [[v.flatten().tolist()] for v in values]))
    torch.testing.assert_close(got, values.flatten(1).softmax(dim=1), atol=1e-6, rtol=1e-5)


@needs_node
def test_the_first_of_equal_values_is_the_best():
    assert call("heatmap", "argmax", [[[1, 3, 3]], [[2, 2]], [[-5]]]) == [1, 0, 0]


@needs_node
@pytest.mark.parametrize("size", [(30, 30), (9, 41), (14, 14), (3, 5), (1, 1)])
def test_resizing_is_pytorch_s_bicubic(size):
    logits = maps()
    want = F.interpolate(logits[None], size, mode="bicubic")[0].flatten(1)
    cases = [[m.flatten().tolist(), 14, *size] for m in logits]
    got = torch.tensor(call("heatmap", "resize", cases))
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@needs_node
@pytest.mark.parametrize("cells", [7, 56])
def test_decoding_is_the_library_s(cells):
    logits = maps(20, cells, seed=1)
    generator = torch.Generator().manual_seed(2)
    corner = 100 * torch.rand(20, 2, generator=generator)
    boxes = torch.cat([corner, corner + 0.5 + 70 * torch.rand(20, 2, generator=generator)], dim=1)
    boxes = boxes.mul(10).round().div(10)
    cases = [[m.flatten().tolist(), cells, b.tolist()] for m, b in zip(logits, boxes, strict=True)]
    found = call("heatmap", "decode", cases)
    places = torch.tensor([f["place"] for f in found])
    want, _ = decode_keypoints(logits[:, None], boxes)
    torch.testing.assert_close(places, want[:, 0, :2], atol=1e-3, rtol=0)
    best = logits.flatten(1).argmax(dim=1)
    assert [f["cell"] for f in found] == [list(divmod(int(b), cells)) for b in best]


@needs_node
@pytest.mark.parametrize("joint", [*NAMES, OWN])
def test_both_sides_of_the_widget_agree(joint):
    shown = widget(joint=joint, peak=[3.3, 9.1], spread=0.8)
    if joint == OWN:
        (drawn,) = call("heatmap", "roundPeak", [[14, [3.3, 9.1], 0.8]])
        heatmap = torch.tensor(drawn).reshape(14, 14)
        torch.testing.assert_close(heatmap, shown.heatmap(), atol=1e-4, rtol=1e-5)
    (found,) = call("heatmap", "decode", [[shown.heatmap().flatten().tolist(), 14, list(BOX)]])
    now = shown.decoded()
    assert found["cell"] == list(now.cell)
    assert found["share"] == pytest.approx(now.share, abs=1e-5)
    assert found["centre"] == pytest.approx(now.centre, abs=1e-4)
    assert found["place"] == pytest.approx(now.place, abs=1e-3)


def test_a_peak_of_one_s_own_lands_where_it_was_put():
    shown = widget(joint=OWN, peak=[7.4, 2.8])
    x, y = shown.decoded().place
    assert x == pytest.approx(20 + 7.4 * 30.3 / 14, abs=0.6)
    assert y == pytest.approx(10 + 2.8 * 42 / 14, abs=0.6)


def test_the_state_that_a_notebook_saves():
    state = widget(joint="left_wrist").get_state()
    saved = torch.from_numpy(unpack(bytes(state["logits"]), (3, 14, 14)).copy())
    assert torch.equal(saved, maps())
    assert state["truth"][3:6] == [25, 40, 1]
    assert state["window"] == [7, 0, 63, 60]
    assert (state["joint"], state["cells"], state["peak"]) == ("left_wrist", 14, [7, 7])


def test_the_picture_shows_the_joint():
    axes = widget(joint="nose").figure().axes
    titles = [axis.get_title() for axis in axes]
    assert titles == ["nose", "softmax, 14 × 14", "logits, 31 × 42 pixels"]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"got \[3, 14, 14\] and 2 names"):
        HeatmapDecode(maps(), NAMES[:2], BOX, PHOTOGRAPH)
    with pytest.raises(ValueError, match="inside the image of 80 × 60 pixels"):
        HeatmapDecode(maps(), NAMES, (20, 10, 81, 52), PHOTOGRAPH)
