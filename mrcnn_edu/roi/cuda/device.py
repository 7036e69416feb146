"""Device functions of the GPU kernels: reading a feature, a thread's output, a pixel's weight.

The geometry is that of the CPU (`roi.geometry`), compiled for a GPU thread. `real` is the
floating type of the boxes, in which everything is computed: float32, or float64 for float64
features. Chapter 07b.

These functions and the kernels that use them run unchanged in Numba's simulator, where
`NUMBA_ENABLE_CUDASIM=1` is set before numba is imported.
"""

import numpy as np
from numba import cuda

from mrcnn_edu.roi.geometry import geometry

device = cuda.jit(device=True, fastmath=False)

round_half_away, interval, sample, sample_position, pool_interval, pool_bin = geometry(device)


@device
def widen(value, real):  # type: ignore[no-untyped-def]
    """A float16, float32 or float64 feature in the computing type."""
    return real(value)


@device
def widen_bfloat16(bits, real):  # type: ignore[no-untyped-def]
    """A bfloat16, given as its 16 bits: they are the upper half of a float32."""
    return real(np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32))


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
def my_output(channels_last):  # type: ignore[no-untyped-def]
    """(r, bin, channel) of this thread: x runs over what lies next to each other in memory."""
    slow = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
    fast = cuda.blockIdx.z * cuda.blockDim.x + cuda.threadIdx.x
    if channels_last:
        return cuda.blockIdx.x, slow, fast
    return cuda.blockIdx.x, fast, slow
