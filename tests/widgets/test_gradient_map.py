"""The gradient widget: JavaScript's backward is the library's autograd."""

import pytest
import torch
import traitlets

pytest.importorskip("anywidget", reason="widgets need anywidget: pip install anywidget")

from mrcnn_edu.widgets.gradient_map import BINS, GradientMap
from tests.widgets.node import call, needs_node


def widgets(n: int) -> list[GradientMap]:
    """Random maps and boxes; with few distinct values, so that maxima are often equal."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for k in range(n):
        height, width = torch.randint(3, 12, (2,), generator=generator).tolist()
        features = torch.randint(0, 4 if k % 2 else 1000, (height, width), generator=generator)
        corner = torch.rand(2, generator=generator) * 60 - 10
        side = torch.rand(2, generator=generator) * 50 + 1
        box = torch.cat([corner, corner + side]).mul(2).round().div(2).tolist()
        found.append(GradientMap(features.float(), box, 8, bin=k % 18 % 17 - 1, samples=1 + k % 4))
    return found


@needs_node
def test_gradients_are_those_of_the_library():
    cases = widgets(60)
    aligned = [[w.box, BINS, w.size, 1 / w.stride, w.samples, w.bin] for w in cases]
    got = call("gradient_map", "alignGradient", aligned)
    pooled = [
        [torch.frombuffer(bytearray(w.features), dtype=torch.float32).tolist(), w.box, BINS, w.size,
         1 / w.stride, w.bin]
        for w in cases
    ]  # fmt: skip
    also = call("gradient_map", "poolGradient", pooled)
    for widget, align, pool in zip(cases, got, also, strict=True):
        want_align, want_pool = widget.gradients()
        shape = tuple(widget.size)
        torch.testing.assert_close(torch.tensor(align).reshape(shape).double(), want_align, rtol=0,
                                   atol=1e-6)  # fmt: skip
        assert torch.equal(torch.tensor(pool).reshape(shape).double(), want_pool)


def test_the_picture_and_the_traits():
    widget = GradientMap(torch.arange(48.0).reshape(6, 8), [8, 8, 40, 40], 8)
    align, pool = widget.gradients()
    assert align.sum() == pytest.approx(16)
    assert pool.sum() == 16
    titles = [axis.get_title() for axis in widget.figure().axes]
    assert titles[1] == f"RoIAlign: {int((align > 0).sum())} pixels receive"
    with pytest.raises(ValueError, match="one channel"):
        GradientMap(torch.zeros(1, 6, 8), [0, 0, 8, 8], 8)
    with pytest.raises(traitlets.TraitError):
        widget.samples = 0
