"""Checks of chapter 19, in training: the loss of a mask, and of a prompt with several answers.

Those of using a segmenter stand in `mrcnn_edu.checks.ch19_use`.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from mrcnn_edu.checks.ch19_use import check_next_click, check_survivors
from mrcnn_edu.checks.common import (
    case,
    check,
    inputs_kept,
    require,
    require_equal,
    require_not,
    tensor,
)

__all__ = ["check_mask_loss", "check_next_click", "check_prompt_loss", "check_survivors"]

# ---------------------------------------------------------------- 19.1


def _focal(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2) -> Tensor:
    truth = targets[:, None].expand_as(logits)
    return sigmoid_focal_loss(logits, truth, alpha, gamma).mean(dim=(2, 3))


def _dice(logits: Tensor, targets: Tensor, one: float = 1.0) -> Tensor:
    p, t = logits.sigmoid(), targets[:, None]
    both = (p * t).sum(dim=(2, 3))
    return 1 - (2 * both + one) / (p.sum(dim=(2, 3)) + t.sum(dim=(2, 3)) + one)


@check("19.1")
def check_mask_loss(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check 20 · focal + dice of every mask of every prompt."""
    answer = inputs_kept(answer)
    case("two pixels")
    logits = torch.tensor([[[[0.0, 2.0]]]])  # [1, 1, 1, 2]
    targets = torch.tensor([[[1.0, 0.0]]])
    want = 20 * _focal(logits, targets) + _dice(logits, targets)
    got = tensor(answer(logits, targets))
    require_not(
        got,
        _focal(logits, targets) + _dice(logits, targets),
        "Focal and dice are added one to one: focal loss counts 20 times.",
    )
    require_not(
        got,
        20 * _focal(logits, targets, alpha=-1) + _dice(logits, targets),
        "α is missing: a pixel of the object counts 0.25, one of the background 0.75.",
    )
    require_not(
        got,
        20 * _focal(logits, targets, alpha=0.75) + _dice(logits, targets),
        "α is the wrong way round: 0.25 belongs to pixels of the object, 0.75 to the others.",
    )
    require_not(
        got,
        20 * _focal(logits, targets, gamma=0) + _dice(logits, targets),
        "That is plain cross-entropy: each pixel is still to be multiplied by (1 − p of the "
        "truth)².",
    )
    require_not(
        got,
        20 * _focal(logits, targets, gamma=1) + _dice(logits, targets),
        "(1 − p of the truth) is not squared: γ is 2.",
    )
    require_not(
        got,
        40 * _focal(logits, targets) + _dice(logits, targets),
        "Focal loss is the mean over the pixels, not their sum.",
    )
    require_not(
        got,
        20 * _focal(logits, targets) + _dice(logits, targets, one=0.0),
        "Dice without the + 1 above and below: an empty mask would be 0 / 0.",
    )
    require_equal(
        got, want, "One prompt, one mask, logits 0 and 2, the object in the first pixel: [1, 1]."
    )

    case("sure of itself")
    logits = torch.tensor([[[[200.0, -200.0]], [[-200.0, 200.0]]]])  # [1, 2, 1, 2]
    got = tensor(answer(logits, targets))
    require(
        bool(got.isfinite().all()),
        "Logits of ±200 give infinities: take the logarithm from the logit (`F.logsigmoid`, or "
        "`binary_cross_entropy_with_logits`), not from a probability that was rounded to 0.",
    )
    require_equal(
        got,
        20 * _focal(logits, targets) + _dice(logits, targets),
        "Two masks with logits of ±200, one right and one wrong.",
    )

    case("no object")
    logits = torch.full((1, 1, 3, 3), -30.0)
    require_equal(
        answer(logits, torch.zeros(1, 3, 3)), [[0.0]], "Nothing there and nothing found: no loss."
    )

    generator = torch.Generator().manual_seed(0)
    for number in range(3):
        case(f"random {number}")
        logits = 4 * torch.randn(3, 4, 6, 9, generator=generator)
        targets = (torch.rand(3, 6, 9, generator=generator) < 0.3).float()
        got = answer(logits, targets)
        want = 20 * _focal(logits, targets) + _dice(logits, targets)
        require_not(
            got,
            want.mean(),
            "One number for all: the minimum comes next, so each mask keeps its own loss, [B, A].",
        )
        require_equal(got, want, "Three prompts, four masks of 6 × 9 cells each.")

    case("the gradient")
    logits.requires_grad_()
    got = tensor(answer(logits, targets))
    require(got.requires_grad, "Your loss has no gradient: nothing may be detached on the way.")
    (slope,) = torch.autograd.grad(got.sum(), logits)
    (wanted,) = torch.autograd.grad(
        (20 * _focal(logits, targets) + _dice(logits, targets)).sum(), logits
    )
    require_equal(slope, wanted, "The gradient of the sum, for random masks.")


# ---------------------------------------------------------------- 19.2


def _prompt_loss(mask_losses: Tensor, scores: Tensor, ious: Tensor, eligible: Tensor) -> Tensor:
    best = torch.where(eligible, mask_losses, torch.inf).min(dim=1).values
    return best.mean() + ((scores - ious) ** 2)[eligible].mean()


@check("19.2")
def check_prompt_loss(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check the minimum over the masks that may answer, and the loss of their scores."""
    answer = inputs_kept(answer)
    case("one click, one box")
    losses = torch.tensor([[1.0, 8.0, 2.0, 4.0], [5.0, 3.0, 1.0, 2.0]])
    ious = torch.tensor([[0.9, 0.1, 0.8, 0.4], [0.5, 0.6, 0.9, 0.7]])
    scores = ious + torch.tensor([[0.5, 0.1, 0.2, 0.3], [0.4, 0.5, 0.5, 0.5]])
    eligible = torch.tensor([[False, True, True, True], [True, False, False, False]])
    squares = (scores - ious) ** 2
    masks, said = (2.0 + 5.0) / 2, squares[eligible].mean()
    got = tensor(answer(losses, scores, ious, eligible))
    require(got.numel() == 1, f"The loss of a batch is one number; yours is {list(got.shape)}.")
    require_not(
        got,
        (1.0 + 1.0) / 2 + said,
        "The minimum went over all four masks. A single click may be answered by masks 1 to 3 "
        "only, several points by mask 0 only: `eligible` says which.",
    )
    require_not(
        got,
        losses[eligible].mean() + said,
        "All masks that may answer were pulled towards the target. With two right answers that "
        "teaches each of them the average of both: only the smallest loss counts.",
    )
    inside = torch.where(eligible, losses + squares, torch.inf).min(dim=1).values.mean()
    require_not(
        got,
        inside,
        "The score's loss is inside the minimum: so a bad guess of its IoU could decide which mask "
        "learns. The minimum is over the masks' losses alone.",
    )
    require_not(
        got, masks, "The scores have no loss: nobody could tell which of three masks is the best."
    )
    require_not(
        got,
        masks + squares.mean(),
        "Scores of masks that may not answer are in the mean.",
    )
    require_not(
        got,
        2 * masks + said,
        "The masks' part is the mean over the prompts, not their sum.",
    )
    require_equal(
        got,
        masks + said,
        "Losses 1 8 2 4 with masks 1 to 3 allowed, 5 3 1 2 with mask 0 allowed: (2 + 5) / 2, and "
        "the mean of the four squares of scores that may answer.",
    )

    generator = torch.Generator().manual_seed(0)
    for number in range(3):
        case(f"random {number}")
        losses, scores, ious = (torch.rand(6, 4, generator=generator) for _ in range(3))
        click = torch.rand(6, generator=generator) < 0.5
        eligible = click[:, None] == (torch.arange(4) > 0)
        require_equal(
            answer(losses, scores, ious, eligible),
            _prompt_loss(losses, scores, ious, eligible),
            "Six prompts with random losses.",
        )

    case("the gradient")
    losses.requires_grad_()
    scores.requires_grad_()
    got = tensor(answer(losses, scores, ious, eligible))
    require(got.requires_grad, "Your loss has no gradient: nothing may be detached on the way.")
    slopes = torch.autograd.grad(got, (losses, scores), allow_unused=True)
    wanted = torch.autograd.grad(
        _prompt_loss(losses, scores, ious, eligible), (losses, scores), retain_graph=True
    )
    for name, slope, want in zip(("mask_losses", "scores"), slopes, wanted, strict=True):
        require(slope is not None, f"No gradient reaches `{name}`.")
        require_equal(slope, want, f"The gradient with respect to `{name}`.")
