"""Checks of chapter 07: kernels, run under the tracer; no GPU is needed."""

from collections.abc import Callable

import numpy as np

from mrcnn_edu.checks.common import check, require, require_equal
from mrcnn_edu.pictures.thread_trace import Trace, trace


def _stays_inside(found: Trace, why: str) -> None:
    outside = found.outside()
    if outside:
        first = outside[0]
        verb = "reads" if first.kind == "read" else "writes"
        require(
            False,
            f"Thread {first.lane} of block {first.block} {verb} {first.array}{list(first.index)}, "
            f"which does not exist. {why}",
        )


def _does_not_race(found: Trace, why: str) -> None:
    for (name, index), threads in found.races().items():
        require(False, f"{threads} threads use {name}{list(index)} and write it plainly. {why}")


@check("7.1")
def check_add_row(answer: Callable) -> None:
    """``answer(a, row, out)``: a kernel that adds a row to every row."""
    a, row = np.arange(6.0).reshape(2, 3), np.array([10.0, 20.0, 30.0])
    out = np.zeros((2, 3))
    found = trace(answer, 1, (3, 3), a, row, out)
    for access in found.outside():
        x, y = access.lane % 3, access.lane // 3
        require(
            y == 2,
            f"On 2 × 3 numbers the thread x = {x}, y = {y} has work, and it uses "
            f"{access.array}{list(access.index)}, which does not exist. Do you take y for x? "
            "cuda.grid(2) gives (x, y), arrays are indexed [y, x].",
        )
    _stays_inside(found, "3 × 3 threads were launched for 2 × 3 numbers: is y guarded?")
    require_equal(out, a + row, "out[y, x] = a[y, x] + row[x], on 2 × 3 numbers.")
    _does_not_race(
        found,
        "The threads are the loop: there is one for each number, so leave out any loop over rows "
        "or columns, and take both x and y from cuda.grid(2).",
    )
    for height, width, blocks, threads in ((5, 6, (2, 2), (4, 4)), (1, 1, (1, 1), (2, 2))):
        a, row = np.random.default_rng(0).random((height, width)), np.arange(float(width))
        out = np.zeros((height, width))
        found = trace(answer, blocks, threads, a, row, out)
        _stays_inside(
            found,
            f"There are {height} × {width} numbers and more threads than that along x and y: "
            "guard both, and mind that the last index is one less than the size.",
        )
        require_equal(
            out,
            a + row,
            f"On {height} × {width} numbers, in blocks of {threads}: do you use the place in the "
            "whole grid, cuda.grid(2), or only the one in the block?",
        )
    a, out = np.zeros((32, 32), np.float32), np.zeros((32, 32), np.float32)
    found = trace(answer, (1, 32), (32, 1), a, np.zeros(32, np.float32), out)
    sectors = max(found.sectors("a") + found.sectors("out", "write"), default=0)
    require(
        sectors <= 4,
        f"The numbers are right, but a warp's request touches {sectors} sectors where 4 would do. "
        "Neighbouring threads differ in x: let x be the last index.",
    )


@check("7.2")
def check_count_sectors(answer: Callable) -> None:
    """``answer(addresses)``: 32-byte sectors that a warp's addresses fall into."""
    row = list(range(0, 128, 4))
    cases: tuple[tuple[list[int], int, str], ...] = (
        (row, 4, "32 numbers next to each other are 128 bytes: 4 sectors."),
        ([64] * 32, 1, "All threads read the same number: one sector, fetched once."),
        ([a * 64 for a in row], 32, "Numbers 256 bytes apart: no two share a sector."),
        (
            [0, 4, 4096, 4100],
            2,
            "Two pairs far apart: what lies between them is not fetched.",
        ),
        (
            [a + 4 for a in row],
            5,
            "128 bytes that begin at byte 4 reach into a fifth sector: sectors begin at multiples "
            "of 32.",
        ),
        ([0, 32, 4, 36], 2, "Two sectors, met alternately: each is fetched once."),
        ([], 0, "No thread reads: nothing is fetched."),
    )
    for addresses, wanted, why in cases:
        require_equal(answer(list(addresses)), wanted, why)
    generator = np.random.default_rng(0)
    for _ in range(30):
        addresses = (generator.integers(0, 200, 32) * 4).tolist()
        wanted = len(np.unique(np.array(addresses) // 32))
        require_equal(answer(addresses), wanted, "Random addresses.")


@check("7.3")
def check_pool_scatter(answer: Callable) -> None:
    """``answer(gradient, argmax, out)``: RoIPool's backward, atomically."""
    gradient = np.array([[1.0, 2.0], [4.0, 8.0]])
    argmax = np.array([[0, 1], [0, 2]], np.int32)
    out = np.zeros((3, 2))
    found = trace(answer, (1, 1), (2, 2), gradient, argmax, out)
    _stays_inside(found, "out is [H·W, C]: argmax names its row, the channel its column.")
    added = sum(a.kind == "atomic" for a in found.accesses)
    require(
        added <= 4,
        f"There are 4 gradients, and your threads add {added} times: x and y together name one "
        "gradient, so leave out the loop.",
    )
    require_equal(
        out,
        [[5, 0], [0, 2], [0, 8]],
        "Both bins of channel 0 chose pixel 0: it gets 1 + 4. Add, do not assign; and pixel 0 is "
        "a pixel, only −1 is none.",
    )
    _does_not_race(
        found, "Two bins may choose the same pixel, and += can lose one: use cuda.atomic.add."
    )
    argmax[1] = -1
    out = np.zeros((3, 2))
    trace(answer, (1, 1), (2, 2), gradient, argmax, out)
    require_equal(
        out,
        [[1, 0], [0, 2], [0, 0]],
        "argmax −1 means that the bin was empty: it sends nothing. As an index, −1 is the last "
        "pixel.",
    )
    generator = np.random.default_rng(0)
    for bins, channels, pixels in ((9, 5, 30), (4, 40, 6), (1, 1, 1)):
        gradient = generator.standard_normal((bins, channels))
        argmax = generator.integers(-1, pixels, (bins, channels)).astype(np.int32)
        out, wanted = np.zeros((pixels, channels)), np.zeros((pixels, channels))
        found = trace(answer, (2, 3), (32, 4), gradient, argmax, out)
        _stays_inside(
            found,
            f"There are {bins} bins and {channels} channels, and more threads: guard both before "
            "anything is read.",
        )
        for b, c in zip(*np.nonzero(argmax >= 0), strict=True):
            wanted[argmax[b, c], c] += gradient[b, c]
        require_equal(
            out,
            wanted,
            f"{bins} bins, {channels} channels, launched with 64 threads along x and 12 along y: "
            "x runs over channels, `c, b = cuda.grid(2)`.",
            1e-9,
        )


@check("7.4")
def check_gather(answer: Callable) -> None:
    """``answer(gradient, weight, out)``: out = Wᵀ · gradient, without atomics."""
    weight = np.array([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]])
    gradient = np.array([2.0, 4.0])
    out = np.zeros(3)
    found = trace(answer, 1, 3, gradient, weight, out)
    require(
        all(a.kind != "atomic" for a in found.accesses),
        "This adds atomically, so bins are the threads and the order is left to chance. Give each "
        "thread one pixel of out and let it ask all bins.",
    )
    _stays_inside(found, "weight is [bins, pixels]: weight[b, i].")
    _does_not_race(found, "Each number of out needs one owner: one thread a pixel, not one a bin.")
    require_equal(
        out, [1, 2, 3], "out[i] = Σ_b weight[b, i] · gradient[b], on 2 bins and 3 pixels."
    )
    out = np.full(3, np.nan)
    trace(answer, 1, 3, gradient, weight, out)
    require_equal(
        out,
        [1, 2, 3],
        "out was not zeroed before the launch, and what lay there is in your sum. Sum in a "
        "variable of the thread, write once.",
    )
    generator = np.random.default_rng(0)
    for bins, pixels in ((5, 7), (7, 5), (1, 1), (16, 40)):
        weight, gradient = generator.random((bins, pixels)), generator.standard_normal(bins)
        out = np.full(pixels, np.nan)
        found = trace(answer, 6, 8, gradient, weight, out)
        _stays_inside(found, f"48 threads were launched for {pixels} pixels: where is the guard?")
        require_equal(out, weight.T @ gradient, f"{bins} bins, {pixels} pixels.", 1e-9)
