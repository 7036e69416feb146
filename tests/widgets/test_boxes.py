"""The two-boxes widget: JavaScript's IoU and deltas are the library's."""

import pytest
import torch

pytest.importorskip("anywidget", reason="widgets need anywidget: pip install anywidget")

import traitlets

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.widgets.boxes import WEIGHTS, TwoBoxes
from tests.widgets.node import call, needs_node


def pairs(n: int) -> torch.Tensor:
    """Pairs of boxes on half pixels, so that many touch: [n, 2, 4]."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.randint(0, 60, (n, 2, 2), generator=generator)
    side = torch.randint(1, 60, (n, 2, 2), generator=generator)
    return torch.cat((corner, corner + side), dim=-1) / 2


def widget(**traits) -> TwoBoxes:
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    return TwoBoxes(image, anchor=(10, 10, 30, 20), box=(15, 5, 35, 25), **traits)


@needs_node
def test_iou_is_the_library_s():
    both = pairs(200)
    got = call("boxes", "iou", both.tolist())
    want = torch.cat([box_ops.iou(a[None], b[None])[0] for a, b in both])
    torch.testing.assert_close(torch.tensor(got), want)
    assert call("boxes", "iou", [[[3, 3, 3, 3], [3, 3, 3, 3]]]) == [0]
    # Two boxes of 10 × 10 that share half: with + 1 it is 66 of 176.
    assert call("boxes", "iou", [[[0, 0, 10, 10], [5, 0, 15, 10], 1]]) == [66 / 176]


@needs_node
@pytest.mark.parametrize("name", WEIGHTS)
def test_deltas_are_the_library_s(name):
    both = pairs(100)
    got = call("boxes", "encode", [[a, b, WEIGHTS[name]] for a, b in both.tolist()])
    want = box_ops.encode(both[:, 0], both[:, 1], WEIGHTS[name])
    torch.testing.assert_close(torch.tensor(got), want, rtol=1e-5, atol=1e-5)


@needs_node
def test_boxes_stay_inside_and_keep_a_size():
    box = [10, 10, 30, 20]
    assert call("boxes", "moved", [[box, 15, 12, 60, 40]]) == [[15, 12, 35, 22]]
    assert call("boxes", "moved", [[box, 99, -9, 60, 40]]) == [[40, 0, 60, 10]]
    assert call("boxes", "stretched", [[box, 1, 99, 5, 60, 40]]) == [[10, 10, 60, 14]]
    assert call("boxes", "stretched", [[box, 0, 29, -5, 60, 40]]) == [[26, 0, 30, 20]]


def test_the_picture_s_numbers_are_the_library_s():
    overlap, deltas = widget().numbers()
    assert overlap == pytest.approx(150 / 450)
    assert deltas == pytest.approx([0.25, 0, 0, 0.6931], abs=1e-4)
    assert widget(weights="10, 10, 5, 5").numbers()[1] == pytest.approx(
        [2.5, 0, 0, 3.4657], abs=1e-4
    )
    title = widget().figure().axes[0].get_title()
    assert title.startswith("IoU 0.333   dx 0.25")


def test_boxes_have_four_numbers_and_weights_a_name():
    with pytest.raises(traitlets.TraitError):
        TwoBoxes(torch.zeros(3, 4, 4, dtype=torch.uint8), anchor=(1, 2, 3), box=(0, 0, 1, 1))
    with pytest.raises(traitlets.TraitError):
        widget(weights="2, 2, 2, 2")
