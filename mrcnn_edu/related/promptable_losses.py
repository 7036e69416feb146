"""The losses of a promptable segmenter: focal and dice for the mask, a square for its score.

Most pixels are background and easy. Focal loss lets each pixel count by how wrong it is (Lin et al.
2017), dice loss measures the overlap of the whole mask, however small it is (Milletari et al.
2016). SAM adds them 20 to 1, for the *best* of the masks that may answer and no other: nobody said
which one is to be the object and which one the group, so each may find its own meaning. SAM §3,
"Training", and appendix A; Chapter 19.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

FOCAL_WEIGHT = 20.0
_ALPHA, _GAMMA = 0.25, 2.0


@dataclass(frozen=True)
class PromptLosses:
    """The losses of B prompts, each the mean over them, and which masks were held to account."""

    focal: Tensor
    dice: Tensor
    score: Tensor
    chosen: Tensor  # [B], index of the mask that the losses are of

    def total(self) -> Tensor:
        """The weighted sum that training minimises."""
        return FOCAL_WEIGHT * self.focal + self.dice + self.score


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each pixel times (1 − p of the truth)², its mean over the last two axes.

    Foreground counts α = 0.25, background 0.75. Equal to torchvision's `sigmoid_focal_loss`.

    Args:
        logits: [..., H, W].
        targets: 0 or 1, of a shape that broadcasts with it.
    """
    targets = targets.expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p = logits.sigmoid()
    wrong = p + targets - 2 * p * targets  # 1 − p of the truth
    weight = (1 - _ALPHA) + (2 * _ALPHA - 1) * targets
    return (weight * wrong**_GAMMA * entropy).mean(dim=(-2, -1))


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """1 − (2 Σ p t + 1) / (Σ p + Σ t + 1), over the last two axes.

    Args:
        logits: [..., H, W]; p is their sigmoid.
        targets: t, 0 or 1, of a shape that broadcasts with it.
    """
    p = logits.sigmoid()
    both = (p * targets).sum(dim=(-2, -1))
    return 1 - (2 * both + 1) / (p.sum(dim=(-2, -1)) + targets.sum(dim=(-2, -1)) + 1)


def mask_iou(logits: Tensor, targets: Tensor) -> Tensor:
    """IoU of the pixels whose logit is above 0 with those of the target; 1 if both are empty.

    Args:
        logits: [..., H, W].
        targets: 0 or 1, of a shape that broadcasts with it.
    """
    mask, target = logits > 0, targets > 0.5
    both = (mask & target).sum(dim=(-2, -1))
    either = (mask | target).sum(dim=(-2, -1))
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


def prompt_losses(
    logits: Tensor, scores: Tensor, targets: Tensor, eligible: Tensor
) -> PromptLosses:
    """The losses of the mask that fits best, among those that may answer, and of all their scores.

    The choice itself has no gradient: it is a minimum, and only the smallest loss is followed. SAM
    holds the score of that mask alone to account; here, as in SAM 2.1's code, every mask that may
    answer learns how good it is, or the scores could not be compared.

    Args:
        logits: [B, A, M, M].
        scores: [B, A], guessed IoU.
        targets: [B, M, M], 0 or 1.
        eligible: [B, A], at least one true in each row.
    """
    row, mask = eligible.nonzero(as_tuple=True)  # [E], the pairs that may answer
    said, truth = logits[row, mask], targets[row]  # [E, M, M]
    focal, dice = focal_loss(said, truth), dice_loss(said, truth)  # [E]
    masks = torch.full_like(scores, torch.inf)
    masks[row, mask] = FOCAL_WEIGHT * focal.detach() + dice.detach()
    chosen = masks.argmin(dim=1)  # [B]
    is_chosen = mask == chosen[row]  # [E], one in each row
    score = (scores[row, mask] - mask_iou(said.detach(), truth)) ** 2  # [E]
    return PromptLosses(focal[is_chosen].mean(), dice[is_chosen].mean(), score.mean(), chosen)
