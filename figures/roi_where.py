"""Where each RoI operator looks while a box moves to the right, in image pixels, at stride 16."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import torch

from mrcnn_edu.pictures.show import BLUE, GREEN, ORANGE
from mrcnn_edu.roi import roi_align, roi_pool, roi_warp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STRIDE, SIDE = 16, 96


def draw() -> "Figure":
    """Left: the place that is read against the place of the box. Right: the difference."""
    places, read = positions()
    figure, axes = plt.subplots(1, 2, figsize=(7, 2.9), width_ratios=(1, 1.25))
    styles = {
        "RoIPool": {"color": ORANGE, "linewidth": 4},
        "RoIWarp": {"color": "black", "linewidth": 1.2, "linestyle": "--"},  # on RoIPool's line
        "RoIAlign, not aligned": {"color": GREEN},
        "RoIAlign": {"color": BLUE},
    }
    for name, style in styles.items():
        axes[0].plot(places, read[name], **style)
        axes[1].plot(places, read[name] - places, label=name, **style)
    axes[0].set(xlabel="box moved by (pixels)", ylabel="what is read moved by (pixels)")
    axes[1].set(xlabel="box moved by (pixels)", ylabel="read too far right by (pixels)")
    axes[0].set_yticks(range(0, 41, 8))
    axes[1].set_yticks(range(0, 17, 4))
    for axis in axes:
        axis.set_xticks(range(0, 2 * STRIDE + 1, 8))
        axis.grid(alpha=0.6)
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def positions() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """How far the box has moved, and how far what is read has, both in image pixels. [D] each.

    The map holds its own x: the image coordinate of the middle of each pixel. So the mean of what
    an operator reads is the place where it looks. RoIPool returns the largest x; the largest −x,
    negated, is the smallest; the place is midway.
    """
    x = (torch.arange(16.0) + 0.5) * STRIDE  # [W]
    x = x.expand(1, 1, 16, 16)
    places = torch.linspace(0, 2 * STRIDE, 257)  # [D]
    left = 3 * STRIDE + places
    rois = torch.stack(
        [0 * left, left, 0 * left + 48, left + SIDE, 0 * left + 48 + SIDE], dim=1
    )  # [D, 5]
    scale, middle = 1 / STRIDE, 3 * STRIDE + SIDE / 2
    read = {
        "RoIPool": (roi_pool(x, rois, 1, scale) - roi_pool(-x, rois, 1, scale)) / 2,
        "RoIWarp": roi_warp(x, rois, 1, scale, 4),
        "RoIAlign, not aligned": roi_align(x, rois, 1, scale, 4, False),
        "RoIAlign": roi_align(x, rois, 1, scale, 4, True),
    }  # each [D, 1, 1, 1]
    return places, {name: where.flatten() - middle for name, where in read.items()}
