"""The roofline widget: its JavaScript, its Python and PyTorch's counter give one bound."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

pytest.importorskip("anywidget", reason="widgets need anywidget: pip install anywidget")

from mrcnn_edu.widgets.roofline import Roofline
from tests.widgets.node import call, needs_node

MEASURED = {
    "roofs": {
        "1": {"float32_macs_s": 5e10, "bytes_s": 2e10},
        "2": {"float32_macs_s": 1e11, "bf16_macs_s": 2e11, "bytes_s": 4e10},
    },
    "layers": [
        {"stage": "RPN", "kind": "1×1 conv", "multiply_adds": 10**8, "moved": 4 * 10**7}
        | {"channels last ms": 1.5, "channels first ms": 10.0, "bf16 ms": 1.0},
        {"stage": "box head", "kind": "linear", "multiply_adds": 10**9, "moved": 4 * 10**6}
        | {"channels last ms": 12.0, "channels first ms": 12.5},
    ],
}
STATES = [
    {"channels": c, "side": s, "kernel": k, "groups": g, "batch": n, "roof": r}
    for c, s, k, g, n, r in [
        (64, 64, 1, 1, 1, 0), (256, 200, 3, 1, 2, 0), (512, 7, 3, 16, 1, 1), (16, 28, 5, 2, 16, 1),
        (2048, 14, 1, 1, 1, 0), (128, 100, 7, 8, 3, 0), (16, 200, 1, 2, 1, 0),
    ]
]  # fmt: skip


@pytest.mark.parametrize("state", STATES)
def test_its_layer_is_a_convolution_that_pytorch_counts_alike(state):
    widget = Roofline(MEASURED, **state)
    layer = widget.layer()
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        out = layer.run(torch.zeros(layer.input), torch.zeros(layer.weight))
    assert tuple(out.shape) == layer.output
    assert widget.bound()["work"] == counter.get_total_flops() / 2


@needs_node
def test_javascript_s_bound_is_python_s():
    widgets = [Roofline(MEASURED, **state) for state in STATES]
    given = [[state, w.roofs[w.roof][3]] for state, w in zip(STATES, widgets, strict=True)]
    costs = call("roofline", "cost", given)
    bounds = call(
        "roofline",
        "bound",
        [[c, *w.roofs[w.roof][1:3]] for c, w in zip(costs, widgets, strict=True)],
    )
    for got, widget in zip(bounds, widgets, strict=True):
        expected = widget.bound()
        assert got.pop("roof") == expected.pop("roof")
        assert got == pytest.approx(expected)
    assert len({w.bound()["roof"] for w in widgets}) == 2  # both roofs are tried


@needs_node
def test_dragging_finds_the_channels_of_an_intensity():
    choices = [16, 64, 256, 1024]
    layer = {"channels": 64, "side": 56, "kernel": 3, "groups": 1, "batch": 1}
    wanted = [Roofline(MEASURED, **(layer | {"channels": c})).bound()["intensity"] for c in choices]
    given = [[choices, layer, 4, w * nudge] for w in wanted for nudge in (0.9, 1.0, 1.1)]
    assert call("roofline", "channelsFor", given) == [c for c in choices for _ in range(3)]


def test_it_draws_itself_in_each_way_and_leaves_out_what_was_not_measured():
    for state in ({}, {"memory": "channels first"}, {"roof": 1}):
        widget = Roofline(MEASURED, **state)
        (axis,) = widget.figure().axes
        assert len(axis.lines) == 4
        assert len(axis.lines[2].get_xdata()) == (1 if widget.roof else 2)
    assert [r[0] for r in Roofline(MEASURED).roofs] == ["float32", "bfloat16"]
    without = {**MEASURED, "roofs": {"1": MEASURED["roofs"]["1"]}}
    assert [r[0] for r in Roofline(without).roofs] == ["float32"]
