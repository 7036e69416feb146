"""The measures of the overlap artefact, on pictures small enough to count."""

import pytest
import torch

from mrcnn_edu.related.overlap import (
    colliding_share,
    contour,
    false_edge,
    inside,
    seam_steps,
    spill,
)


def rectangle(x1: int, y1: int, x2: int, y2: int) -> torch.Tensor:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[y1:y2, x1:x2] = True
    return mask


def test_what_leaks_and_what_is_lost_is_counted_in_the_shared_part():
    own, other = rectangle(0, 0, 4, 4), rectangle(4, 0, 8, 4)
    box, other_box = torch.tensor([0.0, 0, 6, 4]), torch.tensor([2.0, 0, 8, 4])
    predicted = rectangle(0, 0, 3, 4) | rectangle(4, 0, 5, 4)
    # B has 8 pixels in A's box, 4 are taken; A has 8 in B's box, 4 are missed.
    assert spill(predicted, own, other, box, other_box) == (4, 8, 4, 8)


def test_a_pixel_is_inside_where_its_centre_is():
    assert inside(torch.tensor([0.4, 0.0, 2.6, 1.0]), (2, 4)).tolist() == [[1, 1, 1, 0], [0] * 4]


@pytest.mark.parametrize("cells", [1, 3, 7])
@pytest.mark.parametrize("dx", [0.0, 0.1, 0.3, 0.9, 1.0, 1.5])
def test_the_share_of_collisions_is_that_of_counting(cells, dx):
    positions = (torch.arange(200_000) + 0.5) / 100_000  # 0 to 2
    first, second = positions, positions - dx
    both = (first < 1) & (second >= 0) & (second < 1)
    same = (first * cells).floor() == (second * cells).floor()
    counted = float((both & same).sum() / both.sum().clamp(min=1))
    assert colliding_share(dx, 0, cells) == pytest.approx(counted, abs=1e-3)
    assert colliding_share(0, -dx, cells) == colliding_share(dx, 0, cells)


def test_a_contour_is_one_pixel_wide_and_follows_the_border():
    assert int(contour(rectangle(0, 0, 4, 4)).sum()) == 12
    assert not contour(rectangle(0, 0, 0, 0)).any()


def test_an_edge_is_false_where_no_true_one_is_near():
    truths = torch.stack([rectangle(0, 0, 8, 8), rectangle(0, 0, 8, 8)])
    assert false_edge(truths[0], truths) == 0
    # A hole in the middle: of its four neighbours two are 3 pixels from the border, two 2.
    holed = truths[0].clone()
    holed[4, 4] = False
    assert false_edge(holed, truths, reach=2) == pytest.approx(2 / 28)
    assert false_edge(holed, truths, reach=4) == 0


def test_steps_across_cell_lines_are_told_from_those_beside():
    p = torch.tensor([0.0, 0, 1, 1]).expand(4, 4)  # a step at the line of 2 × 2 cells
    across, beside = seam_steps(p, torch.ones(4, 4, dtype=torch.bool), 2)
    assert across.tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert beside.tolist() == [0] * 16
    nowhere = torch.zeros(4, 4, dtype=torch.bool)
    assert [len(s) for s in seam_steps(p, nowhere, 2)] == [0, 0]
