"""Pairs of shapes: what lies where, what is hidden, and that a seed is a set."""

import numpy as np
import torch

from mrcnn_edu.data.check import check_target
from mrcnn_edu.data.pairs import PairsDataset, Shape, outline_mask, paint_pair
from mrcnn_edu.masks import to_boxes


def test_a_shape_fills_its_box_and_none_of_it_is_outside():
    for name in ("triangle", "cross"):
        for turned in (False, True):
            mask = outline_mask(Shape(name, turned, (8.0, 4.0, 32.0, 28.0)), 40)
            box = to_boxes(torch.from_numpy(mask[None]).to(torch.uint8))[0]
            assert (box - torch.tensor([8.0, 4, 32, 28])).abs().max() <= 1.5  # tips are thin


def test_a_shape_that_leaves_the_picture_is_cut():
    whole = outline_mask(Shape("cross", False, (0.0, 0.0, 20.0, 20.0)), 40)
    moved = outline_mask(Shape("cross", False, (-10.0, -10.0, 10.0, 10.0)), 40)
    assert (moved[:10, :10] == whole[10:20, 10:20]).all()
    assert not moved[10:].any()


def test_the_front_one_hides_the_other_and_both_show_when_turned():
    box = (10.0, 10.0, 50.0, 50.0)
    back, front = Shape("cross", True, box), Shape("cross", False, box)
    _, target = paint_pair([back, front], 64, np.random.default_rng(0))
    masks = target["masks"].bool()
    assert not (masks[0] & masks[1]).any()
    assert (masks[1].numpy() == outline_mask(front, 64)).all()
    assert masks[0].sum() > 100
    _, hidden = paint_pair([front, front], 64, np.random.default_rng(0))
    assert hidden["area"][0] == 0


def test_a_set_is_its_seed_and_its_targets_can_be_trained_with():
    first, again, other = PairsDataset(20, 3), PairsDataset(5, 3), PairsDataset(5, 4)
    assert torch.equal(first[2][0], again[2][0])
    assert not torch.equal(first[2][0], other[2][0])
    for index in range(len(first)):
        image, target = first[index]
        check_target(image, target, first.num_classes, f"picture {index}")
    truth = first.ground_truth()
    assert len(truth["annotations"]) == sum(len(first[i][1]["boxes"]) for i in range(20))
