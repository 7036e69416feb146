"""Chapter 06: six pixels with four channels, in the two orders in which memory can hold them."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Rectangle

from mrcnn_edu.pictures.show import BLUE, GREEN, ORANGE, PINK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHANNELS, HEIGHT, WIDTH = 4, 2, 3
PAINT = (BLUE, ORANGE, GREEN, PINK)  # one a channel
READ = 1  # the pixel whose channels a sample reads


def memory_order(channels_last: bool) -> list[tuple[int, int]]:
    """(channel, pixel) of each number, in the order in which torch keeps them."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    names = torch.arange(CHANNELS * HEIGHT * WIDTH).reshape(1, CHANNELS, HEIGHT, WIDTH)
    stored = names.contiguous(memory_format=layout)
    flat = torch.as_strided(stored, (names.numel(),), (1,)).tolist()
    return [(number // (HEIGHT * WIDTH), number % (HEIGHT * WIDTH)) for number in flat]


def strip(axis: "Axes", channels_last: bool) -> None:
    """Memory as a row of cells; those of one pixel stand out."""
    for place, (channel, pixel) in enumerate(memory_order(channels_last)):
        read = pixel == READ
        axis.add_patch(
            Rectangle(
                (place, 0), 0.94, 1, facecolor=PAINT[channel], alpha=1.0 if read else 0.22,
                edgecolor="black" if read else "none", linewidth=1.5,
            )
        )  # fmt: skip
        axis.text(place + 0.47, 0.5, f"{pixel}", ha="center", va="center", fontsize=8,
                  fontweight="bold" if read else "normal")  # fmt: skip
    strides = torch.zeros(1, CHANNELS, HEIGHT, WIDTH)
    if channels_last:
        strides = strides.contiguous(memory_format=torch.channels_last)
    name = "channels last" if channels_last else "channels first"
    axis.set_title(f"{name}: strides C H W = {strides.stride()[1:]}", loc="left")
    axis.set(xlim=(-0.1, CHANNELS * HEIGHT * WIDTH), ylim=(-0.05, 1.05), xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def draw() -> "Figure":
    """Both strips, and what the colours mean."""
    figure, axes = plt.subplots(2, 1, figsize=(7, 1.75))
    for axis, channels_last in zip(axes, (False, True), strict=True):
        strip(axis, channels_last)
    handles = [Rectangle((0, 0), 1, 1, color=colour) for colour in PAINT]
    labels = [f"channel {c}" for c in range(CHANNELS)]
    figure.legend(
        handles, labels, loc="outside lower center", ncols=CHANNELS,
        title=f"memory from left to right; the number is the pixel, outlined: pixel {READ}",
    )  # fmt: skip
    return figure
