"""From scored RoIs to detections, and the vote, by hand."""

import dataclasses

import torch

from mrcnn_edu.presets import TINY_FPN
from mrcnn_edu.record import Detections
from mrcnn_edu.related.voting import select_instances, vote_shares

CONFIG = dataclasses.replace(
    TINY_FPN, num_classes=2, detection_nms_iou=0.3, mask_threshold=0.4, score_threshold=0.05
)
BOXES = torch.tensor([[0.0, 0, 8, 8], [0.0, 0, 8, 10], [20.0, 20, 28, 28]])
SCORES = torch.tensor([[0.1, 0.6, 0.3], [0.6, 0.2, 0.2], [0.1, 0.0, 0.9]])


def test_shares_are_the_scores_for_the_class_of_the_kept_box_among_its_neighbours():
    kept = Detections(BOXES[[0, 2]], torch.tensor([1, 2]), torch.tensor([0.6, 0.9]))
    shares = vote_shares(kept, BOXES, SCORES, 0.05, 0.5)
    torch.testing.assert_close(shares, torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.0, 1.0]]))


def test_without_a_vote_the_best_of_each_class_keep_their_own_masks_and_boxes():
    masks = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    found = select_instances(SCORES, BOXES, masks, (32, 32), CONFIG, vote_iou=0.0)
    assert found.labels.tolist() == [2, 1, 2]  # RoI 0 is kept once for each class
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.6, 0.3]))
    torch.testing.assert_close(found.boxes, BOXES[[2, 0, 0]])
    torch.testing.assert_close(found.masks, masks[[2, 0, 0]])


def test_a_vote_takes_what_enough_weight_agrees_on_and_its_tightest_box():
    # RoI 0 sees the upper half of its box, RoI 1 (weight 1/4 of class 1) the whole of its own:
    # where only RoI 1 votes the mean is 0.25 < 0.4.
    masks = torch.ones(3, 8, 8)
    masks[0, 4:] = 0
    found = select_instances(SCORES, BOXES, masks, (32, 32), CONFIG, vote_iou=0.5)
    row = found.labels.tolist().index(1)
    torch.testing.assert_close(found.boxes[row], torch.tensor([0.0, 0, 8, 4]))
    assert (found.masks[row] > 0.4).all()
    # With equal weights the lower half gets half the votes.
    even = SCORES.clone()
    even[1, 1] = 0.6
    found = select_instances(even, BOXES, masks, (32, 32), CONFIG, vote_iou=0.5)
    row = found.labels.tolist().index(1)
    assert found.boxes[row][3] >= 8


def test_a_mask_that_nobody_votes_for_leaves_the_box_as_it_was():
    found = select_instances(SCORES, BOXES, torch.zeros(3, 4, 4), (32, 32), CONFIG, vote_iou=0.5)
    assert len(found.boxes) == 3
    torch.testing.assert_close(found.boxes[0], BOXES[2])


def test_an_image_without_candidates_has_no_detections():
    for count in (0, 2):
        scores = torch.tensor([[1.0, 0, 0]]).expand(count, 3)
        found = select_instances(
            scores, BOXES[:count], torch.zeros(count, 4, 4), (32, 32), CONFIG, 0.5
        )
        assert found.masks.shape == (0, 4, 4)
        assert found.boxes.shape == (0, 4)
