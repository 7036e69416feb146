"""The taps of one axis of a RoI: which pixels each of its bins reads, with which weights.

RoIAlign (Mask R-CNN §3) is separable. For one RoI and one channel it is `out = Wy · F · Wxᵀ`: a
matrix of interpolation weights for the rows, one for the columns, and the map between them. A
matrix is kept as *taps*, the entries that are not zero. Samples of one bin that fall between the
same two pixels share their taps, so a large box needs no more multiplications than it covers
pixels.

Compiled by Numba; used by the kernels of `mean`. Chapter 05 derives it, Chapter 06 times it.
"""

import numpy as np
from numba import njit

from mrcnn_edu.roi.geometry import geometry

# fastmath is said, or a function would take it from the kernel that happens to compile it first.
scalar = njit(nogil=True, error_model="numpy", fastmath=False)

round_half_away, interval, sample, sample_position, pool_interval, pool_bin = geometry(scalar)

# Numba lets a signed index be negative (counted from the end) and tests every one, which costs
# the inner loops their vector instructions: ×7. Unsigned indices have no such test.
index = np.uint64


@scalar
def tap_capacity(sampling, length):  # type: ignore[no-untyped-def]
    """Most taps a bin can have: two a sample, or (adaptive) the whole axis."""
    return 2 * sampling if sampling > 0 else length + 1


@scalar
def find_taps(start, bin_size, samples, length, pixel, weight, count):  # type: ignore[no-untyped-def]
    """Fill `pixel` [P, T], `weight` [P, T] and `count` [P]: the taps of each of the P bins.

    Weights include the 1 / samples of the mean. Row p of the matrix Wy (or Wx) holds
    `weight[p, k]` at column `pixel[p, k]`, k < `count[p]`, and zeros elsewhere.
    """
    real = weight.dtype.type
    for p in range(count.size):
        taps = 0
        for s in range(samples):
            here, after, part = sample(
                sample_position(start, bin_size, samples, p, s, real), length, real
            )
            if here < 0:
                continue
            part_here = (real(1) - part) / real(samples)
            part_after = part / real(samples)
            # Samples walk to the right, so a pixel met before is the last tap or the one before.
            if taps > 1 and pixel[p, taps - 2] == here and pixel[p, taps - 1] == after:
                weight[p, taps - 2] += part_here
                weight[p, taps - 1] += part_after
                continue
            if taps > 0 and pixel[p, taps - 1] == here:
                weight[p, taps - 1] += part_here
            else:
                pixel[p, taps] = here
                weight[p, taps] = part_here
                taps += 1
            if after != here:
                pixel[p, taps] = after
                weight[p, taps] = part_after
                taps += 1
        count[p] = taps


@scalar
def new_taps(bins, sampling, length, real):  # type: ignore[no-untyped-def]
    """Room for the taps of P bins: pixel [P, T], weight [P, T], count [P]."""
    capacity = tap_capacity(sampling, length)
    return (
        np.empty((bins, capacity), np.int64),
        np.empty((bins, capacity), real),
        np.empty(bins, np.int64),
    )


@scalar
def new_transpose(length, bins, real):  # type: ignore[no-untyped-def]
    """Room for the bins that read each pixel of an axis: bin [L, P], weight [L, P], count [L]."""
    return (
        np.empty((length, bins), np.int64),
        np.empty((length, bins), real),
        np.empty(length, np.int64),
    )


@scalar
def number_pixels(pixel, count, slot, distinct):  # type: ignore[no-untyped-def]
    """Number the distinct pixels of all bins in order of first appearance.

    `slot` [length] must hold −1 everywhere and maps a pixel to its number afterwards; `distinct`
    lists the pixels. Returns how many there are. `forget_pixels` makes `slot` −1 again.
    """
    found = 0
    for p in range(count.size):
        for k in range(count[p]):
            if slot[pixel[p, k]] < 0:
                slot[pixel[p, k]] = found
                distinct[found] = pixel[p, k]
                found += 1
    return found


@scalar
def forget_pixels(slot, distinct, found):  # type: ignore[no-untyped-def]
    """Undo `number_pixels` in time proportional to what it found."""
    for j in range(found):
        slot[distinct[j]] = -1


@scalar
def transpose_taps(pixel, weight, count, slot, found, bin_of, weight_of, count_of):  # type: ignore[no-untyped-def]
    """The same weights by pixel: which bins read distinct pixel j, and with which weight.

    Fills `bin_of` [J, P], `weight_of` [J, P], `count_of` [J]: the transposed matrix, which is
    what a gradient needs.
    """
    count_of[:found] = 0
    for p in range(count.size):
        for k in range(count[p]):
            j = slot[pixel[p, k]]
            last = count_of[j] - 1
            # A reversed box lists a pixel twice when its samples walk back over it.
            if last >= 0 and bin_of[j, last] == p:
                weight_of[j, last] += weight[p, k]
            else:
                bin_of[j, last + 1] = p
                weight_of[j, last + 1] = weight[p, k]
                count_of[j] += 1
