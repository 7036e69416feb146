"""Selection works on one image at a time, and the heads keep their promises on degenerate input."""

import dataclasses

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import FrozenBatchNorm2d, clip_boxes_to_image

from mrcnn_edu.anchors import pyramid_anchors
from mrcnn_edu.nn.box_head import box_losses, sample_rois
from mrcnn_edu.nn.detections import candidates, select_detections
from mrcnn_edu.nn.layers import FrozenBatchNorm
from mrcnn_edu.nn.mask_head import MaskHead, mask_loss
from mrcnn_edu.nn.proposals import propose
from mrcnn_edu.nn.resnet import build_backbone
from mrcnn_edu.nn.rpn import rpn_losses
from mrcnn_edu.presets import TINY_FPN
from mrcnn_edu.record import RoISample

SIZES = [(64, 64), (40, 64), (64, 24)]  # inside one padded batch of 64 × 64
LEVELS = [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]
ANCHORS = pyramid_anchors([(s,) for s in (8, 16, 32, 48, 64)], (0.5, 1.0, 2.0), LEVELS, (64, 64))
CONFIG = dataclasses.replace(
    TINY_FPN, rpn_top_before_nms=(50, 40), rpn_top_after_nms=(30, 20), detections_per_image=10
)


def rpn_output(images: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    total = sum(len(a) for a in ANCHORS)
    objectness = torch.randn(images, total, generator=g)
    return objectness, 0.3 * torch.randn(images, total, 4, generator=g)


def run(objectness, deltas, sizes, training=False, config=CONFIG):
    counts = [len(a) for a in ANCHORS]
    return propose(objectness, deltas, torch.cat(ANCHORS), counts, sizes, config, training)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), training=st.booleans())
def test_proposals_of_an_image_do_not_depend_on_the_batch(seed, training):
    objectness, deltas = rpn_output(3, seed)
    together = run(objectness, deltas, SIZES, training)
    for i, size in enumerate(SIZES):
        alone = run(objectness[i : i + 1], deltas[i : i + 1], [size], training)[0]
        for a, b in zip(alone, together[i], strict=True):
            assert torch.equal(a, b)


def test_proposals_are_ranked_clipped_and_counted():
    objectness, deltas = rpn_output(3, 1)
    for training, count in ((True, 30), (False, 20)):
        for p, (height, width) in zip(run(objectness, deltas, SIZES, training), SIZES, strict=True):
            assert len(p.boxes) == count
            assert (p.scores.diff() <= 0).all()
            assert (p.boxes >= 0).all()
            assert (p.boxes[:, 2] <= width).all()
            assert (p.boxes[:, 3] <= height).all()
            assert set(p.levels.tolist()) <= set(range(5))


def test_boxes_that_leave_the_image_are_no_proposals():
    objectness, deltas = rpn_output(1, 2)
    deltas[..., 0] = 20.0  # every box moves twenty widths to the right
    p = run(objectness, deltas, [(64, 64)])[0]
    assert p.boxes.shape == (0, 4)
    assert p.scores.shape == p.levels.shape == (0,)


def test_rpn_loss_without_objects_is_objectness_alone():
    objectness, deltas = rpn_output(1, 3)
    objectness.requires_grad_()
    deltas.requires_grad_()
    of_objectness, of_boxes, sampled = rpn_losses(
        objectness, deltas, torch.cat(ANCHORS), [torch.zeros(0, 4)], CONFIG, [torch.Generator()]
    )
    assert sampled == CONFIG.rpn_samples
    assert of_objectness > 0
    assert of_boxes == 0
    (of_objectness + of_boxes).backward()
    assert int((objectness.grad != 0).sum()) == CONFIG.rpn_samples
    assert (deltas.grad == 0).all()


def test_true_boxes_are_among_the_sampled_rois():
    gt = torch.tensor([[4.0, 4, 20, 20], [30, 30, 60, 50]])
    sample = sample_rois(
        torch.zeros(0, 4), gt, torch.tensor([3, 1]), CONFIG, torch.Generator().manual_seed(0)
    )
    assert sample.num_positive == 2
    assert torch.equal(sample.boxes, gt)
    assert sample.labels.tolist() == [3, 1]
    assert sample.matched.tolist() == [0, 1]


def test_an_image_without_objects_gives_background_only():
    proposals = torch.tensor([[0.0, 0, 10, 10], [5, 5, 30, 30]])
    sample = sample_rois(
        proposals, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), CONFIG, torch.Generator()
    )
    assert sample.num_positive == 0
    assert sample.labels.tolist() == [0, 0]


def test_no_rois_at_all_is_a_loss_of_zero():
    empty = RoISample(
        torch.zeros(0, 4),
        torch.zeros(0, dtype=torch.int64),
        torch.zeros(0, dtype=torch.int64),
        0,
    )
    logits = torch.zeros(0, 11, requires_grad=True)
    deltas = torch.zeros(0, 10, 4, requires_grad=True)
    classes, box, count = box_losses(logits, deltas, [empty], [torch.zeros(0, 4)], CONFIG)
    assert classes == box == count == 0
    (classes + box).backward()


def test_only_the_true_classes_mask_has_a_gradient():
    """Paper §3: masks of other classes do not contribute to the loss."""
    logits = torch.zeros(2, 10, 28, 28, requires_grad=True)
    sample = RoISample(
        torch.tensor([[0.0, 0, 32, 32], [8, 8, 24, 24]]),
        torch.tensor([4, 10]),
        torch.tensor([0, 1]),
        2,
    )
    total, count = mask_loss(logits, [sample], [torch.ones(2, 64, 64, dtype=torch.uint8)], CONFIG)
    assert count == 2 * 28 * 28
    total.backward()
    touched = logits.grad.abs().sum(dim=(2, 3)) > 0
    assert touched.nonzero().tolist() == [[0, 3], [1, 9]]


def test_mask_head_without_rois():
    head = MaskHead(16, 16, 2, 5)
    assert head(torch.zeros(0, 16, 14, 14)).shape == (0, 5, 28, 28)


def test_detections_by_hand():
    """Two proposals on one spot, one elsewhere: NMS within a class, not between classes."""
    proposals = torch.tensor([[0.0, 0, 20, 20], [1, 0, 20, 20], [40, 40, 60, 60]])
    logits = torch.full((3, 11), -20.0)
    logits[0, 1], logits[1, 1], logits[2, 0] = 5.0, 4.0, 5.0
    logits[0, 2] = 4.5
    found = select_detections(logits, torch.zeros(3, 10, 4), proposals, (64, 64), CONFIG)
    # Proposal 1 is surest of class 1 (its softmax has no rival), so it suppresses proposal 0 there;
    # class 2 of proposal 0 stays, though the boxes overlap; proposal 2 is background.
    assert found.labels.tolist() == [1, 2]
    assert torch.equal(found.boxes, proposals[[1, 0]])


def test_candidates_are_all_boxes_of_all_classes():
    """Threshold 0: one box for each class of each proposal, in that order, each its own."""
    g = torch.Generator().manual_seed(0)
    proposals = torch.tensor([[10.0, 10, 30, 30], [20, 20, 50, 40], [5, 5, 15, 25]])
    logits, deltas = torch.randn(3, 11, generator=g), torch.randn(3, 10, 4, generator=g)
    everything = dataclasses.replace(CONFIG, score_threshold=0.0)
    found = candidates(logits, deltas, proposals, (64, 64), everything)
    assert found.labels.tolist() == list(range(1, 11)) * 3
    assert torch.equal(found.scores, logits.softmax(dim=1)[:, 1:].flatten())
    decoded = BoxCoder(CONFIG.box_weights).decode(deltas.reshape(3, 40), [proposals])  # [3, 10, 4]
    expected = clip_boxes_to_image(decoded, (64, 64)).flatten(0, 1)
    torch.testing.assert_close(found.boxes, expected)
    assert found.masks is None
    few = candidates(logits, deltas, proposals, (64, 64), CONFIG)
    above = found.scores > CONFIG.score_threshold
    assert 0 < len(few.boxes) < 30
    assert torch.equal(few.boxes, found.boxes[above])
    nothing = candidates(logits[:0], deltas[:0], proposals[:0], (64, 64), CONFIG)
    assert nothing.boxes.shape == (0, 4)


def test_frozen_batch_norm_is_torchvisions():
    x = torch.randn(2, 6, 5, 5)
    for eps in (0.0, 1e-5):
        ours, theirs = FrozenBatchNorm(6, eps), FrozenBatchNorm2d(6, eps=eps)
        for name, buffer in ours.named_buffers():
            value = torch.rand_like(buffer) + 0.5
            buffer.copy_(value)
            getattr(theirs, name).copy_(value)
        torch.testing.assert_close(ours(x), theirs(x))
    assert not list(ours.parameters())


def test_backbone_strides():
    backbone, _, _ = build_backbone(TINY_FPN)
    maps = backbone(torch.zeros(1, 3, 64, 96))
    assert [m.shape[1:] for m in maps] == [
        (c, 64 // s, 96 // s) for c, s in zip(backbone.channels, (4, 8, 16, 32), strict=True)
    ]
