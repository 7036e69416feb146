"""CUDA kernels, run on the CPU by turns and recorded: who touches which number, and when.

`trace(kernel, blocks, threads, *arguments)` runs a launch, the `Trace` that it returns answers
questions, `draw_trace` draws it. Chapters 07a and 07b.
"""

from mrcnn_edu.pictures.threads.accesses import Access, Trace
from mrcnn_edu.pictures.threads.drawing import draw_trace
from mrcnn_edu.pictures.threads.occupancy import blocks_that_fit
from mrcnn_edu.pictures.threads.trace import trace

__all__ = ["Access", "Trace", "blocks_that_fit", "draw_trace", "trace"]
