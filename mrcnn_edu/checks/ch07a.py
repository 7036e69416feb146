"""Checks of chapter 07a: kernels, run under the recorder; no GPU is needed."""

from collections.abc import Callable

import numpy as np

from mrcnn_edu.checks.ch07_launches import (
    does_not_race,
    does_not_race_in_memory,
    launch,
    share_the_work,
    stays_inside,
)
from mrcnn_edu.checks.common import (
    case,
    check,
    inputs_kept,
    require,
    require_equal,
    require_not,
)
from mrcnn_edu.pictures.threads import blocks_that_fit, trace


@check("7a.1")
def check_add_row(answer: Callable) -> None:
    """`answer(a, row, out)`: a kernel that adds a row to every row."""
    case("2 × 3 numbers")
    a, row = np.arange(6.0).reshape(2, 3), np.array([10.0, 20.0, 30.0])
    out = np.full((2, 3), 7.0)
    found = launch(answer, 1, (3, 3), out, a, row)
    for access in found.outside():
        x, y = access.lane % 3, access.lane // 3
        require(
            y == 2,
            f"On 2 × 3 numbers the thread x = {x}, y = {y} has work, and it uses "
            f"{access.array}{list(access.index)}, which does not exist: cuda.grid(2) gives (x, y), "
            "arrays are indexed [y, x].",
        )
    stays_inside(
        found,
        "3 × 3 threads were launched for 2 × 3 numbers: the thread's y must be less than 2, the "
        "number of rows, whatever its x is.",
    )
    require_not(
        out, a + row + 7, "out held sevens, and they are in your sums: write out, do not add to it."
    )
    require_equal(out, a + row, "out[y, x] = a[y, x] + row[x], on 2 × 3 numbers.")
    threads = "The threads are the loop: one for each number, x and y both from cuda.grid(2)."
    does_not_race(found, f"{threads} Leave out any loop over rows or columns.")
    share_the_work(found, "out", 6, threads)
    for height, width, blocks, block in (
        (5, 6, (2, 2), (4, 4)),
        (1, 1, (1, 1), (2, 2)),
        (7, 3, (4, 2), (2, 4)),
        (3, 9, (3, 5), (4, 2)),
    ):
        case(f"{height} × {width} numbers in blocks of {block}")
        a, row = np.random.default_rng(0).random((height, width)), np.arange(float(width))
        out = np.full((height, width), np.nan)
        found = launch(answer, blocks, block, out, a, row)
        stays_inside(
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
        does_not_race(found, threads)
        share_the_work(found, "out", height * width, threads)
    case("coalescing")
    a, out = np.zeros((32, 32), np.float32), np.zeros((32, 32), np.float32)
    found = trace(answer, (1, 32), (32, 1), a, np.zeros(32, np.float32), out)
    sectors = max(found.sectors("a") + found.sectors("out", "write"), default=0)
    require(
        sectors <= 4,
        f"The numbers are right, but a warp's request touches {sectors} sectors where 4 would do. "
        "Neighbouring threads differ in x: let x be the last index.",
    )


@check("7a.2")
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


@check("7a.3")
def check_blocks_that_fit(answer: Callable) -> None:
    """`answer(threads, registers, shared)`: blocks on a multiprocessor of capability 9.0."""
    # threads, registers, bytes of shared memory, blocks, and what misconceptions give.
    cases: tuple[tuple[int, int, int, int, dict[int, str]], ...] = (
        (256, 32, 0, 8, {64: "A block of 256 threads has 8 warps, and 64 warps fit."}),
        (256, 64, 0, 4, {8: "4 × 8 warps of 2,048 registers use up all 65,536."}),
        (32, 16, 0, 32, {64: "64 blocks of one warp: at most 32 blocks fit, however small."}),
        (
            72, 32, 0, 21,
            {28: "72 threads fill three warps, the last of them with 8 threads: 64 // 3."},
        ),
        (
            256, 33, 0, 6,
            {7: "32 × 33 = 1,056 registers per warp are handed out as 1,280: portions of 256."},
        ),
        (
            100, 40, 0, 12,
            {16: "100 threads fill 4 warps, and each warp gets registers for all its 32 lanes."},
        ),
        (
            256, 32, 57 * 1024, 3,
            {4: "A block takes 1,024 bytes more than it asks for: 4 × 58 KiB are more than 228."},
        ),
        (1024, 48, 0, 1, {2: "32 warps of 1,536 registers are 49,152: a second block needs more "
                          "than is left."}),
        (1024, 128, 0, 0, {1: "32 warps of 4,096 registers are 131,072: not even one block."}),
        (64, 16, 100 * 1024, 2, {}),
        (256, 32, 56 * 1024, 4, {}),
        (256, 32, 57 * 1024 - 1023, 3, {}),
        (32, 16, 9127, 22, {}),
        (1, 1, 0, 32, {}),
        (128, 255, 0, 2, {}),
    )  # fmt: skip
    for threads, registers, shared, wanted, misconceptions in cases:
        what = f"{threads} threads, {registers} registers, {shared:,} bytes"
        case(what)
        got = answer(threads, registers, shared)
        for wrong, why in misconceptions.items():
            require_not(got, wrong, f"{what}: {why}")
        require_equal(got, wanted, f"{what}.")
    generator = np.random.default_rng(0)
    for number in range(200):
        case(f"random {number}")
        threads, registers = int(generator.integers(1, 1025)), int(generator.integers(1, 256))
        shared = int(generator.integers(0, 227 * 1024)) if number % 2 else 0
        wanted = blocks_that_fit(threads, registers, shared)
        what = f"{threads} threads, {registers} registers, {shared:,} bytes."
        require_equal(answer(threads, registers, shared), wanted, what)


@check("7a.4")
def check_transpose(answer: Callable) -> None:
    """`answer(source, target)`: a transposition through shared memory."""
    for channels, pixels in ((32, 32), (5, 40), (34, 3)):
        case(f"{channels} channels of {pixels} pixels")
        source = np.arange(1.0, channels * pixels + 1, dtype=np.float32).reshape(channels, pixels)
        target = np.full((pixels, channels), -7, np.float32)
        grid = (-(-pixels // 32), -(-channels // 32))
        found = launch(answer, grid, (32, 32), target, source)
        size = f"On {channels} channels of {pixels} pixels"
        stays_inside(found, f"{size}: blocks at the end have threads without a number.")
        require(
            not found.unwritten("shared"),
            f"{size} you write what nobody put into the tile: a thread takes a number out before "
            "its owner has put it in, or takes one that nobody owns. Is the barrier between them?",
        )
        missing = int((target == -7).sum())
        require(missing == 0, f"{size} nobody writes {missing} numbers of target.")
        require_equal(target, source.T, f"{size}.")
        if channels == pixels == 32:
            require(
                "shared" in found.sizes,
                "The numbers are right, but nothing went through shared memory: cuda.shared.array.",
            )
            for name, kind in (("source", "read"), ("target", "write")):
                most = max(found.sectors(name, kind))
                require(
                    most == 4,
                    f"The numbers are right, but a {kind} of {name} touches {most} sectors where "
                    "4 would do: x must be the last index of source when you read, and the last "
                    "one of target when you write. The tile is what is turned over.",
                )
        does_not_race_in_memory(found)
        share_the_work(found, "target", channels * pixels, "One thread for each number.")


@check("7a.5")
def check_highest(answer: Callable) -> None:
    """`answer(scores, out)`: the highest score of each block of 256, by a reduction."""
    generator = np.random.default_rng(0)
    for count, place in (
        (256, 0),
        (256, 255),
        (256, 100),
        (200, 199),
        (1, 0),
        (600, 520),
        (257, 256),
    ):
        case(f"{count} scores, the highest at {place}")
        scores = generator.uniform(-9, -1, count).astype(np.float32)
        scores[place] = -0.5
        blocks = -(-count // 256)
        wanted = [scores[256 * b : 256 * (b + 1)].max() for b in range(blocks)]
        out = np.full(blocks, np.nan, np.float32)
        found = launch(answer, blocks, 256, out, scores)
        size = f"With {count} scores, the highest at {place}"
        stays_inside(found, f"{size}: the last block has threads without a score.")
        require(
            not found.unwritten("shared"),
            f"{size}, a thread compares a number of shared memory that nobody has written yet: "
            "every thread must put something there.",
        )
        require_not(
            out, np.maximum(wanted, 0), f"{size}: all scores are negative, so 0 is no stand-in."
        )
        require_equal(out, wanted, f"{size}: one round reads what the round before has written.")
        require("shared" in found.sizes, "Compare in shared memory: that is the exercise.")
        does_not_race_in_memory(found)
        reads = sum(a.kind == "read" and a.array == "scores" for a in found.accesses)
        require(
            reads <= count,
            f"{size}, the threads read {reads} scores: one for each thread, the rest is compared "
            "in shared memory.",
        )
