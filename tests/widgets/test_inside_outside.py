"""The map explorer: JavaScript assembles what the library's pooling does."""

import pytest
import torch

pytest.importorskip("anywidget", reason="widgets need anywidget: pip install anywidget")

from mrcnn_edu.widgets.inside_outside import BINS, InsideOutside
from tests.widgets.node import call, needs_node


def widget(k: int, seed: int = 0) -> InsideOutside:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, k * k, 8, 9, generator=generator)
    corner = torch.rand(2, generator=generator) * 30 - 5
    side = torch.rand(2, generator=generator) * 30 + 4
    return InsideOutside(
        torch.zeros(3, 32, 36, dtype=torch.uint8),
        maps,
        torch.cat([corner, corner + side]).tolist(),
        4,
    )


@needs_node
def test_the_assembled_scores_are_those_of_the_library():
    cases = [widget(k, seed) for k in (1, 3, 7) for seed in range(12)]
    arguments, wanted = [], []
    for one in cases:
        half = torch.frombuffer(bytearray(one.maps), dtype=torch.float32).reshape(2, -1)
        for part, values in zip(half, one.assembled(), strict=True):
            arguments.append([part.tolist(), one.cells, one.size, one.box, 1 / one.stride, BINS])
            wanted.append(values.flatten())
    for got, want in zip(call("inside_outside", "assemble", arguments), wanted, strict=True):
        torch.testing.assert_close(torch.tensor(got), want, rtol=0, atol=1e-5)


@needs_node
def test_score_and_mask_are_the_joint_rule():
    inside, outside = widget(3).assembled().flatten(1)
    pair = [[inside.tolist(), outside.tolist()]]
    want = torch.maximum(inside, outside).mean()
    assert call("inside_outside", "score", pair)[0] == pytest.approx(float(want), abs=1e-5)
    got = torch.tensor(call("inside_outside", "mask", pair)[0])
    torch.testing.assert_close(got, (inside - outside).sigmoid(), rtol=0, atol=1e-6)


def test_the_picture_and_what_is_refused():
    figure = widget(3).figure()
    assert [a.get_title() for a in figure.axes][1:3] == ["inside", "outside"]
    with pytest.raises(ValueError, match="maps must be"):
        InsideOutside(torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(2, 5, 2, 2), [0] * 4, 4)
