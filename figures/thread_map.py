"""Chapter 07b: a warp's outputs, and the sectors that one of its reads fetches, in two layouts."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from mrcnn_edu.widgets.thread_map import draw_memory, draw_outputs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WARP, TAP = 9, 0


def draw() -> "Figure":
    """Outputs at the top, the map's memory with channels last and channels first below."""
    figure, axes = plt.subplot_mosaic(
        [["outputs", "outputs"], ["last", "first"]], figsize=(7, 3.6), height_ratios=(1.1, 1)
    )
    draw_outputs(axes["outputs"], WARP, "channels")
    draw_memory(axes["last"], WARP, "channels", "channels last", TAP)
    draw_memory(axes["first"], WARP, "channels", "channels first", TAP)
    figure.supxlabel("lower row: the map's memory, one cell is a sector of 32 bytes", fontsize=9)
    return figure
