"""The RoI widget: its JavaScript computes what the library computes; it keeps its state."""

import pytest
import torch

pytest.importorskip("anywidget", reason="widgets need anywidget: pip install anywidget")

from mrcnn_edu.roi import reference
from mrcnn_edu.widgets.common import unpack
from mrcnn_edu.widgets.roi_sampling import OPERATORS, RoISampling
from tests.widgets.node import call, needs_node

MAP = torch.rand(9, 12, generator=torch.Generator().manual_seed(5))


def random_boxes(count, limits, generator):
    """xyxy, of any size, some partly outside, a third on half or whole pixels of the map."""
    corner = torch.rand(count, 2, generator=generator) * 1.4 - 0.2
    side = torch.rand(count, 2, generator=generator) * 0.9 + 0.01
    boxes = torch.cat([corner, corner + side], dim=1).double() * torch.tensor(limits * 2)
    boxes[::3] = (boxes[::3] / 2).round() * 2
    return boxes


@needs_node
@pytest.mark.parametrize("operator", OPERATORS)
def test_outputs_equal_the_library_s(operator):
    generator = torch.Generator().manual_seed(1)
    stride, cases, wanted = 4, [], []
    boxes = random_boxes(120, [MAP.shape[1] * stride, MAP.shape[0] * stride], generator)
    for k, box in enumerate(boxes):
        bins, samples, aligned, reduce = 1 + k % 7, k % 5, k % 2 == 0, ("mean", "max")[k % 3 == 0]
        options = {
            "operator": operator, "bins": bins, "samples": samples,
            "aligned": aligned, "reduce": reduce,
        }  # fmt: skip
        cases.append([MAP.flatten().tolist(), list(MAP.shape), box.tolist(), 1 / stride, options])
        where = MAP.double().numpy()[None], box.tolist(), (bins, bins), 1 / stride
        if operator == "pool":
            out = reference.pool_forward(*where)
        elif operator == "warp":
            out = reference.sampled_forward(*where, samples, False, True, reduce)
        else:
            out = reference.sampled_forward(*where, samples, aligned, False, reduce)
        wanted.append(torch.from_numpy(out).flatten())
    for got, want in zip(call("roi_sampling", "pool", cases), wanted, strict=True):
        torch.testing.assert_close(torch.tensor(got, dtype=torch.float64), want)


@needs_node
def test_bins_and_weights_equal_the_reference_s():
    box, scale, size = [7.5, 3.25, 30.0, 31.0], 0.25, (9, 12)
    windows = call("roi_sampling", "pooledBins", [[box, 3, size, scale]])[0]
    pixels = [
        [(i, j) for i in range(top, bottom) for j in range(left, right)]
        for top, bottom, left, right in windows
    ]
    assert pixels == [p for _, _, p in reference.pool_bins(box, (3, 3), size, scale)]
    for operator, aligned in (("warp", False), ("align", False), ("align", True)):
        arguments = [box, 3, size, scale, 2, operator, aligned]
        bins = call("roi_sampling", "sampledBins", [arguments])[0]
        want = reference.bin_samples(box, (3, 3), size, scale, 2, aligned, operator == "warp")
        for points, (_, _, taps) in zip(bins, want, strict=True):
            got = torch.tensor([point["taps"] for point in points], dtype=torch.float64)
            torch.testing.assert_close(got, torch.tensor(taps, dtype=torch.float64))


@needs_node
def test_rounding_and_interpolation_at_every_edge():
    halves = [k / 2 for k in range(-30, 31)] + (torch.randn(200) * 50).tolist() + [0.49999999999]
    got = call("roi_sampling", "roundHalfAway", [[v] for v in halves])
    assert got == [reference.round_half_away(v) for v in halves]
    places = [(y / 2, x / 2) for y in range(-4, 22) for x in range(-4, 28)]
    taps = call("roi_sampling", "bilinear", [[y, x, 9, 12] for y, x in places])
    assert [[tuple(t) for t in each] for each in taps] == [
        reference.bilinear(y, x, 9, 12) for y, x in places
    ]


def test_the_literal_case():
    widget = RoISampling(torch.arange(25.0).reshape(5, 5), [1, 1, 3, 3], 1, bins=4, aligned=False)
    outputs = widget.outputs()
    assert outputs["align"][0].tolist() == [7.5, 8.0, 8.5, 9.0]
    widget.aligned = True
    assert widget.outputs()["align"][0].tolist() == [4.5, 5.0, 5.5, 6.0]
    assert outputs["pool"][0].tolist() == [6.0, 7.0, 8.0, 8.0]


def test_the_state_that_a_notebook_saves():
    photograph = torch.randint(256, (3, 36, 48), dtype=torch.uint8)
    widget = RoISampling(MAP, [2, 3, 20, 30], 4, photograph, operator="pool", bin=[1, 2])
    state = widget.get_state()
    assert torch.equal(torch.from_numpy(unpack(bytes(state["features"]), (9, 12)).copy()), MAP)
    assert (state["size"], state["stride"], state["bin"]) == ([9, 12], 4, [1, 2])
    assert state["photograph"].startswith("data:image/jpeg;base64,")
    assert ".mw-roi-readout" in state["_css"]
    assert "--mw-blue" in state["_css"]


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_picture_shows_the_map_and_three_outputs(operator):
    figure = RoISampling(MAP, [2, 3, 20, 30], 4, operator=operator, samples=0).figure()
    assert len(figure.axes) == 4
    assert [axis.get_title().rstrip(" ◂") for axis in figure.axes[1:]] == list(OPERATORS.values())
    marks = len(figure.axes[0].patches) + sum(len(a.get_xdata()) for a in figure.axes[0].lines)
    assert marks > 9, "the box, and what is read"


@pytest.mark.parametrize("box", [[-1, 0, 8, 8], [0, 0, 49, 8], [0, 0, 3, 8], [8, 8, 4, 4]])
def test_a_box_that_cannot_be_dragged_is_refused(box):
    with pytest.raises(ValueError, match="must lie inside the image of 48 × 36 pixels"):
        RoISampling(MAP, box, 4)


def test_a_map_of_several_channels_is_refused():
    with pytest.raises(ValueError, match=r"one channel \[H, W\], got \[2, 9, 12\]"):
        RoISampling(MAP.expand(2, 9, 12), [0, 0, 8, 8], 4)
