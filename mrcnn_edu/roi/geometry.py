"""One axis of a RoI: where its bins start, where the samples lie, which pixels they read.

RoIPool, RoIWarp and RoIAlign are separable: what they do to x they do to y. So all of their
geometry is one-dimensional, and this is all of it, written once for both machines:
`geometry(njit(...))` compiles it for the CPU (`cpu.taps`), `geometry(cuda.jit(device=True, ...))`
for a GPU (`cuda.device`). Fast R-CNN §2.1, Mask R-CNN §3; Chapters 05 to 07.

`real` is the floating type of the boxes, in which everything is computed, in torchvision's order
of operations: a sample on the very edge of the map (coordinate −1 or H) is in or out in the same
cases as there. The compiler must not fuse a product with a sum (`fastmath=False`): that rounds
once where torchvision rounds twice.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

# From here on every floating-point number is whole, and it may be too large for an integer.
WHOLE = 2**52


class Geometry(NamedTuple):
    """The compiled functions; kernels call them by these names."""

    round_half_away: Any
    interval: Any
    sample: Any
    sample_position: Any
    pool_interval: Any
    pool_bin: Any


def geometry(compiled: Callable[[Callable[..., Any]], Any]) -> Geometry:
    """Compile each function with `compiled`; `geometry(lambda f: f)` leaves them plain Python."""

    @compiled
    def round_half_away(value, real):  # type: ignore[no-untyped-def]
        """C's `round`: to the nearest integer, halves away from zero (−2.5 → −3)."""
        size = abs(value)
        whole = real(math.floor(size)) if size < real(WHOLE) else size
        if size - whole >= real(0.5):
            whole += real(1)
        return whole if value >= real(0) else -whole

    @compiled
    def interval(low, high, scale, aligned, rounded, bins, sampling, real):  # type: ignore[no-untyped-def]
        """Place one side of a box on the map: (start, size of a bin, samples a bin).

        `low`, `high` are image coordinates, `scale` is 1 / stride. With `aligned` the map's pixel
        centres lie at half integers, so half a pixel is subtracted and the length is kept as it
        is; without it the length is at least one pixel. `rounded` rounds both ends first: that is
        RoIWarp. `sampling` of 0 or less takes a sample a map pixel.
        """
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

    @compiled
    def sample(position, length, real):  # type: ignore[no-untyped-def]
        """Pixels and weight of a sample at `position` on an axis of `length` pixels.

        Returns (pixel, next pixel, weight of the next); the first has the rest, 1 − weight. More
        than one pixel outside the map there is nothing to read: pixel is −1. Within one pixel of
        the border the border's value continues outwards.
        """
        if not (position >= real(-1) and position <= real(length)):
            return -1, -1, real(0)
        position = max(position, real(0))
        pixel = int(position)
        if pixel >= length - 1:
            return length - 1, length - 1, real(0)
        return pixel, pixel + 1, position - real(pixel)

    @compiled
    def sample_position(start, bin_size, samples, p, s, real):  # type: ignore[no-untyped-def]
        """Coordinate of sample `s` of bin `p`: the middles of equal parts of the bin."""
        return start + real(p) * bin_size + (real(s) + real(0.5)) * bin_size / real(samples)

    @compiled
    def pool_interval(low, high, scale, bins, real):  # type: ignore[no-untyped-def]
        """RoIPool's first pixel and bin size: both ends rounded, the last pixel included."""
        start = int(round_half_away(low * scale, real))
        end = int(round_half_away(high * scale, real))
        return start, real(max(end - start + 1, 1)) / real(bins)

    @compiled
    def pool_bin(start, bin_size, p, length, real):  # type: ignore[no-untyped-def]
        """RoIPool's pixels [begin, end) of bin p, cut to the map."""
        begin = start + math.floor(real(p) * bin_size)
        end = start + math.ceil(real(p + 1) * bin_size)
        return min(max(begin, 0), length), min(max(end, 0), length)

    return Geometry(round_half_away, interval, sample, sample_position, pool_interval, pool_bin)
