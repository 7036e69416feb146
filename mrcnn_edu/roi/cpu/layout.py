"""Change of memory layout on CPU: channels first to channels last and back.

In: [A, I, J], contiguous. Out: the same numbers as [A, J, I], contiguous: with I channels and J
pixels that is channels first to channels last, and with I pixels and J channels the way back. It
goes tile by tile, so that what is read in one order and written in the other stays in the cache
meanwhile; torch's general strided copy does not, and takes several times as long. Chapter 06.
"""

from mrcnn_edu.kernels.compiled import kernel
from mrcnn_edu.roi.cpu.taps import index

TILE = 16  # numbers of float32 in a cache line


@kernel(fastmath=False)
def transpose(source, target, first, step):  # type: ignore[no-untyped-def]
    """Write `target[a, j, i] = source[a, i, j]`. Threads own runs of 16 rows of the target."""
    count, rows, columns = source.shape
    strips = (columns + TILE - 1) // TILE
    for strip in range(first, count * strips, step):
        a = index(strip // strips)
        left = strip % strips * TILE
        right = min(left + TILE, columns)
        for top in range(0, rows, TILE):
            bottom = min(top + TILE, rows)
            for j in range(index(left), index(right)):
                for i in range(index(top), index(bottom)):
                    target[a, j, i] = source[a, i, j]
