"""What RoIPool, RoIWarp and RoIAlign read of one feature map, for one box, and what they return."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import skimage.data
import torch
from matplotlib.patches import Rectangle

from mrcnn_edu.nn.edges import edge_features
from mrcnn_edu.pictures.show import BLUE, show_boxes, show_image
from mrcnn_edu.roi import reference, roi_align, roi_pool, roi_warp

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STRIDE, BINS, SAMPLES = 16, 3, 2
BOX = (53.0, 24.0, 203.0, 155.0)
VIEW = (1, 15, 12.3, 0)  # the part of the map that is drawn: left, right, bottom, top
GREY = {"cmap": "gray", "vmin": -0.2, "vmax": 1.0}  # lines are to be seen on the darkest, too
READ = "#ff3b1f"


def draw() -> "Figure":
    """Photograph and three operators above; output of each below."""
    photograph = torch.from_numpy(skimage.data.astronaut())[:256, 96:352].permute(2, 0, 1)
    features = edge_features(photograph, STRIDE)[:1]  # [1, 16, 16], vertical edges
    features = features / features.max()
    box = [v / STRIDE for v in BOX]
    figure, axes = plt.subplots(2, 4, figsize=(7, 2.7), height_ratios=(1.75, 1))
    show_image(axes[0, 0], photograph[:, : 12 * STRIDE + 5, STRIDE : 15 * STRIDE], "image")
    x1, y1, x2, y2 = BOX
    show_boxes(axes[0, 0], [(x1 - STRIDE, y1, x2 - STRIDE, y2)], BLUE)
    axes[1, 0].axis("off")
    axes[1, 0].text(
        0, 0.5, "blue: the box\nred: what is read\nbelow: the output", va="center", fontsize=8
    )
    x, rois, scale = features[None], [torch.tensor([BOX])], 1 / STRIDE
    outputs = {
        "RoIPool": roi_pool(x, rois, BINS, scale),
        "RoIWarp": roi_warp(x, rois, BINS, scale, SAMPLES),
        "RoIAlign": roi_align(x, rois, BINS, scale, SAMPLES, True),
    }  # each [1, 1, P, P]
    for column, (name, output) in enumerate(outputs.items(), start=1):
        axis = axes[0, column]
        show_image(axis, features[0], name, **GREY)
        axis.set(xlim=VIEW[:2], ylim=VIEW[2:])
        draw_reading(axis, name, features.shape[-2:])
        show_boxes(axis, [box], BLUE, zorder=5)
        show_image(axes[1, column], output[0, 0], **GREY)
        for q in range(BINS):
            for p in range(BINS):
                value = float(output[0, 0, q, p])
                ink = "black" if value > 0.4 else "white"
                place = {"ha": "center", "va": "center", "fontsize": 6.5}
                axes[1, column].text(p + 0.5, q + 0.5, f"{value:.2f}", color=ink, **place)
    return figure


def draw_reading(axis: "Axes", name: str, size: tuple[int, int]) -> None:
    """In red: the pixels of each bin (RoIPool), or the bins and their samples."""
    if name == "RoIPool":
        for _, _, pixels in reference.pool_bins(BOX, (BINS, BINS), size, 1 / STRIDE):
            (top, left), (bottom, right) = pixels[0], pixels[-1]
            axis.add_patch(
                Rectangle(
                    (left, top), right - left + 1, bottom - top + 1, fill=False, ec=READ, lw=1
                )
            )
        return
    corners = [v / STRIDE for v in BOX]
    if name == "RoIWarp":  # rounded, and read half a pixel further
        corners = [reference.round_half_away(v) + 0.5 for v in corners]
    x1, y1, x2, y2 = corners
    rows = [y1 + (y2 - y1) * k / BINS for k in range(BINS + 1)]
    columns = [x1 + (x2 - x1) * k / BINS for k in range(BINS + 1)]
    axis.hlines(rows, x1, x2, colors=READ, linewidth=1)
    axis.vlines(columns, y1, y2, colors=READ, linewidth=1)
    steps = [(k + 0.5) / (BINS * SAMPLES) for k in range(BINS * SAMPLES)]
    points = [(x1 + (x2 - x1) * s, y1 + (y2 - y1) * t) for s in steps for t in steps]
    axis.plot(*zip(*points, strict=True), "o", color=READ, markersize=2.2, mec="white", mew=0.4)
