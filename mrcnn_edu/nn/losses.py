"""What all losses share: a sum and a count, divided in the end.

Every loss of the paper is a mean: over sampled anchors, over sampled RoIs, over the pixels of
positive RoIs. Each loss function returns its sum and the count of what it summed, and `divide`
makes means of them. A process that holds a part of a batch knows only its own sums and counts, and
the mean over the whole batch is Σ sums / Σ counts: who trains on several processes divides by
counts that all have agreed on (`mrcnn_edu.training.distributed`), and no loss needs to know.
Chapters 10 and 14.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Sum = tuple[Tensor, int | Tensor]  # a scalar with its gradient, and how many things were summed


def divide(
    sums: Mapping[str, Sum], agree: Callable[[Tensor], Tensor] | None = None
) -> dict[str, Tensor]:
    """Turn sums into means; a count of zero gives a zero that still has a gradient.

    Args:
        sums: by name, each with its count.
        agree: maps the counts of this process, float32 [L] for L losses, to what their sums are
            divided by; asked once. None divides by the counts as they are.

    Returns:
        the means, scalars by name.
    """
    if agree is None:
        return {
            name: total / (max(1, n) if isinstance(n, int) else n.clamp(min=1))
            for name, (total, n) in sums.items()
        }
    counts = [
        torch.as_tensor(n, dtype=torch.float32, device=total.device) for total, n in sums.values()
    ]
    divisors = agree(torch.stack(counts))  # [L]
    divisors = torch.where(divisors > 0, divisors, 1.0)
    means = [total / n for (total, _), n in zip(sums.values(), divisors, strict=True)]
    return dict(zip(sums, means, strict=True))
