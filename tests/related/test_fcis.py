"""FCIS: its joint rule and losses by hand, gradients by finite differences, the whole model."""

import dataclasses
import math

import torch
import torchvision

from mrcnn_edu.presets import TINY_FPN
from mrcnn_edu.record import RoISample
from mrcnn_edu.related.fcis import (
    FCIS,
    RoIScores,
    fcis_config,
    hardest,
    roi_losses,
)
from mrcnn_edu.related.rois import all_rois, refine

SMALL = fcis_config(
    dataclasses.replace(TINY_FPN, num_classes=2, short_side=64, long_side=64), cells=2, bins=4
)


def by_hand() -> RoIScores:
    """Two RoIs, one class, 2 × 2 pixels."""
    inside = torch.zeros(2, 2, 2, 2)
    outside = torch.zeros(2, 2, 2, 2)
    inside[0, 1] = torch.tensor([[4.0, 1], [0, 0]])
    outside[0, 1] = torch.tensor([[0.0, 3], [0, 1]])
    return RoIScores(inside, outside, torch.tensor([[[0.5, 0, 0, 0]], [[9.0, 9, 9, 9]]]))


def test_the_larger_score_speaks_for_the_class_and_their_difference_is_the_mask():
    scores = by_hand()
    assert scores.class_logits.tolist() == [[0, (4 + 3 + 0 + 1) / 4], [0, 0]]
    assert scores.mask_logits(torch.tensor([1, 0]))[0].tolist() == [[4, -2], [0, -1]]
    # The mask is the softmax over the two maps.
    pair = torch.stack([scores.outside[0, 1], scores.inside[0, 1]]).softmax(dim=0)[1]
    torch.testing.assert_close(scores.mask_logits(torch.tensor([1, 0]))[0].sigmoid(), pair)


def test_losses_of_two_rois_by_hand():
    config = dataclasses.replace(
        SMALL, num_classes=1, bins=2, box_smooth_l1_beta=1.0, mask_weight=10.0
    )
    box = torch.tensor([[0.0, 0, 4, 4]])
    mask = torch.zeros(1, 8, 8, dtype=torch.uint8)
    mask[0, :2, :4] = 1  # the upper half of the box
    sample = RoISample(
        torch.cat([box, box + 4]), torch.tensor([1, 0]), torch.tensor([0]), num_positive=1
    )
    losses = roi_losses(by_hand(), [sample], [{"boxes": box, "masks": mask}], config)
    bce = [math.log1p(math.exp(-4)), math.log1p(math.exp(2)), math.log(2), math.log1p(math.exp(-1))]
    expected = [
        [math.log1p(math.exp(-2)), 0.5 * 0.5**2, 10 * sum(bce) / 4],
        [math.log(2), 0, 0],  # background: its class only
    ]
    torch.testing.assert_close(losses, torch.tensor(expected))


def test_gradients_of_the_losses_are_those_of_finite_differences():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)

    box = torch.tensor([[0.0, 0, 6, 6], [3.0, 3, 9, 9]])
    masks = (torch.rand(2, 12, 12, generator=generator) > 0.5).to(torch.uint8)
    sample = RoISample(box[[0, 1, 0]] + 0.5, torch.tensor([1, 2, 0]), torch.tensor([0, 1]), 2)
    target = {"boxes": box, "masks": masks}

    def losses(inside, outside, deltas):
        return roi_losses(RoIScores(inside, outside, deltas), [sample], [target], SMALL)

    inputs = (draw(3, 3, 4, 4), draw(3, 3, 4, 4), draw(3, 1, 4))
    assert torch.autograd.gradcheck(losses, inputs)


def test_hard_mining_takes_the_rois_of_largest_sum():
    losses = torch.tensor([[1.0, 0, 0], [0, 2, 2], [0, 0, 3]])
    assert hardest(losses, 2).tolist() == [[0, 2, 2], [0, 0, 3]]
    assert len(hardest(losses, 9)) == 3


def test_hard_mining_chooses_among_all_proposals_and_true_boxes():
    target = {"boxes": torch.tensor([[0.0, 0, 8, 8]]), "labels": torch.tensor([2])}
    proposals = torch.tensor([[0.0, 0, 8, 7], [20.0, 20, 30, 30]])
    sample = all_rois(proposals, target, SMALL)
    assert sample.labels.tolist() == [2, 2, 0]
    assert sample.boxes.tolist() == [[0, 0, 8, 7], [0, 0, 8, 8], [20, 20, 30, 30]]


def test_a_refined_box_stays_in_the_image_and_keeps_an_area():
    rois = [torch.tensor([[0.0, 0, 8, 8], [8.0, 8, 16, 16]])]
    deltas = torch.tensor([[5.0, 0, 0, 0], [50.0, 0, 0, 0]])  # one width right; ten
    moved = refine(rois, deltas, [(16, 16)], SMALL)[0]
    assert moved.tolist() == [[8, 0, 16, 8], [8, 8, 16, 16]]


def test_a_roi_is_read_as_torchvisions_position_sensitive_pooling_reads_it():
    torch.manual_seed(0)
    model = FCIS(dataclasses.replace(SMALL, bins=2)).eval()
    record = model([torch.rand(3, 64, 64)])
    maps = model.position_maps(record)
    rois = [torch.tensor([[8.0, 16, 40, 48]])]
    scores = model.read(maps, rois)
    theirs = torchvision.ops.ps_roi_pool(maps[0], rois, 2, 1 / 8)  # [1, 2 · 3, 2, 2]
    ours = torch.cat([scores.inside, scores.outside], dim=1)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_five_losses_reach_every_parameter_and_an_image_may_be_empty():
    torch.manual_seed(0)
    for hard in (0, 8):
        model = FCIS(dataclasses.replace(SMALL, hard_rois=hard))
        images = [torch.rand(3, 64, 64), torch.rand(3, 64, 64)]
        masks = torch.zeros(1, 64, 64, dtype=torch.uint8)
        masks[:, 10:40, 10:40] = 1
        targets = [
            {
                "boxes": torch.tensor([[10.0, 10, 40, 40]]),
                "labels": torch.tensor([1]),
                "masks": masks,
            },
            {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "masks": masks[:0]},
        ]
        generators = [torch.Generator().manual_seed(i) for i in range(2)]
        losses = model.losses(model(images), targets, generators)
        assert list(losses) == ["rpn_objectness", "rpn_box", "box_class", "box", "mask"]
        sum(losses.values()).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name


def test_detections_have_masks_of_all_bins_and_both_passes_compete():
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, score_threshold=0.0, vote_iou=0.0)
    images = [torch.rand(3, 64, 64), torch.rand(3, 48, 64)]
    seen = []
    for second in (False, True):
        model = FCIS(dataclasses.replace(config, second_pass=second)).eval()
        torch.manual_seed(1)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        record = model.detect(model(images))
        for found, (height, width) in zip(record.detections, record.image_sizes, strict=True):
            assert found.masks.shape == (len(found.boxes), 4, 4)
            assert (found.boxes >= 0).all()
            assert (found.boxes[:, 2] <= width).all()
            assert (found.boxes[:, 3] <= height).all()
        seen.append({tuple(b) for b in record.detections[0].boxes.tolist()})
    assert seen[0] != seen[1]
