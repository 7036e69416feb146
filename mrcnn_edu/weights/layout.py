"""How one code base's tensors lie to ours: a name, and an order of rows.

Every difference between two code bases is one of two things. A tensor has another name; or the
slices along one of its dimensions come in another order, with more or fewer of them (classes with
or without background, BGR for RGB, anchors of a cell by size or by ratio). So a `Source` for each
of our tensors describes a format whole, and `take` and `put` read it in the two directions.
Chapter 13.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

COUNTER = ".num_batches_tracked"  # of BatchNorm: only its averages matter, not their number


@dataclass(frozen=True)
class Source:
    """Where one of our tensors comes from.

    Attributes:
        name: of the tensor in the other code base.
        index: for each of our slices the position of theirs; None takes the tensor as it is.
        size: how many slices theirs has.
        dim: the dimension that is cut into slices.
        fill: what stands in slices of theirs that we do not have.
    """

    name: str
    index: tuple[int, ...] | None = None
    size: int = 0
    dim: int = 0
    fill: float = 0.0


class Prefixes:
    """Renaming by the beginning of a name; the longest beginning that fits counts.

    Args:
        table: our beginnings and theirs. They end at a dot, so that `1.` is not `10.`.
    """

    def __init__(self, table: Mapping[str, str]) -> None:
        self.table = dict(sorted(table.items(), key=lambda pair: -len(pair[0])))

    def __call__(self, name: str) -> str | None:
        """Their name of one of our tensors; None if they have no such part."""
        for ours, theirs in self.table.items():
            if name.startswith(ours):
                return theirs + name.removeprefix(ours)
        return None


def current_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our own tensors under the names that they have today.

    In files of commit 73924fa and before the backbone was called trunk, and the pyramid stood
    beside it; an average's names begin with `module.`.
    """
    found = {}
    for name, value in tensors.items():
        for old, new in (("trunk", "backbone"), ("fpn", "neck.fpn")):
            name = re.sub(rf"^(module\.)?{old}\.", rf"\1{new}.", name)
        found[name] = value
    return found


def blocks(order: Iterable[int], width: int) -> tuple[int, ...]:
    """The positions of blocks of `width` slices: four box deltas stand together, for example."""
    return tuple(block * width + i for block in order for i in range(width))


def misfits(
    theirs: Mapping[str, Tensor],
    sources: Mapping[str, Source],
    expected: Mapping[str, Tensor],
    ignored: Callable[[str], bool] = lambda name: False,
) -> list[str]:
    """Name what keeps `take` from working; an empty list if nothing does.

    Args:
        theirs: their state dict.
        sources: for each of our tensors that the file must have.
        expected: our state dict, for its shapes.
        ignored: names of theirs that may be left over.

    Returns:
        a phrase for each tensor that is missing, of another shape, or left over, under the name it
        has in the file.
    """
    problems = []
    for name, source in sources.items():
        ours = f" (our {name})" if name != source.name else ""
        if source.name not in theirs:
            if not name.endswith(COUNTER):
                problems.append(f"{source.name} is missing{ours}")
            continue
        shape, found = their_shape(source, expected[name].shape), theirs[source.name].shape
        if tuple(found) != shape:
            problems.append(f"{source.name} is {_shape(found)} instead of {_shape(shape)}{ours}")
    used = {source.name for source in sources.values()}
    return problems + [
        f"{name} ({_shape(value.shape)}) is not part of the model"
        for name, value in theirs.items()
        if name not in used and not name.endswith(COUNTER) and not ignored(name)
    ]


def take(
    theirs: Mapping[str, Tensor], sources: Mapping[str, Source], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Collect our tensors from theirs, once `misfits` finds nothing.

    Args:
        theirs: their state dict.
        sources: for each of our tensors that the file has.
        expected: our state dict, for its types.

    Returns:
        our tensors, in memory of their own.
    """
    found: dict[str, Tensor] = {}
    for name, source in sources.items():
        if source.name not in theirs:  # a counter, see `misfits`
            found[name] = torch.zeros((), dtype=expected[name].dtype)
            continue
        value = theirs[source.name]
        if source.index is not None:
            value = value.index_select(source.dim, torch.tensor(source.index))
        found[name] = value.to("cpu", expected[name].dtype, copy=True)
    return found


def put(ours: Mapping[str, Tensor], sources: Mapping[str, Source]) -> dict[str, Tensor]:
    """Write our tensors as theirs; the inverse of `take` for all that we have.

    Args:
        ours: our state dict.
        sources: for each of its tensors.

    Returns:
        their state dict, of new tensors. Slices that we do not have hold the source's `fill`.
    """
    theirs: dict[str, Tensor] = {}
    for name, source in sources.items():
        value = ours[name].detach().cpu()
        if source.index is None:
            theirs[source.name] = value.clone()
            continue
        shape = their_shape(source, value.shape)
        whole = torch.full(shape, source.fill, dtype=value.dtype)
        theirs[source.name] = whole.index_copy_(source.dim, torch.tensor(source.index), value)
    return theirs


def their_shape(source: Source, ours: Sequence[int]) -> tuple[int, ...]:
    """The shape their tensor has when ours has the shape `ours`."""
    shape = list(ours)
    if source.index is not None:
        shape[source.dim] = source.size
    return tuple(shape)


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) if len(shape) else "a single number"
