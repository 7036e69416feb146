"""Chapter 07a: a GPU, drawn: multiprocessors, one of them enlarged, caches, memory and waits."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.patches import ConnectionPatch, Rectangle

from mrcnn_edu.pictures.show import BLUE, GREEN, ORANGE, SKY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# An H100 (SXM): multiprocessors as NVIDIA sells it, drawn in 11 rows of 12.
ROWS, COLUMNS = 11, 12
SCHEDULERS, PLACES, LANES = 4, 16, 32  # of a multiprocessor; places for warps, each; lanes


def draw() -> "Figure":
    """The chip at the left, a multiprocessor at the right, and below them what they read from."""
    figure, axis = plt.subplots(figsize=(7.2, 5.2))
    axis.set(xlim=(0, 72), ylim=(-1, 51), xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.set_aspect("equal")
    _chip(axis)
    _multiprocessor(axis)
    _below(axis)
    return figure


def _chip(axis: "Axes") -> None:
    axis.text(0.5, 49, "132 multiprocessors", fontsize=9, fontweight="bold")
    for row in range(ROWS):
        for column in range(COLUMNS):
            chosen = (row, column) == (0, COLUMNS - 1)
            x, y = 0.5 + 1.9 * column, 45.5 - 2.55 * row
            axis.add_patch(
                Rectangle(
                    (x, y), 1.5, 2, facecolor=ORANGE if chosen else "#d9d9d9", edgecolor="none"
                )
            )
    for y in (47.5, 45.5):
        end = 48.4 if y > 46 else 18.4
        axis.add_artist(
            ConnectionPatch((22.9, y), (26.6, end), "data", color=ORANGE, linewidth=0.8)
        )


def _multiprocessor(axis: "Axes") -> None:
    axis.add_patch(
        Rectangle((26.6, 18.4), 35, 30, facecolor="none", edgecolor=ORANGE, linewidth=1.5)
    )
    axis.text(27.4, 46.2, "one multiprocessor", fontsize=9, fontweight="bold")
    axis.text(
        27.4, 44.2, "64 places for warps; four warps get an instruction at a time", fontsize=7.5
    )
    for s in range(SCHEDULERS):
        x = 27.4 + 8.5 * s
        for place in range(PLACES):
            working = place == (5, 2, 11, 8)[s]
            axis.add_patch(
                Rectangle(
                    (x, 42.4 - 0.78 * place), 7.7, 0.56,
                    facecolor=GREEN if working else SKY, alpha=1 if working else 0.45,
                    edgecolor="none",
                )
            )  # fmt: skip
        for lane in range(LANES):
            axis.add_patch(
                Rectangle(
                    (x + 7.7 / LANES * lane, 28.2), 0.17, 1.6, facecolor=GREEN, edgecolor="none"
                )
            )
        axis.text(x + 3.85, 26.6, "32 lanes", fontsize=7, ha="center")
    _box(axis, 27.4, 23, 33.2, 2.6, "registers, 65,536 of 32 bits", "#f0f0f0")
    _box(axis, 27.4, 19.4, 33.2, 2.6, "shared memory and L1 cache, 256 KiB", "#f0f0f0")
    axis.text(63, 28.3, "4 cycles", fontsize=8, color=BLUE)
    axis.text(63, 20.2, "20 cycles", fontsize=8, color=BLUE)


def _below(axis: "Axes") -> None:
    _box(axis, 0.5, 11.4, 61.1, 3.6, "L2 cache, 50 MB, for all", "#e4e4e4")
    _box(axis, 0.5, 2.4, 61.1, 5.6, "memory, 80 GB, 3.35 TB/s", "#d0d0d0")
    axis.text(63, 12.7, "200 cycles", fontsize=8, color=BLUE)
    axis.text(63, 4.7, "400 cycles", fontsize=8, color=BLUE)
    axis.text(63, 48, "a result\ntakes about", fontsize=8, color=BLUE, va="top")
    for x, top, bottom in ((44, 18.4, 15), (31, 11.4, 8)):
        axis.annotate(
            "", (x, bottom), (x, top), arrowprops={"arrowstyle": "<->", "color": "#555555"}
        )
    axis.text(32, 9.2, "in sectors of 32 bytes", fontsize=7.5, color="#555555")


def _box(
    axis: "Axes", x: float, y: float, width: float, height: float, text: str, colour: str
) -> None:
    axis.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor="#888888"))
    axis.text(x + width / 2, y + height / 2, text, fontsize=8, ha="center", va="center")
