"""Several processes that train one model: who is who, and what they tell each other.

`torchrun` starts the processes, on one machine or many, and tells each its rank. Each takes its
share of a step's images; DistributedDataParallel averages the gradients. An average over processes
is the gradient of the whole batch only if each loss is divided by a count of the whole batch: with
S_r the sum of a loss over process r's samples and C_r their number,

    1/W · Σ_r S_r / (1/W · Σ_r C_r)  =  Σ_r S_r / Σ_r C_r ,

so every process divides by the mean count of all. Dividing by its own count would give a sample
more weight where there are few. The counts of all losses travel together, once a step. Chapters 13
and 14.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mrcnn_edu.nn.detector import Detector
from mrcnn_edu.nn.losses import divide
from mrcnn_edu.processes import Processes


class LossModule(nn.Module):
    """Forward pass and losses in one call: DistributedDataParallel watches calls of a module."""

    def __init__(self, model: Detector, group: Processes) -> None:
        super().__init__()
        self.model = model
        self.group = group

    def forward(
        self,
        images: Sequence[Tensor],
        targets: Sequence[dict[str, Tensor]],
        generators: Sequence[torch.Generator],
    ) -> dict[str, Tensor]:
        """The losses of a batch, normalised over the batches of all processes.

        Args:
            images, targets, generators: of this process, as the model and its `losses` take them.

        Returns:
            scalars by the name of the loss.
        """
        sums = self.model.loss_sums(self.model(images), targets, generators)
        return divide(sums, self.group.mean if self.group.world > 1 else None)


def distribute(model: Detector, group: Processes) -> nn.Module:
    """The model's losses as a module whose backward pass averages gradients over processes."""
    losses_of = LossModule(model, group)
    if group.world == 1:
        return losses_of
    return DistributedDataParallel(
        losses_of,
        device_ids=[torch.device(group.device).index] if group.device != "cpu" else None,
        # Frozen statistics never differ, and those of BatchNorm are each process's own in training.
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
    )


def without_averaging(losses_of: nn.Module) -> AbstractContextManager[None]:
    """The context of all backward passes of a step but the last: gradients add up locally."""
    if isinstance(losses_of, DistributedDataParallel):
        return losses_of.no_sync()
    return nullcontext()
