"""The budget calculator: JavaScript's bill is the library's."""

import dataclasses

import pytest

pytest.importorskip("anywidget", reason="widgets need anywidget: pip install anywidget")

import traitlets

from mrcnn_edu.training.budget import bill
from mrcnn_edu.widgets.budget import CARDS, Budget
from tests.widgets.node import call, needs_node

CASES = [
    {},
    {"gpus": 1},
    {"gpus": 64, "workers": 4},
    {"schedule": "3x", "card": "V100, float32"},
    {"schedule": "paper", "gpus": 3, "price": 0.1, "efficiency": 0.5, "worker_images_s": 5.0},
    {"gpus": 2, "images_s": 10.0, "efficiency": 1.0, "workers": 2, "worker_images_s": 10.0},
]


@needs_node
@pytest.mark.parametrize("traits", CASES, ids=str)
def test_javascript_makes_the_same_bill(traits):
    widget = Budget(**traits)
    machine = dataclasses.asdict(widget.machine())
    (found,) = call("budget", "bill", [[widget.images(), machine]])
    assert found == pytest.approx(dataclasses.asdict(widget.bill()))


@needs_node
def test_numbers_are_short():
    cases = [[1569.2], [99.96], [2.3], [0.4249]]
    assert call("budget", "short", cases) == ["1,569", "100.0", "2.30", "0.42"]


def test_a_card_sets_speed_efficiency_and_price_and_what_is_given_wins():
    widget = Budget(card="V100, float16", price=9.0)
    assert (widget.images_s, widget.efficiency) == CARDS["V100, float16"][:2]
    assert widget.price == 9.0
    assert widget.images() == 90_000 * 16
    with pytest.raises(traitlets.TraitError):
        Budget(card="abacus")


def test_the_picture_says_what_the_bill_says():
    widget = Budget(gpus=4, workers=1, worker_images_s=50.0)
    title = widget.figure().axes[0].get_title()
    expected = bill(widget.images(), widget.machine())
    assert expected.limit == "loader"
    assert f"{expected.hours:.1f} h" in title
    assert "loader limit" in title
