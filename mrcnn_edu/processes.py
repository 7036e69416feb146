"""Several processes that work together: who is who, and what they tell each other.

`torchrun` starts the processes, on one machine or many, and tells each its rank. Chapters 13
and 14.
"""

import datetime
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mrcnn_edu.errors import UserError

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
        """The mean of `values` over all processes; every process must call it."""
        if self.world == 1:
            return values
        total = values.detach().clone()
        dist.all_reduce(total)
        return total / self.world

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
        UserError: there are more processes on this machine than GPUs, or the environment has only
            a part of what `torchrun` sets.
    """
    world = _number("WORLD_SIZE", 1)
    if world == 1:
        yield Processes(0, 1, device)
        return
    rank, local_rank = _number("RANK"), _number("LOCAL_RANK")
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


def _number(name: str, default: int | None = None) -> int:
    """A number that `torchrun` has put into the environment."""
    text = os.environ.get(name, "" if default is None else str(default))
    if not text.isascii() or not text.isdigit() or (name == "WORLD_SIZE" and int(text) < 1):
        raise UserError(
            f"The environment says WORLD_SIZE={os.environ.get('WORLD_SIZE')}, and {name} is "
            f"{text or 'not set'}: start several processes with torchrun, which sets both, or "
            "unset WORLD_SIZE to run in one."
        )
    return int(text)
