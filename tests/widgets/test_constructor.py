"""The constructor widget: JavaScript's counts are those of the modules themselves."""

import pytest

pytest.importorskip("anywidget", reason="widgets need anywidget: pip install anywidget")

import traitlets

from mrcnn_edu.widgets.constructor import BACKBONES, Constructor
from tests.widgets.node import call, needs_node

CASES = [
    {},
    {"backbone": "resnet101", "side": 640},
    {"backbone": "resnext101_32x8d", "keypoints": True, "classes": 1},
    {"neck": "c4", "proposals": 300},
    {"neck": "c4", "masks": False, "backbone": "resnet101"},
    {"masks": False, "classes": 7, "side": 352, "proposals": 100},
]


def choice(widget: Constructor) -> dict:
    names = ("neck", "masks", "keypoints", "classes", "side", "proposals")
    return {"plan": widget.plans[widget.backbone], **{n: getattr(widget, n) for n in names}}


@needs_node
@pytest.mark.parametrize("traits", CASES, ids=str)
def test_the_counts_are_those_of_the_modules(traits):
    widget = Constructor(**traits)
    (found,) = call("constructor", "count", [[choice(widget)]])
    real = widget.counts()
    assert sum(p for _, p, _ in found) == real["parameters"]
    for name, _, multiply_adds in found:
        assert multiply_adds / 1e9 == pytest.approx(real["gmac"][name], rel=2e-3, abs=0.01), name
    assert [name for name, *_ in found] == list(real["gmac"])


@needs_node
def test_numbers_are_short():
    assert call("constructor", "short", [[44_401_393], [226.4e9], [3.2e9]]) == [
        "44.4 M",
        "226 G",
        "3.2 G",
    ]
    assert call("constructor", "up", [[800], [801], [1066.7]]) == [800, 832, 1088]


def test_the_picture_names_the_parts_that_are_there():
    texts = [t.get_text() for t in Constructor().figure().axes[0].texts]
    assert "mask\nhead" in texts
    assert "keypoint\nhead" not in texts
    without = Constructor(masks=False, neck="c4").figure().axes[0]
    assert not any("mask" in t.get_text() or "pyramid" in t.get_text() for t in without.texts)
    assert "million parameters" in without.get_title()


def test_only_known_backbones():
    assert len(BACKBONES) == 3
    with pytest.raises(traitlets.TraitError):
        Constructor(backbone="vgg16")
