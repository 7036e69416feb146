"""Wrong answers to the exercises of chapter 07a: {check: {what is wrong: (answer, message)}}."""

import numpy as np
import pytest

cuda = pytest.importorskip("numba.cuda")


def row_without_guard(a, row, out):
    x, y = cuda.grid(2)
    out[y, x] = a[y, x] + row[x]


def row_with_a_guard_one_too_wide(a, row, out):
    x, y = cuda.grid(2)
    if y < out.shape[0] and x <= out.shape[1]:
        out[y, x] = a[y, x] + row[x]


def row_with_x_and_y_swapped_in_the_guard(a, row, out):
    x, y = cuda.grid(2)
    if x < out.shape[0] and y < out.shape[1]:
        out[x, y] = a[x, y] + row[y]


def row_with_swapped_indices(a, row, out):
    x, y = cuda.grid(2)
    if y < out.shape[0] and x < out.shape[1]:
        out[x, y] = a[x, y] + row[y]


def row_adds_the_wrong_one(a, row, out):
    x, y = cuda.grid(2)
    if y < out.shape[0] and x < out.shape[1]:
        out[y, x] = a[y, x] + row[y]


def row_with_a_loop(a, row, out):
    for y in range(a.shape[0]):
        for x in range(a.shape[1]):
            out[y, x] = a[y, x] + row[x]


def row_of_the_block_only(a, row, out):
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    if y < out.shape[0] and x < out.shape[1]:
        out[y, x] = a[y, x] + row[x]


def counts_numbers(addresses):
    return len(set(addresses))


def counts_bytes(addresses):
    return -(-4 * len(addresses) // 32)


def counts_the_span(addresses):
    return (max(addresses) - min(addresses)) // 32 + 1 if addresses else 0


def counts_from_the_first(addresses):
    return len({(a - min(addresses)) // 32 for a in addresses})


def counts_changes(addresses):
    sectors = [a // 32 for a in addresses]
    return sum(i == 0 or s != sectors[i - 1] for i, s in enumerate(sectors))


def row_that_adds_to_out(a, row, out):
    x, y = cuda.grid(2)
    if y < out.shape[0] and x < out.shape[1]:
        out[y, x] += a[y, x] + row[x]


def row_by_thread_zero(a, row, out):
    x, y = cuda.grid(2)
    if x == 0 and y == 0:
        for i in range(a.shape[0]):
            for j in range(a.shape[1]):
                out[i, j] = a[i, j] + row[j]


def row_with_the_width_of_the_block_for_y(a, row, out):
    x = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    y = cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.y
    if y < out.shape[0] and x < out.shape[1]:
        out[y, x] = a[y, x] + row[x]


def row_guarded_by_or(a, row, out):
    x, y = cuda.grid(2)
    if y < out.shape[0] or x < out.shape[1]:
        out[y, x] = a[y, x] + row[x]


def row_that_changes_a(a, row, out):
    x, y = cuda.grid(2)
    if y < out.shape[0] and x < out.shape[1]:
        a[y, x] += row[x]
        out[y, x] = a[y, x]


def fits_with_threads_for_warps(threads, registers, shared):
    return min(32, 2048 // threads, 65536 // (threads * registers), 233472 // (shared + 1024))


def fits_without_a_limit_of_blocks(threads, registers, shared):
    warps = -(-threads // 32)
    of_a_warp = -(-32 * registers // 256) * 256
    return min(64 // warps, 65536 // (warps * of_a_warp), 233472 // (shared + 1024))


def fits_without_portions(threads, registers, shared):
    warps = -(-threads // 32)
    return min(32, 64 // warps, 65536 // (warps * 32 * registers), 233472 // (shared + 1024))


def fits_without_the_system_s_share(threads, registers, shared):
    warps = -(-threads // 32)
    of_a_warp = -(-32 * registers // 256) * 256
    by_memory = 233472 // shared if shared else 32
    return min(32, 64 // warps, 65536 // (warps * of_a_warp), by_memory)


def fits_at_least_one(threads, registers, shared):
    warps = -(-threads // 32)
    of_a_warp = -(-32 * registers // 256) * 256
    by_registers = 65536 // (warps * of_a_warp)
    return max(1, min(32, 64 // warps, by_registers, 233472 // (shared + 1024)))


def fits_without_registers(threads, registers, shared):
    return min(32, 64 // -(-threads // 32), 233472 // (shared + 1024))


def fits_rounded_up(threads, registers, shared):
    warps = -(-threads // 32)
    of_a_warp = -(-32 * registers // 256) * 256
    return min(32, 64 // warps, -(-65536 // (warps * of_a_warp)), 233472 // (shared + 1024))


def transposes_plainly(source, target):
    pixel, c = 32 * cuda.blockIdx.x + cuda.threadIdx.x, 32 * cuda.blockIdx.y + cuda.threadIdx.y
    if pixel < target.shape[0] and c < target.shape[1]:
        target[pixel, c] = source[c, pixel]


def transposes_without_a_barrier(source, target):
    tile = cuda.shared.array((32, 32), np.float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    pixel, c = 32 * cuda.blockIdx.x + x, 32 * cuda.blockIdx.y + y
    if pixel < target.shape[0] and c < target.shape[1]:
        tile[y, x] = source[c, pixel]
    pixel, c = 32 * cuda.blockIdx.x + y, 32 * cuda.blockIdx.y + x
    if pixel < target.shape[0] and c < target.shape[1]:
        target[pixel, c] = tile[x, y]


def transposes_with_the_barrier_inside(source, target):
    tile = cuda.shared.array((32, 32), np.float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    pixel, c = 32 * cuda.blockIdx.x + x, 32 * cuda.blockIdx.y + y
    if pixel < target.shape[0] and c < target.shape[1]:
        tile[y, x] = source[c, pixel]
        cuda.syncthreads()
    pixel, c = 32 * cuda.blockIdx.x + y, 32 * cuda.blockIdx.y + x
    if pixel < target.shape[0] and c < target.shape[1]:
        target[pixel, c] = tile[x, y]


def transposes_when_it_writes(source, target):
    tile = cuda.shared.array((32, 32), np.float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    pixel, c = 32 * cuda.blockIdx.x + x, 32 * cuda.blockIdx.y + y
    if pixel < target.shape[0] and c < target.shape[1]:
        tile[y, x] = source[c, pixel]
    cuda.syncthreads()
    if pixel < target.shape[0] and c < target.shape[1]:
        target[pixel, c] = tile[y, x]


def transposes_without_a_guard(source, target):
    tile = cuda.shared.array((32, 32), np.float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    tile[y, x] = source[32 * cuda.blockIdx.y + y, 32 * cuda.blockIdx.x + x]
    cuda.syncthreads()
    target[32 * cuda.blockIdx.x + y, 32 * cuda.blockIdx.y + x] = tile[x, y]


def transposes_with_one_guard(source, target):
    tile = cuda.shared.array((32, 32), np.float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    pixel, c = 32 * cuda.blockIdx.x + x, 32 * cuda.blockIdx.y + y
    inside = pixel < target.shape[0] and c < target.shape[1]
    if inside:
        tile[y, x] = source[c, pixel]
    cuda.syncthreads()
    if inside:
        target[32 * cuda.blockIdx.x + y, 32 * cuda.blockIdx.y + x] = tile[x, y]


def highest_with_an_early_return(scores, out):
    shared = cuda.shared.array(256, np.float32)
    t, i = cuda.threadIdx.x, cuda.grid(1)
    if i >= scores.size:
        return
    shared[t] = scores[i]
    cuda.syncthreads()
    half = 128
    while half > 0:
        if t < half:
            shared[t] = max(shared[t], shared[t + half])
        cuda.syncthreads()
        half //= 2
    if t == 0:
        out[cuda.blockIdx.x] = shared[0]


def highest_without_barriers_between_rounds(scores, out):
    shared = cuda.shared.array(256, np.float32)
    t, i = cuda.threadIdx.x, cuda.grid(1)
    shared[t] = scores[i] if i < scores.size else -np.inf
    cuda.syncthreads()
    half = 128
    while half > 0:
        if t < half:
            shared[t] = max(shared[t], shared[t + half])
        half //= 2
    if t == 0:
        out[cuda.blockIdx.x] = shared[0]


def highest_with_zero_for_none(scores, out):
    shared = cuda.shared.array(256, np.float32)
    t, i = cuda.threadIdx.x, cuda.grid(1)
    shared[t] = scores[i] if i < scores.size else 0
    cuda.syncthreads()
    half = 128
    while half > 0:
        if t < half:
            shared[t] = max(shared[t], shared[t + half])
        cuda.syncthreads()
        half //= 2
    if t == 0:
        out[cuda.blockIdx.x] = shared[0]


def highest_that_skips_the_missing(scores, out):
    shared = cuda.shared.array(256, np.float32)
    t, i = cuda.threadIdx.x, cuda.grid(1)
    if i < scores.size:
        shared[t] = scores[i]
    cuda.syncthreads()
    half = 128
    while half > 0:
        if t < half:
            shared[t] = max(shared[t], shared[t + half])
        cuda.syncthreads()
        half //= 2
    if t == 0:
        out[cuda.blockIdx.x] = shared[0]


def highest_by_thread_zero(scores, out):
    if cuda.threadIdx.x == 0:
        best = -np.inf
        for k in range(256):
            i = 256 * cuda.blockIdx.x + k
            if i < scores.size:
                best = max(best, scores[i])
        out[cuda.blockIdx.x] = best


WRONG = {
    "check_add_row": {
        "no guard": (row_without_guard, "the number of rows, whatever"),
        "a guard one too wide": (row_with_a_guard_one_too_wide, "one less than the size"),
        "x along the rows": (row_with_x_and_y_swapped_in_the_guard, "let x be the last index"),
        "indices swapped": (row_with_swapped_indices, "has work, and it uses"),
        "keeps the loop": (row_with_a_loop, "Leave out any loop"),
        "the place in the block": (row_of_the_block_only, "not the one in its block"),
        "adds to out": (row_that_adds_to_out, "out held sevens"),
        "thread 0 does it all": (row_by_thread_zero, "1 threads did the work where 6"),
        "blockDim.x for y": (row_with_the_width_of_the_block_for_y, "nobody writes 3 of them"),
        "changes a": (row_that_changes_a, "changed its input"),
        "row[y]": (row_adds_the_wrong_one, "out[y, x] = a[y, x] + row[x], on"),
    },
    "check_count_sectors": {
        "counts numbers": (counts_numbers, "8 of 4 bytes lie in one"),
        "counts bytes": (counts_bytes, "no bytes are counted"),
        "counts the span": (counts_the_span, "is not fetched"),
        "sectors from the first address": (counts_from_the_first, "reach into a fifth sector"),
        "counts changes": (counts_changes, "met alternately"),
    },
    "check_blocks_that_fit": {
        "threads instead of warps": (fits_with_threads_for_warps, "72 threads fill three warps"),
        "no limit of blocks": (fits_without_a_limit_of_blocks, "at most 32 blocks fit"),
        "no portions": (fits_without_portions, "are handed out as 1,280"),
        "the system's share": (fits_without_the_system_s_share, "1,024 bytes more"),
        "at least one": (fits_at_least_one, "not even one block"),
        "no registers": (fits_without_registers, "use up all 65,536"),
    },
    "check_transpose": {
        "no tile": (transposes_plainly, "nothing went through shared memory"),
        "no barrier": (transposes_without_a_barrier, "before its owner has put it in"),
        "a barrier behind the guard": (transposes_with_the_barrier_inside, "wait at syncthreads()"),
        "turned over at the wrong place": (transposes_when_it_writes, "touches 32 sectors"),
        "no guard": (transposes_without_a_guard, "threads without a number"),
    },
    "check_highest": {
        "leaves before the barrier": (highest_with_an_early_return, "the others have ended"),
        "no barrier between rounds": (
            highest_without_barriers_between_rounds,
            "what the round before has written",
        ),
        "0 for no score": (highest_with_zero_for_none, "0 is no stand-in"),
        "nothing for no score": (highest_that_skips_the_missing, "that nobody has written yet"),
        "one thread does it all": (highest_by_thread_zero, "Compare in shared memory"),
    },
}

OTHER = {
    "check_add_row": [row_guarded_by_or],
    "check_blocks_that_fit": [fits_rounded_up],
    "check_transpose": [transposes_with_one_guard],
}

EQUIVALENT = {
    "check_blocks_that_fit": {
        "65537": "a prime: no number of registers divides it",
        "* 255": "warps × portions would have to be 257, a prime",
        "// 257": "differs from 256 beyond 255 registers only",
    },
    "check_transpose": {
        "(32, 33)": "longer rows: section 7 ends with them",
        "(33, 32)": "a row that nobody uses",
    },
    "check_highest": {
        "t == 1": "after the barrier any one thread may write",
        "array(257": "a place that nobody uses",
    },
}
