"""A mask on its way: cut from a RoI, pasted back, half a pixel aside, and into another box."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import to_rgb
from torch import Tensor

from mrcnn_edu import masks as mask_ops
from mrcnn_edu.data.shapes import running_picture
from mrcnn_edu.data.shapes_outline import CLASS_NAMES
from mrcnn_edu.pictures.show import BLUE, GREEN, ORANGE, RED, show_boxes, show_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELLS = 28
# Where a proposal might lie, and where the box head might move it: x1, y1, x2, y2 off the true box.
PROPOSAL, REFINED = (-3.2, 0.6, -1.4, 3.1), (-0.4, -0.3, 0.2, 0.5)


def draw() -> "Figure":
    """The picture with the RoI, the target, and three ways to paste it."""
    image, target = running_picture()
    star = int((target["labels"] == CLASS_NAMES.index("star") + 1).nonzero()[0])
    mask, box = target["masks"][star], target["boxes"][star]  # [H, W], [4]
    proposal, refined = box + torch.tensor(PROPOSAL), box + torch.tensor(REFINED)
    cut = mask_ops.crop_to_boxes(mask[None], proposal[None], torch.tensor([0]), CELLS, True)
    figure, axes = plt.subplots(1, 5, figsize=(7.4, 2.15))
    show_image(axes[0], image, "a RoI")
    show_boxes(axes[0], proposal[None], ORANGE)
    show_image(axes[1], cut[0], f"its target, {CELLS} × {CELLS}", cmap="gray", vmin=0, vmax=1)
    for axis, title, where in (
        (axes[2], "pasted back", proposal),
        (axes[3], "½ pixel aside", proposal + 0.5),
        (axes[4], "in a better box", refined),
    ):
        found = mask_ops.paste(cut, where[None], (image.shape[1], image.shape[2]))[0] > 0.5
        _compare(axis, found, mask > 0, title)
        show_boxes(axis, where[None], ORANGE if axis is axes[2] else "0.4")
    window = (*(box[:2] - 6).tolist(), *(box[2:] + 6).tolist())
    for axis in axes[[0, 2, 3, 4]]:
        axis.set(xlim=window[::2], ylim=(window[3], window[1]))
    return figure


def _compare(axis: "Axes", found: Tensor, truth: Tensor, title: str) -> None:
    """Right pixels in green, missing ones in blue, wrong ones in red."""
    pixels = np.ones((*truth.shape, 3))
    for where, colour in (
        (found & truth, GREEN),
        (truth & ~found, BLUE),
        (found & ~truth, RED),
    ):
        pixels[where.numpy()] = to_rgb(colour)
    iou = int((found & truth).sum()) / int((found | truth).sum())
    show_image(axis, pixels, f"{title}\nIoU {iou:.2f}")
