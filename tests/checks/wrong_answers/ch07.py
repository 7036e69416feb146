"""Wrong answers to the exercises of chapter 07: {check: {what is wrong: (answer, message)}}."""

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


def pool_assigns(gradient, argmax, out):
    c, b = cuda.grid(2)
    if b < gradient.shape[0] and c < gradient.shape[1] and argmax[b, c] >= 0:
        out[argmax[b, c], c] = gradient[b, c]


def pool_with_a_loop(gradient, argmax, out):
    c = cuda.grid(1)
    if c < gradient.shape[1]:
        for b in range(gradient.shape[0]):
            if argmax[b, c] >= 0:
                cuda.atomic.add(out, (argmax[b, c], c), gradient[b, c])


def pool_with_x_over_bins(gradient, argmax, out):
    b, c = cuda.grid(2)
    if b < gradient.shape[0] and c < gradient.shape[1] and argmax[b, c] >= 0:
        cuda.atomic.add(out, (argmax[b, c], c), gradient[b, c])


def pool_races(gradient, argmax, out):
    c, b = cuda.grid(2)
    if b < gradient.shape[0] and c < gradient.shape[1] and argmax[b, c] >= 0:
        out[argmax[b, c], c] += gradient[b, c]


def pool_forgets_empty_bins(gradient, argmax, out):
    c, b = cuda.grid(2)
    if b < gradient.shape[0] and c < gradient.shape[1]:
        cuda.atomic.add(out, (argmax[b, c], c), gradient[b, c])


def pool_without_guard(gradient, argmax, out):
    c, b = cuda.grid(2)
    if argmax[b, c] >= 0:
        cuda.atomic.add(out, (argmax[b, c], c), gradient[b, c])


def scatters(gradient, weight, out):
    b = cuda.grid(1)
    if b < gradient.size:
        for i in range(out.size):
            cuda.atomic.add(out, i, weight[b, i] * gradient[b])


def scatters_plainly(gradient, weight, out):
    b = cuda.grid(1)
    if b < gradient.size:
        for i in range(out.size):
            out[i] += weight[b, i] * gradient[b]


def transposes(gradient, weight, out):
    i = cuda.grid(1)
    if i < out.size:
        total = 0.0
        for b in range(gradient.size):
            total += weight[i, b] * gradient[b]
        out[i] = total


def adds_to_what_was_there(gradient, weight, out):
    i = cuda.grid(1)
    if i < out.size:
        for b in range(gradient.size):
            out[i] += weight[b, i] * gradient[b]


def gathers_without_guard(gradient, weight, out):
    i = cuda.grid(1)
    total = 0.0
    for b in range(gradient.size):
        total += weight[b, i] * gradient[b]
    out[i] = total


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


def pool_by_thread_zero(gradient, argmax, out):
    c, b = cuda.grid(2)
    if c == 0 and b == 0:
        for i in range(gradient.shape[0]):
            for j in range(gradient.shape[1]):
                if argmax[i, j] >= 0:
                    cuda.atomic.add(out, (argmax[i, j], j), gradient[i, j])


def pool_by_one_thread_a_channel(gradient, argmax, out):
    c, b = cuda.grid(2)
    if c < gradient.shape[1] and b == 0:
        for i in range(gradient.shape[0]):
            if argmax[i, c] >= 0:
                cuda.atomic.add(out, (argmax[i, c], c), gradient[i, c])


def pool_without_channel(gradient, argmax, out):
    c, b = cuda.grid(2)
    if b < gradient.shape[0] and c < gradient.shape[1] and argmax[b, c] >= 0:
        cuda.atomic.add(out, argmax[b, c], gradient[b, c])


def pool_zero_forgotten(gradient, argmax, out):
    c, b = cuda.grid(2)
    if b < gradient.shape[0] and c < gradient.shape[1] and argmax[b, c] > 0:
        cuda.atomic.add(out, (argmax[b, c], c), gradient[b, c])


def gathers_by_thread_zero(gradient, weight, out):
    if cuda.grid(1) == 0:
        for i in range(out.size):
            total = 0.0
            for b in range(gradient.size):
                total += weight[b, i] * gradient[b]
            out[i] = total


def gathers_with_a_generator(gradient, weight, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = sum(weight[b, i] * gradient[b] for b in range(gradient.size))


def zeroes_then_adds(gradient, weight, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = 0.0
        for b in range(gradient.size):
            out[i] += weight[b, i] * gradient[b]


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
    "check_pool_scatter": {
        "assigns": (pool_assigns, "Add, do not assign"),
        "keeps a loop": (pool_with_a_loop, "your threads add 8 times"),
        "x over bins": (pool_with_x_over_bins, "x runs over channels"),
        "thread 0 does it all": (pool_by_thread_zero, "1 threads did the work where 4"),
        "a thread for each channel": (pool_by_one_thread_a_channel, "2 threads did the work"),
        "no channel": (pool_without_channel, "out has 2 indices"),
        "pixel 0 forgotten": (pool_zero_forgotten, "only −1 is none"),
        "races": (pool_races, "use cuda.atomic.add"),
        "forgets empty bins": (pool_forgets_empty_bins, "As an index, −1"),
        "no guard": (pool_without_guard, "guard both"),
    },
    "check_gather": {
        "scatters atomically": (scatters, "let it ask all bins"),
        "scatters plainly": (scatters_plainly, "not one a bin"),
        "transposes the matrix": (transposes, "weight[b, i]."),
        "thread 0 does it all": (gathers_by_thread_zero, "1 threads did the work where 3"),
        "a generator": (gathers_with_a_generator, "no generators"),
        "zeroes, then adds": (zeroes_then_adds, "once is enough"),
        "adds to what was there": (adds_to_what_was_there, "not zeroed"),
        "no guard": (gathers_without_guard, "where is the guard?"),
    },
}

OTHER = {"check_add_row": [row_guarded_by_or]}
