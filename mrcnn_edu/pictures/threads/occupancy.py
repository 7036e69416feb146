"""How many blocks of a kernel a multiprocessor holds at once.

The limits are those of compute capability 9.0 (H100, H200), from the table "Compute Capabilities"
of NVIDIA's CUDA C++ Programming Guide. Chapter 07a.
"""

WARP = 32
WARPS, BLOCKS = 64, 32  # of a multiprocessor
REGISTERS, PORTION = 65_536, 256  # of 32 bits; what a warp gets is a multiple of a portion
SHARED, RESERVED = 228 * 1024, 1024  # bytes; what the system keeps of each block's


def blocks_that_fit(threads: int, registers: int, shared: int) -> int:
    """Blocks of a kernel on one multiprocessor; 0 if not even one fits.

    Args:
        threads: of a block, 1 to 1024.
        registers: of a thread, of 32 bits.
        shared: bytes of shared memory that a block asks for.
    """
    warps = -(-threads // WARP)
    of_a_warp = -(-WARP * registers // PORTION) * PORTION
    limits = (WARPS // warps, REGISTERS // (warps * of_a_warp), SHARED // (shared + RESERVED))
    return min(BLOCKS, *limits)
