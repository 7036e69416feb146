"""MNC: stages and losses by hand, gradients through boxes, the whole model."""

import dataclasses
import math

import pytest
import torch

from mrcnn_edu.presets import TINY_FPN
from mrcnn_edu.record import RoISample
from mrcnn_edu.related.mnc import (
    BOX_GRADIENT_LIMIT,
    MNC,
    best_deltas,
    choose_rois,
    good_masks,
    mask_targets,
    mnc_config,
)

SMALL = mnc_config(
    dataclasses.replace(TINY_FPN, num_classes=2, short_side=64, long_side=64, box_samples=8),
    mask_side=6,
    warp=8,
    mask_layer=8,
    path_layer=8,
)


def images_and_targets():
    masks = torch.zeros(1, 64, 64, dtype=torch.uint8)
    masks[:, 10:40, 10:40] = 1
    targets = [
        {"boxes": torch.tensor([[10.0, 10, 40, 40]]), "labels": torch.tensor([1]), "masks": masks},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "masks": masks[:0]},
    ]
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, 64, 64, generator=generator) for _ in range(2)], targets


def losses_of(model: MNC):
    images, targets = images_and_targets()
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    record = model(images)
    record.deltas.retain_grad()
    return model.losses(record, targets, generators), record


@pytest.mark.parametrize("changes", [{}, {"stages": 3}, {"mask_path": False}])
def test_losses_of_all_stages_reach_every_parameter(changes):
    torch.manual_seed(0)
    model = MNC(dataclasses.replace(SMALL, **changes))
    losses, _ = losses_of(model)
    once = ["mask", "mask_class", "box_class", "box"]
    again = [] if changes.get("stages") == 3 else [f"{name}_again" for name in once]
    assert list(losses) == ["rpn_objectness", "rpn_box", *once, *again]
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_what_is_read_in_a_box_moves_the_rpns_deltas_unless_it_is_stopped():
    seen = []
    for box_gradient in (True, False):
        torch.manual_seed(0)
        model = MNC(dataclasses.replace(SMALL, box_gradient=box_gradient, stages=3))
        losses, record = losses_of(model)
        losses["mask"].backward()
        seen.append(record.deltas.grad is not None and record.deltas.grad.abs().sum() > 0)
    assert seen == [True, False]


def test_a_gradient_into_a_box_is_kept_within_its_limit(monkeypatch):
    reached = []
    for limit in (BOX_GRADIENT_LIMIT, 1e9):
        monkeypatch.setattr("mrcnn_edu.related.mnc.BOX_GRADIENT_LIMIT", limit)
        torch.manual_seed(0)
        model = MNC(dataclasses.replace(SMALL, stages=3, box_gradient=True))
        losses, record = losses_of(model)
        (1e3 * losses["mask"]).backward()
        reached.append(float(record.deltas.grad.abs().max()))
    assert 0 < reached[0] < reached[1]


def test_masks_are_good_from_half_overlap_on():
    config = dataclasses.replace(SMALL, mask_side=2)
    truth = torch.tensor([[[1.0, 1], [0, 0]], [[1.0, 1], [0, 0]]])
    masks = torch.tensor(
        [
            [[0.9, 0.3], [0.3, 0.3]],  # 1 of 2: IoU ½
            [[0.9, 0.9], [0.9, 0.9]],  # not a positive
            [[0.9, 0.3], [0.5, 0.3]],  # 1 of 3
        ]
    )
    assert good_masks(masks, truth, torch.tensor([0, 2]), config).tolist() == [True, False, False]


def test_losses_of_a_pass_by_hand(monkeypatch):
    config = dataclasses.replace(SMALL, num_classes=1, mask_side=2, box_smooth_l1_beta=1.0)
    torch.manual_seed(0)
    model = MNC(dataclasses.replace(config, mask_side=2))
    box = torch.tensor([[8.0, 8, 40, 40]])
    masks = torch.zeros(1, 64, 64, dtype=torch.uint8)
    masks[0, 8:24, 8:40] = 1  # the upper half
    target = {"boxes": box, "labels": torch.tensor([1]), "masks": masks}
    sample = RoISample(torch.cat([box, box + 20]), torch.tensor([1, 0]), torch.tensor([0]), 1)
    drawn = torch.tensor([[[3.0, 3], [3, -3]], [[0, 0], [0, 0]]])  # IoU 2/3 with the truth
    logits, box_logits = torch.tensor([[0.0, 2], [0, 0]]), torch.tensor([[0.0, 1], [0, 1]])
    deltas = torch.tensor([[[0.4, 0, 0, 0]], [[0.0, 0, 0, 0]]])
    monkeypatch.setattr(model, "draw_masks", lambda cropped: drawn)
    monkeypatch.setattr(model, "judge", lambda cropped, m: (logits, box_logits, deltas))
    record = model([torch.rand(3, 64, 64)])
    sums, moved = model.pass_losses(record, [sample], [target])
    means = {name: float(total) / count for name, (total, count) in sums.items()}

    def softplus(v: float) -> float:
        return math.log1p(math.exp(v))

    assert means["mask"] == pytest.approx(2 * (3 * softplus(-3) + softplus(3)) / 4, rel=1e-5)
    assert means["mask_class"] == pytest.approx((softplus(-2) + math.log(2)) / 2, rel=1e-5)
    assert means["box_class"] == pytest.approx((softplus(-1) + softplus(1)) / 2, rel=1e-5)
    assert means["box"] == pytest.approx(0.5 * 0.4**2 / 2, rel=1e-5)
    # dx = 0.4 with weight 10 on a box of 32: 1.28 pixels to the right.
    torch.testing.assert_close(moved[0][0], box[0] + torch.tensor([1.28, 0, 1.28, 0]))
    # A worse mask makes the instance background: the mask-level class loss, and only that, changes.
    drawn = torch.tensor([[[-3.0, -3], [3, 3]], [[0, 0], [0, 0]]])
    sums, _ = model.pass_losses(record, [sample], [target])
    total, count = sums["mask_class"]
    assert float(total) / count == pytest.approx((softplus(2) + math.log(2)) / 2, rel=1e-5)


def test_the_masked_path_teaches_the_mask_only_where_the_mask_is_good():
    torch.manual_seed(0)
    model = MNC(SMALL)
    cropped = torch.rand(2, 48, 4, 4)
    masks = torch.rand(2, 6, 6, requires_grad=True)
    model.judge(cropped, masks)[0].sum().backward()
    assert (masks.grad.abs().amax(dim=(1, 2)) > 0).all()
    flat = torch.ones(2, 6, 6)
    open_, shut = (model.judge(cropped, flat * value)[0] for value in (1.0, 0.0))
    assert not torch.equal(open_, shut)


def test_targets_are_cut_to_the_roi_and_the_best_class_moves_the_box():
    config = dataclasses.replace(SMALL, mask_side=2)
    masks = torch.zeros(1, 8, 8, dtype=torch.uint8)
    masks[0, :, :3] = 1
    sample = RoISample(torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([1]), torch.tensor([0]), 1)
    # The left half is covered to three quarters (≥ 0.4), the right not at all.
    assert mask_targets([sample], [{"masks": masks}], config).tolist() == [[[1, 0], [1, 0]]]
    deltas = torch.arange(8.0).reshape(1, 2, 4)
    assert best_deltas(torch.tensor([[9.0, 1, 2]]), deltas).tolist() == [[4, 5, 6, 7]]


def test_rois_are_chosen_as_the_box_head_chooses_them_and_keep_their_gradient():
    from mrcnn_edu.nn.box_head import sample_rois

    generator = torch.Generator().manual_seed(3)
    corner = 40 * torch.rand(30, 2, generator=generator)
    boxes = torch.cat([corner, corner + 20], dim=1).requires_grad_()
    target = {"boxes": torch.tensor([[10.0, 10, 30, 30]]), "labels": torch.tensor([2])}
    ours = choose_rois(boxes, target, SMALL, torch.Generator().manual_seed(0))
    theirs = sample_rois(
        boxes, target["boxes"], target["labels"], SMALL, torch.Generator().manual_seed(0)
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
    assert ours.boxes.requires_grad


def test_stage_ones_boxes_are_the_proposals_and_move_as_finite_differences_say():
    torch.manual_seed(0)
    model = MNC(SMALL).eval()
    record = model(images_and_targets()[0])
    boxes = model.propose_with_gradient(record, training=False)
    for ours, theirs in zip(boxes, model.propose(record, training=False), strict=True):
        torch.testing.assert_close(ours, theirs.boxes)
    record.deltas.retain_grad()
    boxes[0][0, 0].backward()
    row = record.deltas.grad[0].abs().sum(dim=1).nonzero()
    assert len(row) <= 1  # one anchor's deltas; none where the corner was clipped


def test_detections_of_both_passes():
    torch.manual_seed(0)
    model = MNC(dataclasses.replace(SMALL, score_threshold=0.0)).eval()
    record = model.detect(model([torch.rand(3, 64, 64), torch.rand(3, 48, 64)]))
    for found, (height, width) in zip(record.detections, record.image_sizes, strict=True):
        assert found.masks.shape == (len(found.boxes), 6, 6)
        assert (found.boxes >= 0).all()
        assert (found.boxes[:, 2] <= width).all()
        assert (found.boxes[:, 3] <= height).all()
