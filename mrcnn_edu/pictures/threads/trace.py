"""Runs a CUDA kernel on the CPU, thread after thread, and records who reads and writes what.

In: a kernel (`@cuda.jit`, or the plain function), the blocks and threads of its launch, and its
arguments: NumPy arrays and numbers. Out: a `Trace`, and the arrays changed as the launch would
change them. It needs neither a GPU nor Numba's simulator, and shows the same everywhere.

What it sees of a kernel is what matters in Chapters 07a and 07b: cells outside an array, two
threads at one cell, lanes of a warp that have nothing to do, the sectors that a request touches,
conflicts in shared memory.
"""

import inspect
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from mrcnn_edu.pictures.threads.accesses import Trace
from mrcnn_edu.pictures.threads.device import Cuda, Recorded, Three, rebuild, three


def trace(
    kernel: Callable,
    blocks: int | tuple,
    threads: int | tuple,
    *arguments: Any,
    in_step: bool = False,
) -> Trace:
    """Run every thread of `kernel[blocks, threads](*arguments)` and record its accesses.

    Threads run one after another, those of a block from barrier to barrier. With `in_step` those of
    a block take turns after each access, so that all have read before the first one writes: one of
    the orders that a GPU may choose, and the one in which unprotected additions are lost.

    Reading outside an array gives 0 and writing there does nothing, so that the trace can go on;
    both are recorded. Negative indices count from the end, as in Numba. Shared arrays are called
    "shared", "shared 2" and so on, and begin with NaN or −1.

    Args:
        kernel: a `@cuda.jit` function.
        blocks, threads: of the launch, a number or up to three.
        arguments: of the kernel; its arrays are those of NumPy.
        in_step: let the threads of a block take turns after each access.

    Raises:
        TypeError: it is not a kernel.
        ValueError: the kernel uses something of `numba.cuda` that is not known here, or not all
            threads of a block come to a barrier.
    """
    found = Trace()
    grid, block = three(blocks), three(threads)
    cuda = Cuda(grid, block, found, in_step)
    function = rebuild(kernel, cuda)
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
    names += [f"argument {k}" for k in range(len(names), len(arguments))]
    given: list[Any] = []
    for name, value in zip(names, arguments, strict=False):  # a wrong number fails when called
        if isinstance(value, np.ndarray):
            found.sizes[name] = value.size
            value = Recorded(value, name, cuda, found)
        given.append(value)
    for z, y, x in itertools.product(*map(range, grid[::-1])):
        places = [Three(u, v, w) for w, v, u in itertools.product(*map(range, block[::-1]))]
        cuda.begin_block(Three(x, y, z), places)
        found.threads += [((x, y, z), lane) for lane in range(len(places))]
        if cuda.takes_turns:
            bodies = [lambda: function(*given)] * len(places)
            cuda.turns.play(bodies, cuda.begin_turn)
            continue
        for lane in range(len(places)):
            cuda.begin_turn(lane)
            function(*given)
    return found
