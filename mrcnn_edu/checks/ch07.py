"""Checks of chapter 07: kernels, run under the tracer; no GPU is needed."""

from collections import Counter
from collections.abc import Callable
from types import CodeType
from typing import Any

import numpy as np

from mrcnn_edu.checks.common import (
    case,
    check,
    inputs_kept,
    require,
    require_equal,
    require_not,
)
from mrcnn_edu.pictures.threads import Trace, trace


def _launch(answer: Callable, blocks: Any, threads: Any, out: np.ndarray, *given: Any) -> Trace:
    """Trace a launch with `out` as its last argument, and compare the other arrays after it."""
    before = [a.copy() for a in given]
    found = trace(answer, blocks, threads, *given, out)
    for was, now in zip(before, given, strict=True):
        require(np.array_equal(was, now), "The kernel changed its input; it may write out alone.")
    return found


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


def _share_the_work(found: Trace, name: str, wanted: int, why: str) -> None:
    """Fail unless `wanted` threads changed the array, each once."""
    times = Counter(a.who for a in found.accesses if a.array == name and a.kind != "read")
    require(
        len(times) == wanted,
        f"{len(times)} threads did the work where {wanted} could do it side by side. {why}",
    )
    most = max(times.values(), default=1)
    require(most == 1, f"A thread wrote {most} times to {name}; once is enough. {why}")


@check("7.1")
def check_add_row(answer: Callable) -> None:
    """`answer(a, row, out)`: a kernel that adds a row to every row."""
    case("2 × 3 numbers")
    a, row = np.arange(6.0).reshape(2, 3), np.array([10.0, 20.0, 30.0])
    out = np.full((2, 3), 7.0)
    found = _launch(answer, 1, (3, 3), out, a, row)
    for access in found.outside():
        x, y = access.lane % 3, access.lane // 3
        require(
            y == 2,
            f"On 2 × 3 numbers the thread x = {x}, y = {y} has work, and it uses "
            f"{access.array}{list(access.index)}, which does not exist: cuda.grid(2) gives (x, y), "
            "arrays are indexed [y, x].",
        )
    _stays_inside(
        found,
        "3 × 3 threads were launched for 2 × 3 numbers: the thread's y must be less than 2, the "
        "number of rows, whatever its x is.",
    )
    require_not(
        out, a + row + 7, "out held sevens, and they are in your sums: write out, do not add to it."
    )
    require_equal(out, a + row, "out[y, x] = a[y, x] + row[x], on 2 × 3 numbers.")
    threads = "The threads are the loop: one for each number, x and y both from cuda.grid(2)."
    _does_not_race(found, f"{threads} Leave out any loop over rows or columns.")
    _share_the_work(found, "out", 6, threads)
    for height, width, blocks, block in (
        (5, 6, (2, 2), (4, 4)),
        (1, 1, (1, 1), (2, 2)),
        (7, 3, (4, 2), (2, 4)),
        (3, 9, (3, 5), (4, 2)),
    ):
        case(f"{height} × {width} numbers in blocks of {block}")
        a, row = np.random.default_rng(0).random((height, width)), np.arange(float(width))
        out = np.full((height, width), np.nan)
        found = _launch(answer, blocks, block, out, a, row)
        _stays_inside(
            found,
            f"There are {height} × {width} numbers and more threads than that along x and y: "
            "guard both, and mind that the last index is one less than the size.",
        )
        missing = int(np.isnan(out).sum())
        require(
            missing == 0,
            f"On {height} × {width} numbers, in {blocks} blocks of {block} threads along x and y, "
            f"nobody writes {missing} of them: a thread's place is that in the whole grid, "
            "cuda.grid(2), not the one in its block.",
        )
        require_equal(out, a + row, f"On {height} × {width} numbers, in blocks of {block}.")
        _does_not_race(found, threads)
        _share_the_work(found, "out", height * width, threads)
    case("coalescing")
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
    """`answer(addresses)`: 32-byte sectors that a warp's addresses fall into."""
    answer = inputs_kept(answer)
    row = list(range(0, 128, 4))
    # Addresses, sectors, and what misconceptions count.
    cases: tuple[tuple[str, list[int], int, dict[int, str]], ...] = (
        (
            "32 numbers side by side",
            row,
            4,
            {32: "Numbers share sectors: 8 of 4 bytes lie in one of 32 bytes.",
             1: "128 bytes are more than one sector of 32 bytes."},
        ),
        (
            "one number for all",
            [64] * 32,
            1,
            {4: "All threads read the same number, and it is fetched once: no bytes are counted.",
             32: "All threads read the same number: one sector, fetched once."},
        ),
        (
            "numbers 256 bytes apart",
            [a * 64 for a in row],
            32,
            {249: "What lies between two numbers that are read is not fetched."},
        ),
        (
            "two pairs far apart",
            [0, 4, 4096, 4100],
            2,
            {129: "What lies between two sectors that are read is not fetched."},
        ),
        (
            "a row that begins at byte 4",
            [a + 4 for a in row],
            5,
            {4: "128 bytes that begin at byte 4 reach into a fifth sector: sectors begin at "
             "multiples of 32, not at the first address."},
        ),
        (
            "two sectors, alternately",
            [0, 32, 4, 36],
            2,
            {4: "Two sectors, met alternately: each is fetched once."},
        ),
        ("no thread reads", [], 0, {}),
    )  # fmt: skip
    for name, addresses, wanted, misconceptions in cases:
        case(name)
        got = answer(list(addresses))
        for wrong, why in misconceptions.items():
            require_not(got, wrong, why)
        require_equal(got, wanted, f"Addresses {addresses[:4]}{' …' * (len(addresses) > 4)}.")
    generator = np.random.default_rng(0)
    for number in range(30):
        case(f"random {number}")
        addresses = (generator.integers(0, 200, 32) * 4).tolist()
        wanted = len(np.unique(np.array(addresses) // 32))
        require_equal(answer(addresses), wanted, "Random addresses.")


@check("7.3")
def check_pool_scatter(answer: Callable) -> None:
    """`answer(gradient, argmax, out)`: RoIPool's backward, atomically."""
    case("two bins, two channels")
    gradient = np.array([[1.0, 2.0], [4.0, 8.0]])
    argmax = np.array([[0, 1], [0, 2]], np.int32)
    out = np.zeros((3, 2))
    found = _launch(answer, (1, 1), (2, 2), out, gradient, argmax)
    _stays_inside(found, "out is [H·W, C]: argmax names its row, the channel its column.")
    added = sum(a.kind == "atomic" for a in found.accesses)
    require(
        added <= 4,
        f"There are 4 gradients, and your threads add {added} times: x and y together name one "
        "gradient, so leave out the loop.",
    )
    require_not(
        out,
        [[4, 0], [0, 2], [0, 8]],
        "Both bins of channel 0 chose pixel 0: it gets 1 + 4. Add, do not assign.",
    )
    require_not(
        out, [[0, 0], [0, 2], [0, 8]], "Pixel 0 got nothing, but it is a pixel: only −1 is none."
    )
    require_equal(
        out, [[5, 0], [0, 2], [0, 8]], "Bins chose pixels 0 and 0 of channel 0, 1 and 2 of 1."
    )
    _does_not_race(
        found, "Two bins may choose the same pixel, and += can lose one: use cuda.atomic.add."
    )
    alone = "One thread for each gradient: c, b = cuda.grid(2), and no loop."
    _share_the_work(found, "out", 4, alone)
    case("what lay in out before")
    out = np.full((3, 2), 7.0)
    _launch(answer, (1, 1), (2, 2), out, gradient, argmax)
    require_equal(out, [[12, 7], [7, 9], [7, 15]], "out held sevens; add to what is there.")
    case("empty bins")
    argmax[1] = -1
    out = np.zeros((3, 2))
    _launch(answer, (1, 1), (2, 2), out, gradient, argmax)
    require_not(
        out,
        [[1, 0], [0, 2], [4, 8]],
        "argmax −1 means that the bin was empty: it sends nothing. As an index, −1 is the last "
        "pixel.",
    )
    require_equal(out, [[1, 0], [0, 2], [0, 0]], "The second bin is empty, argmax −1.")
    generator = np.random.default_rng(0)
    for bins, channels, pixels in ((9, 5, 30), (4, 40, 6), (1, 1, 1)):
        case(f"{bins} bins, {channels} channels")
        gradient = generator.standard_normal((bins, channels))
        argmax = generator.integers(-1, pixels, (bins, channels)).astype(np.int32)
        out, wanted = np.zeros((pixels, channels)), np.zeros((pixels, channels))
        found = _launch(answer, (2, 3), (32, 4), out, gradient, argmax)
        _stays_inside(
            found,
            f"There are {bins} bins and {channels} channels, and more threads: guard both before "
            "anything is read.",
        )
        for b, c in zip(*np.nonzero(argmax >= 0), strict=True):
            wanted[argmax[b, c], c] += gradient[b, c]
        sent = wanted.copy()
        sent[:, 12:] = 0
        if channels > 12:
            require_not(
                out, sent, "x runs over channels, of which there are 40: `c, b = cuda.grid(2)`."
            )
        require_equal(out, wanted, f"{bins} bins, {channels} channels, 64 × 12 threads.", 1e-9)
        _share_the_work(found, "out", int((argmax >= 0).sum()), alone)


@check("7.4")
def check_gather(answer: Callable) -> None:
    """`answer(gradient, weight, out)`: out = Wᵀ · gradient, without atomics."""
    case("2 bins, 3 pixels")
    weight = np.array([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]])
    gradient = np.array([2.0, 4.0])
    out = np.zeros(3)
    found = _launch(answer, 1, 3, out, gradient, weight)
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
    case("what lay in out before")
    out = np.full(3, np.nan)
    _launch(answer, 1, 3, out, gradient, weight)
    once = "Sum in a variable of the thread, write once."
    require(
        not np.isnan(out).all(),
        f"out was not zeroed before the launch, and what lay there is in your sum. {once}",
    )
    require_equal(out, [1, 2, 3], "out held NaN before the launch.")
    _share_the_work(found, "out", 3, f"One thread for each pixel. {once}")
    case("what a kernel may hold")
    code = getattr(getattr(answer, "py_func", answer), "__code__", None)
    inner = [c.co_name for c in getattr(code, "co_consts", ()) if isinstance(c, CodeType)]
    require(
        "<genexpr>" not in inner and "<listcomp>" not in inner,
        "The numbers are right, but Numba cannot compile this for a GPU: a kernel has no "
        "generators and makes no lists. Write the loop out.",
    )
    generator = np.random.default_rng(0)
    for bins, pixels in ((5, 7), (7, 5), (1, 1), (16, 40)):
        case(f"{bins} bins, {pixels} pixels")
        weight, gradient = generator.random((bins, pixels)), generator.standard_normal(bins)
        out = np.full(pixels, np.nan)
        found = _launch(answer, 6, 8, out, gradient, weight)
        _stays_inside(found, f"48 threads were launched for {pixels} pixels: where is the guard?")
        require_equal(out, weight.T @ gradient, f"{bins} bins, {pixels} pixels.", 1e-9)
        _share_the_work(found, "out", pixels, f"One thread for each pixel. {once}")
