"""The tracer of GPU kernels: right values, and every access told, without a GPU."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrcnn_edu.pictures.threads import blocks_that_fit, trace
from mrcnn_edu.pictures.threads.ptx import ptx_of
from mrcnn_edu.roi import reference

cuda = pytest.importorskip("numba.cuda")


def double(a, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = 2 * a[i]


def without_guard(a, out):
    i = cuda.grid(1)
    out[i] = 2 * a[i]


def plain_sum(a, out):
    out[0] += a[cuda.grid(1)]


def atomic_sum(a, out):
    cuda.atomic.add(out, 0, a[cuda.grid(1)])


@given(n=st.integers(1, 70), threads=st.integers(1, 40))
def test_a_guarded_kernel_does_its_work_and_stays_inside(n, threads):
    a, out = np.arange(float(n)), np.full(n, np.nan)
    found = trace(double, -(-n // threads), threads, a, out)
    assert np.array_equal(out, 2 * a)
    assert len(found.threads) == -(-n // threads) * threads
    assert not found.outside()
    assert not found.races()
    assert [(x.kind, x.index) for x in found.accesses if x.array == "out"] == [
        ("write", (i,)) for i in range(n)
    ]


def test_what_lies_outside_is_told_and_changes_nothing():
    a, out = np.arange(10.0), np.zeros(10)
    found = trace(without_guard, 3, 4, a, out)
    told = [(x.kind, x.array, x.index, x.block[0], x.lane) for x in found.outside()]
    assert told == [
        ("read", "a", (10,), 2, 2), ("write", "out", (10,), 2, 2),
        ("read", "a", (11,), 2, 3), ("write", "out", (11,), 2, 3),
    ]  # fmt: skip
    assert np.array_equal(out, 2 * a)
    assert found.lines()[-1] == "block 2 thread 3: reads a[11!], writes out[11!]"


def test_plain_additions_race_and_atomic_ones_do_not():
    a = np.arange(8.0)
    for kernel, races in ((plain_sum, {("out", (0,)): 8}), (atomic_sum, {})):
        out = np.zeros(1)
        found = trace(kernel, 2, 4, a, out)
        assert found.races() == races
        assert out[0] == 28


def copy_columns(source, target):
    x, y = cuda.grid(2)
    if y < target.shape[0] and x < target.shape[1]:
        target[y, x] = source[y, x]


def test_sectors_follow_the_strides():
    numbers = np.arange(32 * 64, dtype=np.float32).reshape(32, 64)
    for source, sectors in ((numbers, 4), (np.asfortranarray(numbers), 32)):
        found = trace(copy_columns, (2, 32), (32, 1), source, np.empty_like(numbers))
        assert found.sectors("source") == [sectors] * 64
        assert found.sectors("target", "write") == [4] * 64
    half = numbers.astype(np.float16)
    assert set(trace(copy_columns, (2, 32), (32, 1), half, half).sectors("source")) == {2}


def rows(a, out):
    row = a[cuda.blockIdx.x]
    out[cuda.blockIdx.x, cuda.threadIdx.x] = row[cuda.threadIdx.x] + len(row)


def test_rows_of_an_array_and_negative_indices():
    a = np.arange(6.0).reshape(2, 3)
    out = np.zeros((2, 3))
    found = trace(rows, 2, 3, a, out)
    assert np.array_equal(out, a + 3)
    assert found.accesses[-2].index == (1, 2)
    assert found.accesses[-2].address == 40

    def last(a, out):
        out[-1] = a[-6 + 5]

    target = np.zeros(4)
    assert trace(last, 1, 1, np.arange(6.0), target).accesses[-1].index == (3,)
    assert target[3] == 5


def test_the_library_s_kernels_are_traced_with_their_device_functions():
    cuda_mean = pytest.importorskip("mrcnn_edu.roi.cuda.mean")
    rng = np.random.default_rng(0)
    feature = rng.standard_normal((3, 5, 6))
    rois = np.array([[0, 1.0, 2.0, 9.0, 8.0]])
    out = np.full((1, 4, 3), np.nan)
    tail = (6, rois, np.zeros(1, np.int64), 0, 0.5, True, False, 2, 2, True)
    flat = feature.reshape(1, 3, 30).transpose(0, 2, 1)
    found = trace(cuda_mean.forward, (1, 2, 1), (4, 2), flat, *tail, out)
    wanted = reference.sampled_forward(feature, rois[0, 1:], (2, 2), 0.5, 2, True)
    np.testing.assert_allclose(out[0].T.reshape(3, 2, 2), wanted, atol=1e-12)
    assert not found.outside()
    assert not found.races()
    gradient, total = np.ones((1, 4, 3)), np.zeros((1, 30, 3))
    found = trace(cuda_mean.backward, (1, 2, 1), (4, 2), gradient, *tail, total)
    assert not found.races()
    wanted = reference.sampled_backward(
        np.ones((3, 2, 2)), feature, rois[0, 1:], (2, 2), 0.5, 2, True
    )
    np.testing.assert_allclose(total[0].T.reshape(3, 5, 6), wanted, atol=1e-12)


def votes(a):
    a[0] = cuda.ballot_sync(1, 1)


def barrier_behind_a_guard(a):
    i = cuda.grid(1)
    if i < a.size:
        cuda.syncthreads()
        a[i] = 1


def test_what_cannot_be_traced_is_refused_with_a_reason():
    with pytest.raises(ValueError, match=r"cuda.ballot_sync cannot be traced"):
        trace(votes, 1, 1, np.zeros(1))
    with pytest.raises(ValueError, match=r"3 of 4 threads of a block wait at syncthreads"):
        trace(barrier_behind_a_guard, 1, 4, np.zeros(3))
    with pytest.raises(TypeError, match="not a kernel"):
        trace(len, 1, 1, np.zeros(1))


def whole_row(a):
    a[0] = 1


def slices(a):
    a[:, 0] = 1


def arithmetic(a):
    a[0, 0] = (a[0] + a[1])[0]


def atomic_row(a):
    cuda.atomic.add(a, cuda.grid(1), 1.0)


def three_indices(a):
    a[0, 0, 0] = 1.0


@pytest.mark.parametrize("kernel", [whole_row, slices, arithmetic, atomic_row, three_indices])
def test_a_thread_computes_with_numbers_and_is_told_so(kernel):
    with pytest.raises(TypeError, match=r"a has 2 indices|with a slice|is an array"):
        trace(kernel, 1, 1, np.zeros((2, 2)))


def test_in_step_unprotected_additions_are_lost():
    for kernel, wanted in ((plain_sum, 3.0), (atomic_sum, 6.0)):
        out = np.zeros(1)
        trace(kernel, 1, 4, np.arange(4.0), out, in_step=True)
        assert out[0] == wanted  # plainly the last thread's alone is left
    out = np.zeros(1)
    with pytest.raises(IndexError):
        trace(two_indices, 1, 4, np.arange(4.0), out, in_step=True)


def two_indices(a, out):
    out[0] = a[cuda.grid(1)]
    raise IndexError


TILE, WIDE = 8, 9


def reversed_by_tiles(a, out):
    tile = cuda.shared.array(TILE, np.float64)
    i = cuda.threadIdx.x
    tile[i] = a[cuda.grid(1)]
    cuda.syncthreads()
    out[cuda.grid(1)] = tile[cuda.blockDim.x - 1 - i]


def without_a_barrier(a, out):
    tile = cuda.shared.array(TILE, np.float64)
    i = cuda.threadIdx.x
    tile[i] = a[cuda.grid(1)]
    out[cuda.grid(1)] = tile[cuda.blockDim.x - 1 - i]


@given(blocks=st.integers(1, 4), threads=st.integers(1, TILE))
def test_threads_of_a_block_wait_for_each_other_and_share_memory(blocks, threads):
    a, out = np.arange(float(blocks * threads)), np.full(blocks * threads, np.nan)
    found = trace(reversed_by_tiles, blocks, threads, a, out)
    assert np.array_equal(out, a.reshape(blocks, threads)[:, ::-1].ravel())
    assert found.sizes["shared"] == TILE
    trace(without_a_barrier, 1, TILE, np.arange(8.0), out := np.zeros(8))
    assert np.isnan(out).sum() == 4  # read before anybody wrote


def through_a_tile(a, out, width):
    tile = cuda.shared.array((32, 33), np.float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    if width == 33:
        tile[y, x] = a[y, x]
        cuda.syncthreads()
        out[y, x] = tile[x, y]
    else:
        out[y, x] = a[x, y]


def test_lanes_and_conflicts_of_a_request():
    a = np.arange(32 * 32, dtype=np.float32).reshape(32, 32)
    found = trace(through_a_tile, 1, (32, 32), a, np.zeros_like(a), 33)
    assert set(found.conflicts("shared")) == set(found.conflicts("shared", "write")) == {1}
    found = trace(through_a_tile, 1, (32, 32), a, np.zeros_like(a), 32)
    assert set(found.conflicts("a")) == {32}  # what 32 words of one bank would cost
    work = np.array([3, 1, 0, 2] * 8)
    found = trace(as_much_work_as_told, 1, 32, work, np.zeros(32))
    assert found.lanes("work", "read")[0] == 32
    assert sorted(found.lanes("out", "write"), reverse=True) == [24, 16, 8]


def as_much_work_as_told(work, out):
    i = cuda.grid(1)
    for _ in range(work[i]):
        out[i] = 1


def for_ever(a):
    while a[0] >= 0:
        cuda.syncthreads()


def test_a_loop_that_does_not_end_is_told():
    with pytest.raises(ValueError, match="does a loop not end"):
        trace(for_ever, 1, 2, np.zeros(1))


def test_what_nobody_wrote_is_told():
    assert (
        len(trace(without_a_barrier, 1, TILE, np.arange(8.0), np.zeros(8)).unwritten("shared")) == 4
    )
    assert not trace(reversed_by_tiles, 1, TILE, np.arange(8.0), np.zeros(8)).unwritten("shared")


def test_blocks_that_fit_a_multiprocessor():
    # 32 threads, 8 registers and 12 KB a block: 17, by NVIDIA's rules for capability 9.0.
    assert blocks_that_fit(32, 8, 12 * 1024) == 17
    assert [blocks_that_fit(256, r, 0) for r in (32, 64, 128, 255)] == [8, 4, 2, 1]


def twice(a, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = 2 * a[i]


def pairs_of_two_types(a, out):
    for row, weight in ((0, 1 - a[0]), (1, a[0])):
        out[row] = weight


def test_ptx_without_a_gpu():
    assert ".target sm_90" in ptx_of(twice, "void(float32[:], float32[:])")
    with pytest.raises(ValueError, match=r"pairs_of_two_types for .* does not compile"):
        ptx_of(pairs_of_two_types, "void(float32[:], float32[:])")
