"""Several processes that train one model: who is who, and what they tell each other.

`torchrun` starts the processes, on one machine or many, and tells each its rank. Each takes its
share of a step's images; DistributedDataParallel averages the gradients. An average over processes
is the gradient of the whole batch only if each loss is divided by a count of the whole batch: with
S_r the sum of a loss over process r's samples and C_r their number,

    1/W · Σ_r S_r / (1/W · Σ_r C_r)  =  Σ_r S_r / Σ_r C_r ,

so every process divides by the mean count of all, `Processes.average`. Dividing by its
own count would give a sample more weight where there are few. Chapters 13 and 14.
"""

import datetime
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mrcnn_edu.errors import UserError
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.nn.losses import Average, identity

# Long enough for the others to wait while the first process writes and evaluates.
_PATIENCE = datetime.timedelta(hours=2)


@dataclass(frozen=True)
class Processes:
    """This process among all; alone it is rank 0 of 1, and nothing is sent."""

    rank: int
    world: int
    device: str

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """The mean of ``values`` over all processes; every process must call it."""
        if self.world == 1:
            return values
        total = values.detach().clone()
        dist.all_reduce(total)
        return total / self.world

    @property
    def average(self) -> Average:
        """What losses are divided by, from this process's counts: the mean count of all."""
        return identity if self.world == 1 else self.mean

    def share(self, items: Sequence[Any]) -> Sequence[Any]:
        """This process's part of something that all of them hold."""
        return items[self.rank :: self.world]

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the other processes, if `torchrun` started this one, and leave them in the end.

    Args:
        device: "cpu" (gloo) or "cuda" (nccl; each process takes the GPU of its local rank).

    Raises:
        UserError: there are more processes on this machine than GPUs.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes(0, 1, device)
        return
    rank, local_rank = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    if torch.device(device).type == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise UserError(
                f"Process {local_rank} of this machine has no GPU: there are "
                f"{torch.cuda.device_count()}. Start torchrun with --nproc_per_node "
                f"{max(1, torch.cuda.device_count())}."
            )
        device = f"cuda:{local_rank}"
        torch.cuda.set_device(local_rank)
    if dist.is_initialized():  # by the caller, who also ends it
        yield Processes(rank, world, device)
        return
    backend = "nccl" if device.startswith("cuda") else "gloo"
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield Processes(rank, world, device)
    finally:
        dist.destroy_process_group()


class LossModule(nn.Module):
    """Forward pass and losses in one call: DistributedDataParallel watches calls of a module."""

    def __init__(self, model: MaskRCNN, group: Processes) -> None:
        super().__init__()
        self.model = model
        self.group = group

    def forward(
        self,
        images: Sequence[Tensor],
        targets: Sequence[dict[str, Tensor]],
        generators: Sequence[torch.Generator],
    ) -> dict[str, Tensor]:
        """The losses of a batch, normalised over the batches of all processes."""
        record = self.model(images)
        return self.model.losses(record, targets, generators, average=self.group.average)


def distribute(model: MaskRCNN, group: Processes) -> nn.Module:
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
