"""The keypoint head, its targets, loss and decoding, against torchvision's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.roi_heads import (
    heatmaps_to_keypoints,
    keypointrcnn_loss,
    keypoints_to_heatmap,
)

from mrcnn_edu.nn.keypoint_head import (
    KeypointHead,
    decode_keypoints,
    keypoint_loss,
    keypoint_targets,
)


def random_people(seed: int, rois: int, joints: int = 17) -> tuple[Tensor, Tensor]:
    """Boxes and joints: inside, outside, unlabelled, and exactly on each edge."""
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(rois, 2, generator=g) * 100
    extent = 0.5 + torch.rand(rois, 2, generator=g) * 120
    boxes = torch.cat([corner, corner + extent], dim=1)
    place = torch.rand(rois, joints, 2, generator=g) * 1.4 - 0.2  # of the box's extent
    points = corner[:, None] + place * extent[:, None]
    edge = torch.randint(0, 12, (rois, joints, 2), generator=g)
    points = torch.where(edge == 0, boxes[:, None, :2], points)
    points = torch.where(edge == 1, boxes[:, None, 2:], points)
    visible = torch.randint(0, 3, (rois, joints, 1), generator=g).float()
    return boxes, torch.cat([points, visible], dim=2)


def their_head(ours: KeypointHead, in_channels: int, channels: int) -> nn.Sequential:
    """torchvision's two modules with the same weights."""
    convs = len(ours.convs)
    joints = ours.deconv.out_channels
    theirs = nn.Sequential(
        KeypointRCNNHeads(in_channels, [channels] * convs), KeypointRCNNPredictor(channels, joints)
    )
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    return theirs


def test_the_head_is_torchvisions_in_value_and_gradient():
    torch.manual_seed(0)
    ours = KeypointHead(6, channels=10, convs=8, num_keypoints=5)
    theirs = their_head(ours, 6, 10)
    x, y = (torch.randn(3, 6, 14, 14).requires_grad_() for _ in range(2))
    y.data.copy_(x.data)
    out, expected = ours(x), theirs(y)
    assert out.shape == (3, 5, 56, 56)
    assert expected.std() > 1e-3
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(out)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-3)


def test_the_papers_head_has_torchvisions_parameters():
    ours = KeypointHead(256)
    theirs = their_head(ours, 256, 512)  # load_state_dict refuses any other shape
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    assert ours(torch.zeros(0, 256, 14, 14)).shape == (0, 17, 56, 56)


@given(seed=st.integers(0, 10**6), rois=st.integers(0, 9), size=st.sampled_from([7, 56]))
@settings(max_examples=150, deadline=None)
def test_targets_are_torchvisions(seed, rois, size):
    boxes, keypoints = random_people(seed, rois)
    cells, counts = keypoint_targets(keypoints, boxes, size)
    expected, valid = keypoints_to_heatmap(keypoints, boxes, size)
    assert torch.equal(cells, expected)
    assert torch.equal(counts, valid.bool())


def test_random_people_have_every_kind_of_joint():
    boxes, keypoints = random_people(1, 40)
    _, counts = keypoint_targets(keypoints, boxes, 56)
    x, labelled = keypoints[..., 0], keypoints[..., 2] > 0
    assert (counts & (x == boxes[:, None, 2])).any()
    assert (counts & (x == boxes[:, None, 0])).any()
    assert (labelled & ~counts).any()
    assert (~labelled).any()


def test_one_joint_by_hand():
    box = torch.tensor([[10.0, 20.0, 38.0, 76.0]])  # half a pixel wide, one pixel high a cell
    joint = torch.tensor([[[11.0, 20.9, 2.0], [38.0, 76.0, 1.0], [38.01, 30.0, 2.0]]])
    cells, counts = keypoint_targets(joint, box, 56)
    assert cells.tolist() == [[0 * 56 + 2, 55 * 56 + 55, 0]]
    assert counts.tolist() == [[True, True, False]]


@given(seed=st.integers(0, 10**6), counts=st.lists(st.integers(0, 4), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_loss_and_gradient_are_torchvisions(seed, counts):
    per_image = [random_people(seed + i, n) for i, n in enumerate(counts)]
    boxes = torch.cat([b for b, _ in per_image])
    keypoints = torch.cat([k for _, k in per_image])
    logits = torch.randn(len(boxes), 17, 56, 56, generator=torch.Generator().manual_seed(seed))
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    total, number = keypoint_loss(ours, boxes, keypoints)
    (total / number.clamp(min=1)).backward()
    expected = keypointrcnn_loss(
        theirs,
        [b for b, _ in per_image],
        [k for _, k in per_image],
        [torch.arange(n) for n in counts],
    )
    expected.backward()
    torch.testing.assert_close(total / number.clamp(min=1), expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("rois", [0, 3])
def test_a_loss_over_no_joint_is_zero_and_has_a_gradient(rois):
    boxes, keypoints = random_people(0, rois)
    keypoints[..., 2] = 0
    logits = torch.randn(rois, 17, 56, 56, requires_grad=True)
    total, number = keypoint_loss(logits, boxes, keypoints)
    total.backward()
    assert total == number == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@given(seed=st.integers(0, 10**6), people=st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_decoding_is_torchvisions(seed, people):
    boxes, _ = random_people(seed, people)
    boxes[:1, 2:] = boxes[:1, :2]  # a box without area decodes too
    logits = torch.randn(people, 17, 56, 56, generator=torch.Generator().manual_seed(seed))
    found, scores = decode_keypoints(logits, boxes)
    expected, expected_scores = heatmaps_to_keypoints(logits, boxes)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(scores, expected_scores, rtol=0, atol=1e-5)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_a_certain_head_gives_the_joints_back(seed):
    """Logits peaked at the targets decode to within a cell of where the joints were.

    In boxes of at least 60 pixels: in smaller ones resizing skips cells, and single peaks with it.
    """
    boxes, keypoints = random_people(seed, 3)
    boxes[:, 2:] += 60
    cells, counts = keypoint_targets(keypoints, boxes, 56)
    logits = nn.functional.one_hot(cells, 56 * 56).float().unflatten(2, (56, 56)) * 30
    found, _ = decode_keypoints(logits, boxes)
    cell = (boxes[:, 2:] - boxes[:, :2]) / 56  # [R, 2]
    error = (found[..., :2] - keypoints[..., :2]).abs() / cell[:, None]
    assert (error[counts] <= 1).all()


def test_half_precision_logits_are_summed_in_float32():
    boxes, keypoints = random_people(3, 4)
    total, number = keypoint_loss(torch.randn(4, 17, 56, 56).half(), boxes, keypoints)
    assert total.dtype == number.dtype == torch.float32
    found, scores = decode_keypoints(torch.randn(4, 17, 56, 56).half(), boxes)
    assert found.dtype == scores.dtype == torch.float32
