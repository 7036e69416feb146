"""Runs a CUDA kernel on the CPU, one thread after another, and records who reads and writes what.

In: a kernel (`@cuda.jit`, or the plain function), the blocks and threads of its launch, and its
arguments: NumPy arrays and numbers. Out: a `Trace`, and the arrays changed as the launch would
change them. It needs neither a GPU nor Numba's simulator, and shows the same everywhere.

What it sees of a kernel is what matters in Chapter 07: cells outside an array, two threads at one
cell, and the 32-byte sectors that a warp's request touches. It runs threads one by one, so shared
memory and barriers are beyond it. The idea of drawing what each thread touches is that of Sasha
Rush's GPU-Puzzles.
"""

import inspect
import itertools
import types
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mrcnn_edu.pictures.colours import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WARP = 32  # threads that run in step
SECTOR = 32  # bytes: the smallest piece of memory that is moved
Array = np.ndarray[Any, Any]
Index = tuple[int, int, int]


@dataclass(frozen=True)
class Access:
    """One read, write or atomic addition.

    `lane` numbers the threads of a block, x fastest; `cell` the numbers of an array in the order
    of its indices; `address` is in bytes from the array's start, by its strides, as it lies in
    memory. `inside` is False for an index that the array does not have.
    """

    block: Index
    lane: int
    kind: str  # "read", "write" or "atomic"
    array: str
    index: tuple[int, ...]
    cell: int
    address: int
    inside: bool

    @property
    def who(self) -> tuple[Index, int]:
        """The thread."""
        return self.block, self.lane


@dataclass
class Trace:
    """What the threads of a launch did, in the order in which they were run."""

    threads: list[tuple[Index, int]] = field(default_factory=list)
    accesses: list[Access] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)  # numbers in each array

    def outside(self) -> list[Access]:
        """Accesses outside their arrays. On a GPU they read or destroy other data, silently."""
        return [a for a in self.accesses if not a.inside]

    def races(self) -> dict[tuple[str, tuple[int, ...]], int]:
        """Cells that one thread writes plainly while others use them, and how many threads do.

        {(array, index): threads}. An addition `out[i] += v` is a read and a plain write.
        """
        users, written = defaultdict(set), set()
        for a in self.accesses:
            users[a.array, a.index].add(a.who)
            if a.kind == "write":
                written.add((a.array, a.index))
        return {
            cell: len(users[cell]) for cell in users if cell in written and len(users[cell]) > 1
        }

    def sectors(self, array: str, kind: str = "read") -> list[int]:
        """32-byte sectors of each request for `array`: the n-th access of all threads of a warp."""
        turns: dict[tuple[Index, int], int] = defaultdict(int)
        requests = defaultdict(set)
        for a in self.accesses:
            if a.array == array and a.kind == kind and a.inside:
                request = (a.block, a.lane // WARP, turns[a.who])
                turns[a.who] += 1
                requests[request].add(a.address // SECTOR)
        return [len(touched) for touched in requests.values()]

    def lines(self) -> list[str]:
        """The accesses as text, one line a thread."""
        told = defaultdict(list)
        for a in self.accesses:
            mark = {"read": "reads", "write": "writes", "atomic": "adds to"}[a.kind]
            where = ", ".join(map(str, a.index)) + ("" if a.inside else "!")
            told[a.who].append(f"{mark} {a.array}[{where}]")
        return [
            f"block {block[0]} thread {lane}: {', '.join(told[block, lane]) or 'nothing'}"
            for block, lane in self.threads
        ]


def trace(kernel: Callable, blocks: int | tuple, threads: int | tuple, *arguments: Any) -> Trace:
    """Run every thread of `kernel[blocks, threads](*arguments)` in turn and record its accesses.

    Reading outside an array gives 0 and writing there does nothing, so that the trace can go on;
    both are recorded. Negative indices count from the end, as in Numba.

    Args:
        kernel: a `@cuda.jit` function.
        blocks, threads: of the launch, a number or up to three.
        arguments: of the kernel; its arrays are those of NumPy.

    Raises:
        TypeError: it is not a kernel.
        ValueError: the kernel uses shared memory, a barrier, or something else of `numba.cuda` that
            is not known here.
    """
    found = Trace()
    grid, block = _three(blocks), _three(threads)
    cuda = _Cuda(grid, block)
    function = _rebuild(kernel, cuda)
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
    names += [f"argument {k}" for k in range(len(names), len(arguments))]
    given: list[Any] = []
    for name, value in zip(names, arguments, strict=False):  # a wrong number fails when called
        if isinstance(value, np.ndarray):
            found.sizes[name] = value.size
            value = _Recorded(value, name, cuda, found)
        given.append(value)
    for z, y, x in itertools.product(*map(range, grid[::-1])):
        for lane, (w, v, u) in enumerate(itertools.product(*map(range, block[::-1]))):
            cuda.blockIdx, cuda.threadIdx, cuda.lane = _Three(x, y, z), _Three(u, v, w), lane
            found.threads.append(((x, y, z), lane))
            function(*given)
    return found


def draw_trace(axis: "Axes", trace: Trace, above: str, below: str) -> None:
    """Draw threads between two arrays: lines from what they read, and to what they write.

    Threads of one block have one colour. Dashed lines are atomic additions; red are accesses
    outside an array, and cells at which threads race.

    Args:
        axis: where.
        trace: the launch, small enough to see: some forty threads.
        above: the array drawn at the top.
        below: the array drawn at the bottom.
    """
    used = [a for a in trace.accesses if a.array in (above, below)]
    rows: dict[str, int] = {name: trace.sizes[name] for name in (above, below)}
    for a in used:
        rows[a.array] = max(rows[a.array], a.cell + 1)
    width = max(*rows.values(), len(trace.threads))
    start = {name: (width - count) / 2 for name, count in rows.items()}
    height = {above: 2.0, below: 0.0}
    blocks = list(dict.fromkeys(block for block, _ in trace.threads))
    paint = [tuple(c / 255 for c in COLOURS[i % len(COLOURS)]) for i in range(len(blocks))]
    left = (width - len(trace.threads)) / 2
    place = {who: (left + i + 0.5, 1.0) for i, who in enumerate(trace.threads)}
    racing = {(a.array, a.cell) for a in used if (a.array, a.index) in trace.races()}
    for name, count in rows.items():
        for cell in range(count):
            wrong = cell >= trace.sizes[name] or (name, cell) in racing
            _square(axis, start[name] + cell + 0.5, height[name], str(cell), "white", wrong)
        axis.text(-0.4, height[name], name, ha="right", va="center", fontweight="bold")
    axis.text(-0.4, 1.0, "threads", ha="right", va="center", fontweight="bold")
    for who, (x, y) in place.items():
        _square(axis, x, y, str(who[1]), paint[blocks.index(who[0])], False)
    for a in used:
        x, y = place[a.who]
        at, side = start[a.array] + a.cell + 0.5, 1 if a.array == above else -1
        colour = paint[blocks.index(a.block)] if a.inside else "#d62728"
        style = "--" if a.kind == "atomic" else "-"
        axis.plot([x, at], [y + 0.2 * side, height[a.array] - 0.2 * side], style,
                  color=colour, linewidth=1.2, zorder=1)  # fmt: skip
    axis.set(xlim=(-0.14 * width - 0.4, width + 0.2), ylim=(-0.35, 2.35), xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def _square(axis: "Axes", x: float, y: float, text: str, fill: Any, wrong: bool) -> None:
    from matplotlib.patches import Rectangle

    edge = "#d62728" if wrong else "#555555"
    axis.add_patch(
        Rectangle((x - 0.42, y - 0.2), 0.84, 0.4, facecolor=fill, edgecolor=edge,
                  linewidth=2.0 if wrong else 0.8, zorder=2)
    )  # fmt: skip
    axis.text(x, y, text, ha="center", va="center", fontsize=7, zorder=3)


@dataclass(frozen=True)
class _Three:
    x: int
    y: int
    z: int


def _three(size: int | tuple) -> Index:
    sizes = (size,) if isinstance(size, int) else tuple(size)
    return (*sizes, 1, 1, 1)[:3]


class _Cuda:
    """What a kernel finds under the name `cuda`, for the thread whose turn it is."""

    def __init__(self, grid: Index, block: Index) -> None:
        self.gridDim, self.blockDim = _Three(*grid), _Three(*block)
        self.blockIdx = self.threadIdx = _Three(0, 0, 0)
        self.lane = 0
        self.atomic = _Atomic()

    def grid(self, dimensions: int) -> Any:
        """The thread's place in the whole launch."""
        block, size, thread = self.blockIdx, self.blockDim, self.threadIdx
        place = (
            block.x * size.x + thread.x,
            block.y * size.y + thread.y,
            block.z * size.z + thread.z,
        )
        return place[0] if dimensions == 1 else place[:dimensions]

    def __getattr__(self, name: str) -> Any:
        raise ValueError(
            f"cuda.{name} cannot be traced: threads are run one after another here, so kernels "
            "with shared memory, barriers or warp functions need the simulator or a GPU"
        )


class _Atomic:
    """`cuda.atomic`."""

    def add(self, array: "_Recorded", index: Any, value: Any) -> Any:
        """Add to one cell; return what was there before."""
        return array.add(index, value)


_ONE_NUMBER = "a thread reads and writes one number at a time, as in a[y, x]"


class _Recorded:
    """An array that tells a trace which of its cells are used, and for what."""

    def __init__(
        self, values: Array, name: str, cuda: _Cuda, trace: Trace, prefix: tuple[int, ...] = ()
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
            return _Recorded(self._values, self._name, self._cuda, self._trace, index)
        inside = self._tell("read", index)
        return self._values[index] if inside else self.dtype.type(0)

    def __setitem__(self, index: Any, value: Any) -> None:
        index = self._one(index)
        if self._tell("write", index):
            self._values[index] = value

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
        self._trace.accesses.append(
            Access(block, self._cuda.lane, kind, self._name, index, cell, address, inside)
        )
        return inside


def _rebuild(function: Callable, cuda: _Cuda) -> Callable:
    """The kernel's Python function with `cuda`, and its device functions, replaced."""
    plain: Any = function
    for attribute in ("py_func", "fn"):  # compiled; simulated
        plain = getattr(plain, attribute, plain)
    if not isinstance(plain, types.FunctionType):
        raise TypeError(f"{function!r} is not a kernel: pass a @cuda.jit function")

    def replaced(value: Any) -> Any:
        if inspect.ismodule(value) and value.__name__ == "numba.cuda":
            return cuda
        if hasattr(value, "py_func") or type(value).__name__ == "FakeCUDAKernel":
            return _rebuild(value, cuda)
        return value

    names = set(plain.__code__.co_names)
    scope = {k: replaced(v) if k in names else v for k, v in plain.__globals__.items()}
    cells = [types.CellType(replaced(c.cell_contents)) for c in plain.__closure__ or ()]
    return types.FunctionType(
        plain.__code__, scope, plain.__name__, plain.__defaults__, tuple(cells) or None
    )
