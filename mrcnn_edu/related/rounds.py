"""A conversation: prompt, answer, a click where the answer is wrong, the next answer.

A segmenter that is used by people is corrected by them, so it must learn to be corrected. In
training each object is asked about several times: every round adds a click in what is still wrong,
and hands the last answer back as a mask prompt. All rounds' losses count alike. SAM appendix A,
"Training algorithm"; Chapter 19.
"""

import torch
from torch import Tensor

from mrcnn_edu.related.clicks import correction
from mrcnn_edu.related.promptable import Embedding, PromptableSegmenter
from mrcnn_edu.related.promptable_losses import PromptLosses, prompt_losses
from mrcnn_edu.related.prompts import Prompts, with_click


def round_losses(
    model: PromptableSegmenter,
    embedding: Embedding,
    targets: Tensor,
    prompts: Prompts,
    rounds: int,
    generator: torch.Generator,
) -> list[PromptLosses]:
    """The losses of each round.

    Args:
        model: answers.
        embedding: of B images.
        targets: [B, M, M], what is meant, 0 or 1, at the size of the answers.
        prompts: the first ones.
        rounds: how often each object is asked about.
        generator: of the clicks.
    """
    losses = []
    for number in range(rounds):
        answers = model.answer(embedding, prompts)
        several = prompts.several()
        losses.append(
            prompt_losses(answers.logits, answers.scores, targets, answers.eligible(several))
        )
        if number + 1 < rounds:
            prompts = corrected(prompts, answers.best(several)[0].detach(), targets, generator)
    return losses


def corrected(
    prompts: Prompts, logits: Tensor, targets: Tensor, generator: torch.Generator | None = None
) -> Prompts:
    """The prompts with one click more, and the last answer as a mask.

    Args:
        prompts: of B objects.
        logits: [B, M, M], the answer to them.
        targets: [B, M, M], what is meant.
        generator: for a random pixel of the mistakes; without it, the middle of the largest.
    """
    points, labels = correction(logits > 0, targets, generator)
    return with_click(prompts, points, labels, logits[:, None])
