"""What a kernel finds when it is recorded: a `cuda` of Python, and arrays that tell who uses them.

`rebuild` gives a kernel's Python function these in the place of Numba's. Chapters 07a and 07b.
"""

import functools
import sys
import types
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mrcnn_edu.pictures.threads.accesses import Access, Index, Trace
from mrcnn_edu.pictures.threads.turns import Turns

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Three:
    """The three numbers of a place or size."""

    x: int
    y: int
    z: int


def three(size: int | tuple) -> Index:
    """A number, or up to three of them, as three."""
    sizes = (size,) if isinstance(size, int) else tuple(size)
    return (*sizes, 1, 1, 1)[:3]


class Cuda:
    """What a kernel finds under the name `cuda`, for the thread whose turn it is."""

    def __init__(self, grid: Index, block: Index, trace: Trace, in_step: bool) -> None:
        self.gridDim, self.blockDim = Three(*grid), Three(*block)
        self.blockIdx = self.threadIdx = Three(0, 0, 0)
        self.lane = 0
        self.atomic = _Atomic()
        self.turns = Turns()
        self.in_step = in_step
        self.takes_turns = in_step  # … or there is a barrier: `rebuild` sees that
        self.shared = self  # cuda.shared.array
        self._trace = trace
        self._places: list[Three] = []
        self._shared: list[Recorded] = []  # of this block
        self._asked: dict[int, int] = defaultdict(int)  # shared arrays that a lane has got

    def begin_block(self, block: "Three", places: "list[Three]") -> None:
        """The next block, and the places of its threads."""
        self.blockIdx, self._places = block, places
        self._shared, self._asked = [], defaultdict(int)

    def begin_turn(self, lane: int) -> None:
        """The next thread."""
        self.lane, self.threadIdx = lane, self._places[lane]

    def grid(self, dimensions: int) -> Any:
        """The thread's place in the whole launch."""
        block, size, thread = self.blockIdx, self.blockDim, self.threadIdx
        place = (
            block.x * size.x + thread.x,
            block.y * size.y + thread.y,
            block.z * size.z + thread.z,
        )
        return place[0] if dimensions == 1 else place[:dimensions]

    def syncthreads(self) -> None:
        """Wait for the other threads of the block."""
        self.turns.wait_for_all()

    def array(self, shape: int | tuple[int, ...], dtype: Any) -> "Recorded":
        """`cuda.shared.array`: the block's, the same for each thread that asks."""
        number = self._asked[self.lane]
        self._asked[self.lane] += 1
        if number == len(self._shared):
            kind = np.dtype(getattr(dtype, "name", dtype))
            values = np.full(shape, np.nan if kind.kind == "f" else -1, kind)
            name = "shared" if number == 0 else f"shared {number + 1}"
            self._trace.sizes[name] = values.size
            self._shared.append(Recorded(values, name, self, self._trace))
        return self._shared[number]

    def __getattr__(self, name: str) -> Any:
        raise ValueError(
            f"cuda.{name} cannot be traced: the recorder knows threads, blocks, atomic.add, "
            "shared.array and syncthreads; run the kernel in the simulator or on a GPU"
        )


class _Atomic:
    """`cuda.atomic`."""

    def add(self, array: "Recorded", index: Any, value: Any) -> Any:
        """Add to one cell; return what was there before."""
        return array.add(index, value)


_ONE_NUMBER = "a thread reads and writes one number at a time, as in a[y, x]"


class Recorded:
    """An array that tells a trace which of its cells are used, and for what."""

    def __init__(
        self, values: Array, name: str, cuda: Cuda, trace: Trace, prefix: tuple[int, ...] = ()
    ) -> None:
        self._values, self._name, self._cuda, self._trace = values, name, cuda, trace
        self._prefix = prefix  # of a row: the index of the row
        here = values[prefix]
        self.shape, self.dtype, self.size, self.ndim = here.shape, here.dtype, here.size, here.ndim

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        index = self._index(index)
        if len(index) < self._values.ndim:
            return Recorded(self._values, self._name, self._cuda, self._trace, index)
        value = self._values[index] if self._tell("read", index) else self.dtype.type(0)
        self._hand_over()
        return value

    def __setitem__(self, index: Any, value: Any) -> None:
        index = self._one(index)
        if self._tell("write", index):
            self._values[index] = value
        self._hand_over()

    def _arithmetic(self, _other: Any) -> Any:
        raise TypeError(f"{self._name} is an array: {_ONE_NUMBER}")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _arithmetic
    __truediv__ = __rtruediv__ = __matmul__ = __rmatmul__ = _arithmetic

    def add(self, index: Any, value: Any) -> Any:
        """An atomic addition."""
        index = self._one(index)
        if not self._tell("atomic", index):
            return self.dtype.type(0)
        before = self._values[index]
        self._values[index] += value
        self._hand_over()
        return before

    def _one(self, index: Any) -> tuple[int, ...]:
        index = self._index(index)
        if len(index) < self._values.ndim:
            raise TypeError(f"{self._name} has {self._values.ndim} indices: {_ONE_NUMBER}")
        return index

    def _index(self, index: Any) -> tuple[int, ...]:
        more = index if isinstance(index, tuple) else (index,)
        if any(isinstance(i, slice) for i in more):
            raise TypeError(f"{self._name} is indexed with a slice: {_ONE_NUMBER}")
        whole = (*self._prefix, *(int(i) for i in more))
        sizes = self._values.shape
        if len(whole) > len(sizes):
            raise TypeError(f"{self._name} has {len(sizes)} indices, not {len(whole)}")
        return tuple(i + n if -n <= i < 0 else i for i, n in zip(whole, sizes, strict=False))

    def _tell(self, kind: str, index: tuple[int, ...]) -> bool:
        sizes, steps = self._values.shape, self._values.strides
        inside = all(0 <= i < n for i, n in zip(index, sizes, strict=True))
        address = sum(i * step for i, step in zip(index, steps, strict=True))
        cell = 0
        for i, n in zip(index, sizes, strict=True):
            cell = cell * n + i
        block = (self._cuda.blockIdx.x, self._cuda.blockIdx.y, self._cuda.blockIdx.z)
        frame = sys._getframe(1)
        while frame.f_code.co_filename == __file__ and frame.f_back is not None:
            frame = frame.f_back
        place = (frame.f_code.co_name, *_positions(frame.f_code)[frame.f_lasti // 2])
        lane, name = self._cuda.lane, self._name
        self._trace.accesses.append(
            Access(block, lane, kind, name, index, cell, address, inside, place)
        )
        return inside

    def _hand_over(self) -> None:
        if self._cuda.in_step:
            self._cuda.turns.hand_over()


@functools.cache
def _positions(code: types.CodeType) -> list[tuple[int | None, ...]]:
    """Lines and columns of each instruction, by half its offset."""
    return list(code.co_positions())


def rebuild(function: Callable, cuda: Cuda) -> Callable:
    """The kernel's Python function with `cuda`, and its device functions, replaced.

    Raises:
        TypeError: it is not a kernel.
    """
    plain: Any = function
    for attribute in ("py_func", "fn"):  # compiled; simulated
        plain = getattr(plain, attribute, plain)
    if not isinstance(plain, types.FunctionType):
        raise TypeError(f"{function!r} is not a kernel: pass a @cuda.jit function")

    def replaced(value: Any) -> Any:
        if isinstance(value, types.ModuleType) and value.__name__ == "numba.cuda":
            return cuda
        if hasattr(value, "py_func") or type(value).__name__ == "FakeCUDAKernel":
            return rebuild(value, cuda)
        return value

    names = set(plain.__code__.co_names)
    cuda.takes_turns |= "syncthreads" in names
    scope = {k: replaced(v) if k in names else v for k, v in plain.__globals__.items()}
    cells = [types.CellType(replaced(c.cell_contents)) for c in plain.__closure__ or ()]
    return types.FunctionType(
        plain.__code__, scope, plain.__name__, plain.__defaults__, tuple(cells) or None
    )
