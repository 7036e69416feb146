"""Chapter 06: a map, a box on it, and where RoIAlign and RoIPool send a gradient of 1 a bin."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import skimage.data
import torch
from torch import Tensor

from mrcnn_edu.nn.edges import edge_features
from mrcnn_edu.pictures.show import RED, YELLOW, show_boxes, show_image
from mrcnn_edu.roi import roi_align, roi_pool

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STRIDE, BINS, SAMPLES = 16, 4, 2
BOX = (108.0, 38.0, 292.0, 214.0)  # the cat's face, in the photograph's pixels


def edge_map() -> Tensor:
    """Edge strength of the photograph `chelsea`, all directions together: [1, 1, 18, 28]."""
    photograph = torch.from_numpy(skimage.data.chelsea()).permute(2, 0, 1)  # [3, H, W]
    return edge_features(photograph, STRIDE).sum(0)[None, None]


def gradients(feature: Tensor, roi: Tensor) -> tuple[Tensor, Tensor]:
    """What RoIAlign and RoIPool send back, [H, W] each, for a gradient of 1 in every bin."""
    feature = feature.requires_grad_()
    pooled = (
        roi_align(feature, roi, BINS, 1 / STRIDE, SAMPLES, True),
        roi_pool(feature, roi, BINS, 1 / STRIDE),
    )
    align, pool = (torch.autograd.grad(p.sum(), feature)[0][0, 0] for p in pooled)
    return align, pool


def draw_grid(axis: "Axes", colour: str) -> None:
    """The box and its bins, in map pixels from edge to edge."""
    x1, y1, x2, y2 = (v / STRIDE for v in BOX)
    for k in range(1, BINS):
        x, y = x1 + (x2 - x1) * k / BINS, y1 + (y2 - y1) * k / BINS
        axis.plot([x, x], [y1, y2], color=colour, linewidth=0.6)
        axis.plot([x1, x2], [y, y], color=colour, linewidth=0.6)
    show_boxes(axis, [(x1, y1, x2, y2)], colour)


def draw() -> "Figure":
    """The map with box and samples; RoIAlign's gradient; RoIPool's."""
    feature = edge_map()
    align, pool = gradients(feature, torch.tensor([[0, *BOX]]))
    figure, axes = plt.subplots(1, 3, figsize=(7, 3.1), layout="compressed")
    show_image(axes[0], feature.detach()[0, 0], "feature map, box, samples", cmap="gray")
    x1, y1, x2, y2 = (v / STRIDE for v in BOX)
    parts = (torch.arange(BINS * SAMPLES) + 0.5) / (BINS * SAMPLES)
    ys, xs = torch.meshgrid(y1 + (y2 - y1) * parts, x1 + (x2 - x1) * parts, indexing="ij")
    draw_grid(axes[0], RED)
    axes[0].scatter(xs, ys, s=9, color=YELLOW, edgecolors="black", linewidths=0.5, zorder=3)
    for axis, values, name in ((axes[1], align, "RoIAlign"), (axes[2], pool, "RoIPool")):
        title = f"{name}: {int((values > 0).sum())} pixels receive"
        show_image(axis, values, title, cmap="Blues", vmin=0)
        draw_grid(axis, RED)
        figure.colorbar(axis.images[0], ax=axis, location="bottom", shrink=0.8, aspect=30)
    for axis in axes:  # the part of the map around the box
        axis.set(xlim=(4, 21), ylim=(16, 0))
    bar = figure.colorbar(axes[0].images[0], ax=axes[0], location="bottom", shrink=0.8, aspect=30)
    bar.set_label("edge strength")
    for axis in axes[1:]:
        axis.images[0].colorbar.set_label("gradient received")
    return figure
