"""The thread map: which outputs a warp computes, and which sectors of memory it has to fetch.

One RoI pooled to [4, 4] bins with 64 channels from a float32 map of 12 × 16 pixels. The arithmetic
is in `thread_map.js` too; tests hold the two, and the recorder of kernels, against each other.
Chapter 07b.
"""

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import traitlets
from matplotlib.figure import Figure

from mrcnn_edu.pictures.show import BLUE, GREEN, ORANGE
from mrcnn_edu.roi import reference
from mrcnn_edu.widgets.common import Widget, bundle

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS, CHANNELS, HEIGHT, WIDTH = 4, 64, 12, 16
BOX = (2.1, 1.7, 14.8, 11.2)  # on an image of stride 1
WARP, SECTOR, NUMBER = 32, 32, 4  # threads; bytes of a sector; bytes of a float32
LAYOUTS = ("channels last", "channels first")
OVER = ("channels", "bins")
SECTORS = HEIGHT * WIDTH * CHANNELS * NUMBER // SECTOR
ACROSS = 64  # sectors a row of the picture of memory


def tap_pixels() -> list[list[int]]:
    """The pixel y · W + x that each of the four taps of each bin's middle reads: [4, bins²]."""
    bins = reference.bin_samples(BOX, (BINS, BINS), (HEIGHT, WIDTH), 1.0, 1, True, False)
    taps = [samples[0] for _, _, samples in bins]
    return [[i * WIDTH + j for i, j, _ in (bin_[k] for bin_ in taps)] for k in range(4)]


def warps(over: str) -> int:
    """How many warps the 1024 outputs take; x runs over channels or bins."""
    fast, slow = (CHANNELS, BINS**2) if over == "channels" else (BINS**2, CHANNELS)
    return slow * -(-fast // WARP)


def outputs(warp: int, over: str) -> list[tuple[int, int]]:
    """(bin, channel) of each thread of a warp that has an output: blocks of 32 threads along x."""
    fast = CHANNELS if over == "channels" else BINS**2
    each = -(-fast // WARP)  # warps to one value of y
    slow, first = warp // each, warp % each * WARP
    places = range(first, min(first + WARP, fast))
    return [(slow, x) if over == "channels" else (x, slow) for x in places]


def sectors(of: list[tuple[int, int]], pixels: list[int], layout: str) -> dict[int, int]:
    """{sector of the map's memory: how many of its numbers are used} of one read of these threads.

    Args:
        of: (bin, channel) of each thread.
        pixels: the pixel that each bin reads.
        layout: how the map lies in memory.
    """
    last = layout == "channels last"
    numbers = {pixels[b] * CHANNELS + c if last else c * HEIGHT * WIDTH + pixels[b] for b, c in of}
    return dict(Counter(number * NUMBER // SECTOR for number in numbers))


def draw_outputs(axis: "Axes", warp: int, over: str) -> None:
    """The outputs as a grid, with the warp's filled.

    Args:
        axis: to draw on.
        warp: which one.
        over: what the warp's threads run over, as in `outputs`.
    """
    cells = np.zeros((BINS**2, CHANNELS))
    for b, c in outputs(warp, over):
        cells[b, c] = 1
    _grid(axis, cells, BLUE)
    axis.set_title(
        f"outputs: {BINS**2} bins (down) × {CHANNELS} channels (across); warp {warp}", loc="left"
    )


def draw_memory(axis: "Axes", warp: int, over: str, layout: str, tap: int) -> None:
    """The map's memory, one cell a sector; those that one read of the warp fetches are filled.

    Args:
        axis: to draw on.
        warp: which one.
        over: what the warp's threads run over, as in `outputs`.
        layout: of the map, as in `sectors`.
        tap: which of the pixels is read.
    """
    fetched = sectors(outputs(warp, over), tap_pixels()[tap], layout)
    cells = np.zeros(SECTORS)
    cells[list(fetched)] = 1
    _grid(axis, cells.reshape(-1, ACROSS), GREEN if used(fetched) == 100 else ORANGE)
    share = f"{used(fetched):.1f}".removesuffix(".0")
    axis.set_title(f"{layout}: {len(fetched)} sectors, {share} % used", loc="left")


def used(fetched: dict[int, int]) -> float:
    """Percent of the fetched bytes that somebody wanted."""
    return 100 * sum(fetched.values()) * NUMBER / (len(fetched) * SECTOR)


def _grid(axis: "Axes", cells: np.ndarray, colour: str) -> None:
    from matplotlib.colors import ListedColormap

    rows, columns = cells.shape
    map_ = ListedColormap(["#f3f5f7", colour])
    axis.imshow(cells, cmap=map_, vmin=0, vmax=1, extent=(0, columns, rows, 0), aspect="auto",
                interpolation="nearest")  # fmt: skip
    axis.vlines(range(columns + 1), 0, rows, "#c8ced4", linewidth=0.3)
    axis.hlines(range(rows + 1), 0, columns, "#c8ced4", linewidth=0.3)
    axis.set(xticks=[], yticks=[], xlim=(0, columns), ylim=(rows, 0))
    axis.spines[:].set_visible(False)


class ThreadMap(Widget):
    """Drag a warp over the outputs; see the sectors of memory that one of its reads fetches.

    Chapter 07b.
    """

    _esm = bundle("thread_map")
    warp = traitlets.Int(9).tag(sync=True)
    layout_ = traitlets.Enum(LAYOUTS, LAYOUTS[0]).tag(sync=True)
    over = traitlets.Enum(OVER, OVER[0]).tag(sync=True)
    tap = traitlets.Int(0, min=0, max=3).tag(sync=True)
    pixels: traitlets.List = traitlets.List().tag(sync=True)

    def __init__(self, **traits: object) -> None:
        super().__init__(pixels=tap_pixels(), **traits)

    def figure(self) -> Figure:
        """The outputs, and the memory below them."""
        figure = Figure(figsize=(7, 4.4), layout="constrained")
        top, bottom = figure.subplots(2, height_ratios=(2, 3))
        draw_outputs(top, self.warp, self.over)
        draw_memory(bottom, self.warp, self.over, self.layout_, self.tap)
        return figure
