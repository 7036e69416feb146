"""One geometry: compiled or not, the same bits on 200,000 intervals, and torchvision's edges."""

import numpy as np
import pytest
from numba import njit

from mrcnn_edu.roi import reference
from mrcnn_edu.roi.cpu import taps
from mrcnn_edu.roi.geometry import geometry

PLAIN = geometry(lambda function: function)
LENGTH, BINS = 25, 7
COUNT = 100_000  # for each type


def one_side(low, high, scale, aligned, rounded, sampling, p, s, real, functions):
    """All that is computed for one side of a box: ten numbers."""
    _, interval, sample, sample_position, pool_interval, pool_bin = functions
    start, bin_size, samples = interval(low, high, scale, aligned, rounded, BINS, sampling, real)
    position = sample_position(start, bin_size, max(samples, 1), p, s, real)
    here, after, part = sample(position, LENGTH, real)
    first, width = pool_interval(low, high, scale, BINS, real)
    begin, end = pool_bin(first, width, p, LENGTH, real)
    return start, bin_size, samples, position, here, after, part, width, begin, end


@njit(fastmath={"contract"})
def many_sides(low, high, scale, aligned, rounded, sampling, p, s, out):
    """The same, inlined into a caller that may fuse: the geometry must not."""
    real = low.dtype.type
    for i in range(low.size):
        start, bin_size, samples = taps.interval(
            low[i], high[i], scale, aligned[i], rounded[i], BINS, sampling[i], real
        )
        position = taps.sample_position(start, bin_size, max(samples, 1), p[i], s[i], real)
        here, after, part = taps.sample(position, LENGTH, real)
        first, width = taps.pool_interval(low[i], high[i], scale, BINS, real)
        begin, end = taps.pool_bin(first, width, p[i], LENGTH, real)
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = start, bin_size, samples, position
        out[i, 4], out[i, 5], out[i, 6] = here, after, part
        out[i, 7], out[i, 8], out[i, 9] = width, begin, end


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_compiled_and_plain_agree_in_every_bit(real):
    """Boxes of any size, inside, outside and reversed; a third of them on eighths of a pixel."""
    rng = np.random.default_rng(0)
    low = rng.uniform(-60, 160, COUNT)
    high = low + rng.uniform(-20, 200, COUNT)
    low[::3], high[::3] = np.round(low[::3] * 8) / 8, np.round(high[::3] * 8) / 8
    low, high, scale = low.astype(real), high.astype(real), real(0.23)
    aligned, rounded = rng.random((2, COUNT)) < 0.5
    sampling, p = rng.integers(0, 4, COUNT), rng.integers(0, BINS, COUNT)
    s = rng.integers(0, np.maximum(sampling, 1))
    found = np.empty((COUNT, 10), real)
    many_sides(low, high, scale, aligned, rounded, sampling, p, s, found)
    plain = [
        one_side(*side, real, PLAIN)
        for side in zip(
            low, high, [scale] * COUNT, aligned, rounded, sampling.tolist(), p.tolist(),
            s.tolist(), strict=True,
        )
    ]  # fmt: skip
    assert np.array_equal(found, np.array(plain, real))
    assert {-1, 0, LENGTH - 1} <= set(found[:, 4].astype(int))  # outside, first, last pixel


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_rounding_is_that_of_c(real):
    """Halves away from zero, also next to a half, and numbers too large for an integer."""
    half = [k / 2 for k in range(-30, 31)]
    near = [float(np.nextafter(real(v), real(d))) for v in half for d in (-99, 99)]
    for value in half + near:
        assert taps.round_half_away(real(value), real) == reference.round_half_away(value)
    for large in (real(2) ** 23 + 1, real(2) ** 60, real(1e30), real(-1e30)):
        assert taps.round_half_away(large, real) == large
