"""The simulated user: groups, pixels, boxes and corrections."""

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_cdt, label
from torchvision.ops import masks_to_boxes

from mrcnn_edu.related.clicks import (
    correction,
    first_prompts,
    mask_boxes,
    middle_pixels,
    random_pixels,
    touching_groups,
)
from mrcnn_edu.related.prompts import BESIDE, BOTTOM_RIGHT, NOTHING, ON, TOP_LEFT


def blobs(count: int, side: int = 24, seed: int = 0) -> torch.Tensor:
    """Random rectangles, at least one pixel each: [count, side, side]."""
    rng = np.random.default_rng(seed)
    masks = torch.zeros(count, side, side)
    for mask in masks:
        (y1, y2), (x1, x2) = (sorted(rng.choice(side + 1, 2, replace=False)) for _ in range(2))
        mask[y1:y2, x1:x2] = 1
    return masks


def test_objects_that_touch_are_one_group_even_through_others():
    row = torch.zeros(4, 1, 9)
    for i, (start, stop) in enumerate([(0, 2), (4, 6), (2, 4), (7, 9)]):
        row[i, 0, start:stop] = 1
    assert touching_groups(row).tolist() == [0, 0, 0, 1]
    assert touching_groups(row[[0, 1, 3]]).tolist() == [0, 1, 2]


def test_a_corner_is_enough_to_touch_and_no_object_is_no_group():
    masks = torch.zeros(2, 3, 3)
    masks[0, 0, 0] = masks[1, 1, 1] = 1
    assert touching_groups(masks).tolist() == [0, 0]
    assert touching_groups(torch.zeros(0, 3, 3)).tolist() == []


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_scipys_components(seed):
    rng = np.random.default_rng(seed)
    masks = torch.zeros(9, 40, 40)
    for mask in masks:
        y, x = rng.integers(0, 34, 2)
        mask[y : y + rng.integers(1, 7), x : x + rng.integers(1, 7)] = 1
    components, _ = label(masks.amax(dim=0).numpy(), structure=np.ones((3, 3)))
    theirs = [int(components[mask.numpy() > 0][0]) for mask in masks]
    ours = touching_groups(masks).tolist()
    pairs = set(zip(ours, theirs, strict=True))
    assert len(pairs) == len(set(ours)) == len(set(theirs))


def test_the_middle_lies_as_deep_as_scipy_says():
    masks = blobs(20)
    masks[3] = 0  # empty: any pixel
    masks[4] = 1  # all of the map: what lies beyond is outside
    points = middle_pixels(masks)
    column, row = (points * 24).long().unbind(dim=1)
    for i, mask in enumerate(masks.numpy()):
        depth = distance_transform_cdt(np.pad(mask, 1), "chessboard")[1:-1, 1:-1]
        assert depth[row[i], column[i]] == depth.max()


def test_random_pixels_lie_in_the_region_and_everywhere_in_it():
    region = torch.zeros(400, 4, 6)
    region[:, 1:3, 2:5] = 1
    points = random_pixels(region, torch.Generator().manual_seed(0))
    column, row = points[:, 0] * 6 - 0.5, points[:, 1] * 4 - 0.5
    assert set(row.round().int().tolist()) == {1, 2}
    assert set(column.round().int().tolist()) == {2, 3, 4}
    assert ((column - column.round()).abs() < 1e-4).all()  # centres


def test_boxes_of_masks_are_torchvisions_and_one_pixel_more():
    masks = blobs(30)
    theirs = masks_to_boxes(masks)
    theirs[:, 2:] += 1  # torchvision gives the last pixel, we give where it ends
    torch.testing.assert_close(24 * mask_boxes(masks), theirs)


def test_first_prompts_are_clicks_on_the_object_and_boxes_around_it():
    masks = blobs(60)
    as_box = torch.arange(60) % 2 == 0
    prompts = first_prompts(masks, as_box, torch.Generator().manual_seed(0))
    assert prompts.labels[0].tolist() == [TOP_LEFT, BOTTOM_RIGHT]
    assert prompts.labels[1].tolist() == [ON, NOTHING]
    column, row = (prompts.points[~as_box, 0] * 24).long().unbind(dim=1)
    assert (masks[~as_box][torch.arange(30), row, column] == 1).all()
    boxes, true = prompts.points[as_box].flatten(1), mask_boxes(masks[as_box])
    sides = (true[:, 2:] - true[:, :2]).repeat(1, 2)
    assert ((boxes - true).abs() <= 0.25 * sides + 1e-6).all()
    assert not torch.equal(boxes, true)


def test_a_correction_says_what_is_true_where_it_clicks():
    target = torch.zeros(2, 8, 8)
    target[:, :, :4] = 1
    answer = torch.zeros(2, 8, 8)
    answer[1, :, :7] = 1
    points, labels = correction(answer, target)
    assert labels.tolist() == [ON, BESIDE]
    assert points[0, 0] < 0.5
    assert 0.5 < points[1, 0] < 7 / 8


def test_an_answer_without_mistakes_is_clicked_on_the_object():
    target = blobs(5)
    points, labels = correction(target, target, torch.Generator().manual_seed(0))
    column, row = (points * 24).long().unbind(dim=1)
    assert (target[torch.arange(5), row, column] == 1).all()
    assert (labels == ON).all()
