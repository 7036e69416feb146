"""Chapter 03: the nine anchors of Faster R-CNN at one place, and FPN's best anchors of objects."""

import skimage.data
import torch
from matplotlib.figure import Figure

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.anchors import cell_anchors, pyramid_anchors
from mrcnn_edu.pictures.show import BLUE, ORANGE, PINK, SKY, show_boxes, show_image

RATIOS = (0.5, 1.0, 2.0)
SIZES = (32, 64, 128, 256, 512)
STRIDES = (4, 8, 16, 32, 64)
OBJECTS = torch.tensor([[190.0, 60, 262, 165], [352, 5, 408, 262], [280, 340, 512, 512]])


def draw() -> Figure:
    """Two photographs: the anchors of a place, the anchors of objects."""
    import matplotlib.pyplot as plt

    photo = skimage.data.astronaut()  # [512, 512, 3]
    side = photo.shape[0]
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 4.0))
    for axis in (left, right):
        show_image(axis, photo[::3, ::3], extent=(0, side, side, 0))

    left.set_title("nine anchors of one place (Faster R-CNN)")
    places = torch.arange(0, side, 16) + 0.0
    y, x = torch.meshgrid(places, places, indexing="ij")
    left.plot(x.flatten(), y.flatten(), ".", color="white", markersize=1.2, zorder=0.5)
    nine = cell_anchors((128, 256, 512), RATIOS) + 256  # about the place (256, 256)
    for k, (colour, name) in enumerate(((ORANGE, "128"), (SKY, "256"), (PINK, "512"))):
        show_boxes(left, nine[k::3], colour, linewidth=1.8)
        left.plot([], [], color=colour, label=f"size {name}")
    left.plot(256, 256, "o", color="white", markeredgecolor="black", markersize=6)
    left.set(xlim=(-110, side + 110), ylim=(side + 110, -110))
    left.legend(loc="lower center", ncols=3, bbox_to_anchor=(0.5, -0.1))

    right.set_title("the best anchor of each object (FPN)")
    maps = [(side // t, side // t) for t in STRIDES]
    levels = pyramid_anchors([(s,) for s in SIZES], RATIOS, maps, (side, side))
    overlap = box_ops.iou(OBJECTS, torch.cat(levels))  # [3, A]
    best, index = overlap.max(dim=1)
    anchors = torch.cat(levels)[index]  # [3, 4]
    show_boxes(right, OBJECTS, ORANGE, linewidth=2)
    show_boxes(right, anchors, BLUE, linewidth=2, linestyle="--")
    label = {"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.9}
    for (x1, _, x2, y2), value in zip(anchors.tolist(), best.tolist(), strict=True):
        middle, below = (x1 + x2) / 2, min(y2 + 20, side - 14)
        right.text(
            middle, below, f"IoU {value:.2f}", ha="center", va="center", fontsize=8, bbox=label
        )
    right.set(xlim=(0, side), ylim=(side, 0))
    right.plot([], [], color=ORANGE, label="object")
    right.plot([], [], color=BLUE, linestyle="--", label="its best anchor")
    right.legend(loc="lower center", ncols=2, bbox_to_anchor=(0.5, -0.1))
    return figure
