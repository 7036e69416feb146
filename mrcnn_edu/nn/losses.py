"""What all losses share: a sum, divided by a count that may be taken over several processes.

Every loss of the paper is a mean: over sampled anchors, over sampled RoIs, over the pixels of
positive RoIs. A process that holds a part of a batch knows its own sum and its own count. The mean
over the whole batch is Σ sums / Σ counts, and since distributed training averages gradients over
processes, each must divide its sum by the *mean* count. Dividing by its own count instead would
weigh an object less on a process that has many. Chapter 13.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Average = Callable[[Tensor], Tensor]


def identity(counts: Tensor) -> Tensor:
    """The average of one process: its own count."""
    return counts


def divide(sums: Mapping[str, Tensor], count: int | Tensor, average: Average) -> dict[str, Tensor]:
    """Turn sums into means; a count of zero gives zeros that still have a gradient.

    Args:
        sums: scalars by name.
        count: of the things that were summed, on this process; a number or a scalar.
        average: maps the float tensor of local counts [1] to what to divide by: in distributed
            training, its mean over processes. Every process calls it equally often.
    """
    if average is identity and isinstance(count, int):  # nothing to ask, no copy to the GPU
        return {name: value / max(1, count) for name, value in sums.items()}
    device = next(iter(sums.values())).device
    divisor = average(torch.as_tensor(count, dtype=torch.float32, device=device).reshape(1))[0]
    divisor = torch.where(divisor > 0, divisor, 1.0)
    return {name: value / divisor for name, value in sums.items()}
