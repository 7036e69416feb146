"""Which images a step sees: a pure function of the seed and the step.

A run reads an endless row of images, epoch after epoch, each a permutation of the data set; step s
takes places s · B to (s + 1) · B of it, B images over all processes. So a run goes on exactly from
the step alone, with any number of workers, and on another number of processes as long as B stays.
Chapter 13.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from mrcnn_edu.data.dataset import Dataset
from mrcnn_edu.errors import UserError
from mrcnn_edu.training.config import TrainConfig

Place = tuple[int, int]  # (epoch, index into the data set)


def image_generator(seed: int, epoch: int, image_id: int, purpose: str = "") -> torch.Generator:
    """A generator that depends on these numbers only, whatever ran before.

    Args:
        seed: of the run.
        epoch: how often the data set has been seen.
        image_id: of the image; −1 for the order of an epoch.
        purpose: tells apart several generators of one image.
    """
    key = f"{seed} {epoch} {image_id} {purpose}".rstrip()
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


class SampleOrder:
    """The row of images.

    Args:
        indices: the images of the data set that take part.
        seed: of the run.
        wide: for each of `indices` whether it is wider than tall; with it, `group` images in
            a row share their orientation, so that a batch of so many is padded little. Where an
            epoch's images do not divide evenly, the last few of it are mixed.
        group: how many.
    """

    def __init__(
        self,
        indices: Sequence[int],
        seed: int,
        wide: Sequence[bool] | None = None,
        group: int = 0,
    ) -> None:
        self.indices = torch.as_tensor(indices)  # [n]
        self.seed = seed
        self.wide = torch.as_tensor(wide) if wide is not None and group > 1 else None  # [n]
        self.group = group
        self._cached: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.indices)

    def step(self, step: int, batch_size: int) -> list[Place]:
        """The images of a step, counted from 0."""
        n = len(self)
        places = range(step * batch_size, (step + 1) * batch_size)
        return [(p // n, int(self._epoch(p // n)[p % n])) for p in places]

    def share(
        self, step: int, batch_size: int, parts: int, rank: int = 0, world: int = 1
    ) -> list[list[Place]]:
        """One process's images of a step, in the parts in which it takes them.

        Runs of neighbours go to one part, so that groups stay together.

        Args:
            step: counted from 0.
            batch_size: images of a step, of all processes together.
            parts: one after the other, their gradients added up.
            rank: which process, from 0.
            world: how many processes.

        Returns:
            for each part the places of its images.
        """
        places = self.step(step, batch_size)
        size = batch_size // (parts * world)
        starts = ((part * world + rank) * size for part in range(parts))
        return [places[start : start + size] for start in starts]

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._cached:
            if len(self._cached) > 1:
                self._cached.clear()  # a step spans two epochs at most, of any but a tiny set
            self._cached[epoch] = self._permutation(epoch)
        return self._cached[epoch]

    def _permutation(self, epoch: int) -> Tensor:
        """The order of one epoch, an index into the data set for each place: [n]."""
        generator = image_generator(self.seed, epoch, -1)
        order = torch.randperm(len(self), generator=generator)
        if self.wide is None:
            return self.indices[order]
        # Groups start at multiples of `group` in the whole row, not in the epoch.
        head = min(-epoch * len(self) % self.group, len(order))
        first, rest = order[:head], order[head:]
        groups, left_over = [], []
        for members in (rest[self.wide[rest]], rest[~self.wide[rest]]):
            whole = len(members) // self.group * self.group
            groups.append(members[:whole].reshape(-1, self.group))  # [groups, group]
            left_over.append(members[whole:])
        grouped = torch.cat(groups)
        shuffled = grouped[torch.randperm(len(grouped), generator=generator)].flatten()
        return self.indices[torch.cat([first, shuffled, *left_over])]


def make_order(dataset: Dataset, config: TrainConfig) -> SampleOrder:
    """The row of images of a run: which take part, and which stand together.

    Raises:
        UserError: no image has objects.
    """
    indices = list(range(len(dataset)))
    if config.skip_empty:
        indices = [i for i in indices if dataset.has_objects(i)]
        if not indices:
            raise UserError("No image of the training set has objects.")
    wide = None
    if config.aspect_group > 1:
        wide = [w > h for h, w in map(dataset.image_size, indices)]
    return SampleOrder(indices, config.seed, wide, config.aspect_group)
