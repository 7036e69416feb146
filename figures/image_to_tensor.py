"""Chapter 12, the take-away: a file, its target, both moved together, and one thing left behind."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mrcnn_edu.data.dataset import Target
from mrcnn_edu.data.shapes import RUNNING, ShapesDataset, default_set
from mrcnn_edu.data.transforms import crop_window, horizontal_flip
from mrcnn_edu.pictures.colours import COLOURS
from mrcnn_edu.pictures.show import show_boxes, show_image

WINDOW = {"top": 22, "left": 30, "height": 96, "width": 96}
RING = 3


def draw() -> Figure:
    """Four panels: the pixels with a line of the annotation, then target, moved, left behind."""
    import matplotlib.pyplot as plt

    shapes = ShapesDataset(default_set("val"))
    image, target = shapes[RUNNING]
    target["labels"] = torch.arange(len(target["labels"]))  # an object keeps its colour
    entry = shapes.annotations(RUNNING)[RING]
    mirrored = horizontal_flip(image, target)
    moved = crop_window(*mirrored, **WINDOW)
    _, behind = crop_window(image, target, **WINDOW)
    figure, axes = plt.subplots(1, 4, figsize=(7.2, 2.5))
    show_image(axes[0], image, "file")
    _paint(axes[1], image, target, "target")
    _paint(axes[2], *moved, "moved together")
    _paint(
        axes[3],
        moved[0],
        moved[1] | {"masks": behind["masks"], "mask_labels": behind["labels"]},
        "masks left behind",
    )
    box = f'"bbox": {entry["bbox"]},\n"category_id": {entry["category_id"]},'
    counts = entry["segmentation"]["counts"]
    lines = (
        f'{box}\n"counts": "{counts[:16]}…"',
        "boxes xyxy, labels 1 to K,\nmasks of 0 and 1, joints",
        "mirrored, then cropped:\nall four of them",
        "the same pixels and boxes;\nthe loss falls all the same",
    )
    for axis, line in zip(axes, lines, strict=True):
        axis.text(0, -0.045, line, fontsize=5.6, va="top", transform=axis.transAxes, clip_on=False)
    return figure


def _paint(
    axis: Axes, image: Tensor, target: Target, title: str, of_masks: Target | None = None
) -> None:
    """An image with tinted masks, boxes of the same colour, and joints."""
    of_masks = target if of_masks is None else of_masks
    show_image(axis, image, title)
    height, width = image.shape[1:]
    paints = [COLOURS[label % 8] for label in target["labels"]]
    colours = ["#{:02x}{:02x}{:02x}".format(*paint) for paint in paints]
    for mask, label in zip(
        target["masks"], target.get("mask_labels", target["labels"]), strict=True
    ):
        tint = np.zeros((height, width, 4))
        tint[..., :3], tint[..., 3] = np.array(COLOURS[label % 8]) / 255, 0.6 * mask.numpy()
        axis.imshow(tint, extent=(0, width, height, 0))
    show_boxes(axis, target["boxes"], colours, linewidth=1)
    x, y, seen = target["keypoints"].reshape(-1, 3).T
    axis.plot(x[seen > 0], y[seen > 0], "w.", markersize=1.2)
    axis.set(xlim=(0, width), ylim=(height, 0))
