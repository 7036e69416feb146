"""Device functions of the GPU kernels: one axis of a RoI, and reading a feature.

The same geometry as `axis`, in the same order of operations, for a GPU thread: the interval of a
box on the map, the position of a sample, the two pixels it reads. `real` is the floating type of
the boxes, in which everything is computed: float32, or float64 for float64 features. Chapter 07.

These functions and the kernels that use them run unchanged in Numba's simulator, where
`NUMBA_ENABLE_CUDASIM=1` is set before numba is imported.
"""

import math

import numpy as np
from numba import cuda

device = cuda.jit(device=True, fastmath=False)


@device
def widen(value, real):  # type: ignore[no-untyped-def]
    """A float16, float32 or float64 feature in the computing type."""
    return real(value)


@device
def widen_bfloat16(bits, real):  # type: ignore[no-untyped-def]
    """A bfloat16, given as its 16 bits: they are the upper half of a float32."""
    return real(np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32))


@device
def round_half_away(value, real):  # type: ignore[no-untyped-def]
    """C's `round`: to the nearest integer, halves away from zero (−2.5 → −3)."""
    size = abs(value)
    whole = real(math.floor(size))
    if size - whole >= real(0.5):
        whole += real(1)
    return whole if value >= real(0) else -whole


@device
def interval(low, high, scale, aligned, rounded, bins, sampling, real):  # type: ignore[no-untyped-def]
    """(start, bin size, samples a bin) of one side of a box on the map; see `axis.interval`."""
    offset = real(0.5) if aligned else real(0)
    start = low * scale - offset
    end = high * scale - offset
    if rounded:
        start = round_half_away(start, real)
        end = round_half_away(end, real)
    length = end - start
    if not aligned:
        length = max(length, real(1))
    bin_size = length / real(bins)
    samples = sampling if sampling > 0 else math.ceil(bin_size)
    return start, bin_size, samples


@device
def sample(position, length, real):  # type: ignore[no-untyped-def]
    """(pixel, next pixel, weight of the next) at `position`; pixel −1 far outside the map."""
    if not (position >= real(-1) and position <= real(length)):
        return -1, -1, real(0)
    position = max(position, real(0))
    pixel = int(position)
    if pixel >= length - 1:
        return length - 1, length - 1, real(0)
    return pixel, pixel + 1, position - real(pixel)


@device
def sample_position(start, bin_size, samples, p, s, real):  # type: ignore[no-untyped-def]
    """Coordinate of sample `s` of bin `p`: the middles of equal parts of the bin."""
    return start + real(p) * bin_size + (real(s) + real(0.5)) * bin_size / real(samples)


@device
def pixel_weight(start, bin_size, samples, p, pixel, length, real):  # type: ignore[no-untyped-def]
    """Weight with which bin p reads `pixel` of an axis: an entry of Wy or Wx."""
    total = real(0)
    for s in range(samples):
        position = sample_position(start, bin_size, samples, p, s, real)
        here, after, part = sample(position, length, real)
        if here == pixel:
            total += real(1) - part
        if after == pixel:
            total += part
    return total / real(max(samples, 1))


@device
def pool_interval(low, high, scale, bins, real):  # type: ignore[no-untyped-def]
    """First pixel and bin size of one side of a box in RoIPool; see `cpu_max`."""
    start = int(round_half_away(low * scale, real))
    end = int(round_half_away(high * scale, real))
    return start, real(max(end - start + 1, 1)) / real(bins)


@device
def pool_bin(start, bin_size, p, length, real):  # type: ignore[no-untyped-def]
    """Pixels [begin, end) of bin p in RoIPool, cut to the map."""
    begin = start + math.floor(real(p) * bin_size)
    end = start + math.ceil(real(p + 1) * bin_size)
    return min(max(begin, 0), length), min(max(end, 0), length)


@device
def my_output(channels_last):  # type: ignore[no-untyped-def]
    """(r, bin, channel) of this thread: x runs over what lies next to each other in memory."""
    slow = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
    fast = cuda.blockIdx.z * cuda.blockDim.x + cuda.threadIdx.x
    if channels_last:
        return cuda.blockIdx.x, slow, fast
    return cuda.blockIdx.x, fast, slow
