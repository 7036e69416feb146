"""The anchor explorer: JavaScript's anchors and matches are the library's, to the last count."""

import pytest
import torch

pytest.importorskip("anywidget", reason="widgets need anywidget: pip install anywidget")

import traitlets

from mrcnn_edu.anchors import cell_anchors
from mrcnn_edu.widgets.anchors import SETS, AnchorExplorer
from tests.widgets.node import call, needs_node

IMAGE = torch.zeros(3, 128, 192, dtype=torch.uint8)


def objects(n: int) -> list[list[int]]:
    """Objects of whole pixels inside the image."""
    generator = torch.Generator().manual_seed(0)
    side = torch.randint(8, 120, (n, 2), generator=generator)
    room = torch.tensor([192, 128]) - side
    corner = (torch.rand(n, 2, generator=generator) * (room + 1)).floor().long()
    return torch.cat((corner, corner + side), dim=1).tolist()


@needs_node
@pytest.mark.parametrize("base", [8, 18, 32, 50])
def test_the_anchors_of_a_cell_are_the_library_s(base):
    sizes, ratios = [base, 2 * base, 5 * base], [0.5, 1.0, 2.0]
    (got,) = call("anchors", "cellAnchors", [[sizes, ratios]])
    assert torch.equal(torch.tensor(got, dtype=torch.float32), cell_anchors(sizes, ratios))


@needs_node
def test_halves_go_to_the_even_number():
    values = [0.5, 1.5, -0.5, -1.5, 2.4999, -2.6, 3.0]
    got = call("anchors", "round", [[v] for v in values])
    assert got == torch.tensor(values).round().tolist()


@needs_node
@pytest.mark.parametrize("rule", [True, False])
@pytest.mark.parametrize("name", SETS)
def test_matches_are_the_library_s(name, rule):
    boxes = objects(12)
    got = call("anchors", "assign", [[box, name, 14, 192, 128, rule] for box in boxes])
    for box, found in zip(boxes, got, strict=True):
        widget = AnchorExplorer(IMAGE, box, anchors=name, base=14, low_quality=rule)
        want = widget.summary()
        assert found["best"] == pytest.approx(want["best"], abs=1e-6)
        for count in ("positive", "ignored", "negative", "index"):
            assert found[count] == want[count], count
        assert found["anchor"] == widget.all_anchors()[found["index"]].tolist()
        assert len(found["positives"]) == found["positive"]


@needs_node
def test_the_cell_of_a_place():
    cases = [[[15.9, 16], 16, 192, 128], [[999, -4], 16, 192, 128]]
    assert call("anchors", "cellAt", cases) == [[0, 1], [11, 0]]


def test_the_picture_says_what_the_summary_says():
    widget = AnchorExplorer(IMAGE, (32, 32, 96, 96), base=16)
    said = widget.summary()
    assert said["best"] == 1  # a square of 64 about (64, 64), a point of the map of stride 16
    assert f"{said['positive']} positive" in widget.figure().axes[0].get_title()


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(ValueError, match="multiples of 64"):
        AnchorExplorer(IMAGE[:, :100], (0, 0, 10, 10))
    with pytest.raises(traitlets.TraitError):
        AnchorExplorer(IMAGE, (0, 0, 10, 10), anchors="another")
