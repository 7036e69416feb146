"""Focal, dice and score losses: by hand, against torchvision, and by finite differences."""

import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from mrcnn_edu.related.promptable_losses import (
    FOCAL_WEIGHT,
    dice_loss,
    focal_loss,
    mask_iou,
    prompt_losses,
)


def test_focal_loss_of_two_pixels_by_hand():
    # p = ½ at both: ¼ · α · ln 2 where the truth is 1, ¼ · (1 − α) · ln 2 where it is 0
    loss = focal_loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    assert loss.item() == pytest.approx(0.25 * (0.25 + 0.75) * math.log(2) / 2)


@pytest.mark.parametrize("shape", [(1, 1), (3, 7, 5), (2, 4, 16, 16)])
def test_focal_loss_is_torchvisions(shape):
    generator = torch.Generator().manual_seed(0)
    logits = 6 * torch.randn(shape, generator=generator)
    targets = (torch.rand(shape, generator=generator) < 0.3).float()
    theirs = sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2).mean(dim=(-2, -1))
    torch.testing.assert_close(focal_loss(logits, targets), theirs)


def test_focal_loss_of_large_logits_is_finite():
    loss = focal_loss(torch.tensor([[200.0, -200.0]]), torch.tensor([[0.0, 1.0]]))
    assert loss.item() == pytest.approx(200 * (0.75 + 0.25) / 2)


def test_dice_loss_by_hand():
    # p = 1, 1, 0, 0 against t = 1, 0, 0, 1: 1 − (2 · 1 + 1) / (2 + 2 + 1)
    logits = torch.tensor([[50.0, 50.0], [-50.0, -50.0]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert dice_loss(logits, targets).item() == pytest.approx(1 - 3 / 5)


def test_dice_loss_of_nothing_rightly_not_found_is_zero():
    assert dice_loss(torch.full((3, 3), -60.0), torch.zeros(3, 3)).item() == pytest.approx(0)


def test_dice_loss_does_not_ask_how_large_the_object_is():
    small, large = torch.zeros(2, 32, 32)
    small[:2, :2], large[:20, :20] = 1, 1
    missed = [dice_loss(torch.full((32, 32), -60.0), t).item() for t in (small, large)]
    assert missed[0] == pytest.approx(1 - 1 / 5)
    assert missed[1] == pytest.approx(1 - 1 / 401)


def test_iou_by_hand():
    logits = torch.tensor([[1.0, 1.0, -1.0, 0.0]])
    assert mask_iou(logits, torch.tensor([[1.0, 0.0, 1.0, 0.0]])).item() == pytest.approx(1 / 3)
    assert mask_iou(-torch.ones(2, 2), torch.zeros(2, 2)) == 1
    assert mask_iou(-torch.ones(2, 2), torch.ones(2, 2)) == 0


def case():
    """Two prompts, three answers of 2 × 2; the first may get the last two, the second the first."""
    full, empty = torch.full((2, 2), 4.0), torch.full((2, 2), -4.0)
    left = torch.tensor([[4.0, -4.0], [4.0, -4.0]])
    logits = torch.stack([torch.stack([full, empty, left]), torch.stack([left, full, full])])
    scores = torch.tensor([[0.9, 0.3, 0.6], [0.5, 0.1, 0.1]])
    targets = torch.ones(2, 2, 2)
    eligible = torch.tensor([[False, True, True], [True, False, False]])
    return logits, scores, targets, eligible


def test_the_best_of_those_that_may_answer_is_held_to_account():
    logits, scores, targets, eligible = case()
    losses = prompt_losses(logits, scores, targets, eligible)
    assert losses.chosen.tolist() == [2, 0]  # not the full one: it may not answer the first prompt
    left = logits[0, 2]
    assert losses.focal.item() == pytest.approx(focal_loss(left, targets[0]).item())
    assert losses.dice.item() == pytest.approx(dice_loss(left, targets[0]).item())
    # IoUs are 0, ½ and ½; scores 0.3, 0.6 and 0.5
    assert losses.score.item() == pytest.approx((0.3**2 + 0.1**2 + 0) / 3)
    parts = FOCAL_WEIGHT * losses.focal + losses.dice + losses.score
    assert losses.total().item() == pytest.approx(parts.item())


def test_only_the_best_mask_gets_a_gradient():
    logits, scores, targets, eligible = case()
    logits.requires_grad_()
    scores.requires_grad_()
    prompt_losses(logits, scores, targets, eligible).total().backward()
    assert logits.grad is not None
    assert scores.grad is not None
    reached = logits.grad.abs().sum(dim=(2, 3)) > 0
    assert reached.tolist() == [[False, False, True], [True, False, False]]
    assert (scores.grad != 0).tolist() == [[False, True, True], [False, False, False]]


def test_gradients_are_those_of_finite_differences():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 4, 5, 5, generator=generator, dtype=torch.double, requires_grad=True)
    scores = torch.rand(3, 4, generator=generator, dtype=torch.double, requires_grad=True)
    targets = (torch.rand(3, 5, 5, generator=generator) < 0.4).double()
    eligible = torch.tensor([[True, False, False, False]] + 2 * [[False, True, True, True]])
    assert torch.autograd.gradcheck(
        lambda x, s: prompt_losses(x, s, targets, eligible).total(), (logits, scores)
    )
