"""Masks of everything, with nobody asking: a grid of clicks, and what survives it.

Each point of a grid is a click of its own with three answers. Most are wrong, or say the same
again. An answer is kept if the segmenter thinks well of it, if it is stable (its outline hardly
moves when the threshold does), and if no better answer has nearly the same box. SAM §5 and appendix
B, "Automatic mask generation"; Chapter 19.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mrcnn_edu.boxes import nms
from mrcnn_edu.related.clicks import mask_boxes
from mrcnn_edu.related.promptable import Embedding, PromptableSegmenter, at_size
from mrcnn_edu.related.prompts import ON, Prompts


@dataclass(frozen=True)
class AutomaticMasks:
    """What was found in one image, best first."""

    masks: Tensor  # [D, H, W] bool
    scores: Tensor  # [D], guessed IoU
    stability: Tensor  # [D]
    points: Tensor  # [D, 2], the click that each answers, as shares of the image's sides


def stability(logits: Tensor, offset: float = 1.0) -> Tensor:
    """How little a mask depends on its threshold: [...].

    The IoU of the mask at threshold +offset with that at −offset; the first lies inside the second,
    so it is the quotient of their areas. 0 where both are empty.

    Args:
        logits: [..., H, W].
        offset: in logits.
    """
    inner = (logits > offset).sum(dim=(-2, -1))
    outer = (logits > -offset).sum(dim=(-2, -1))
    return inner / outer.clamp(min=1)


@torch.no_grad()
def everything(
    model: PromptableSegmenter,
    embedding: Embedding,
    size: tuple[int, int],
    side: int = 16,
    least_score: float = 0.88,
    least_stability: float = 0.95,
    box_iou: float = 0.7,
    batch: int = 64,
) -> AutomaticMasks:
    """Segment all that a grid of clicks finds in one image.

    The thresholds are SAM's; it has a grid of 32 × 32.

    Args:
        model: answers.
        embedding: of one image.
        size: (height, width) of the masks wanted.
        side: of the grid; side² clicks.
        least_score: guessed IoU below which an answer is dropped.
        least_stability: the same for its stability.
        box_iou: of two answers whose boxes overlap more, the better one stays.
        batch: clicks at a time.
    """
    ticks = (torch.arange(side) + 0.5) / side
    points = torch.cartesian_prod(ticks, ticks).flip(1)  # [side², 2], (x, y) row by row
    kept: list[tuple[Tensor, ...]] = []
    for some in points.split(batch):
        prompts = Prompts(some[:, None], torch.full((len(some), 1), ON))
        one = embedding.of(torch.zeros(len(some), dtype=torch.long))
        answers = model.answer(one, prompts)
        steady = stability(answers.logits)  # [B, 1 + A]
        good = answers.eligible(prompts.several()) & (answers.scores > least_score)
        good &= steady >= least_stability
        good &= (answers.logits > 0).flatten(2).any(dim=2)
        row, which = good.nonzero(as_tuple=True)  # [E]
        kept.append(
            (answers.logits[row, which], answers.scores[row, which], steady[row, which], some[row])
        )
    logits, scores, steady, clicked = (torch.cat(parts) for parts in zip(*kept, strict=True))
    best = nms(mask_boxes(logits > 0), scores, box_iou)  # best first
    masks = at_size(logits[best][:, None], size)[:, 0] > 0
    return AutomaticMasks(masks, scores[best], steady[best], clicked[best])
