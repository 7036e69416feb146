"""Two crosses, ever farther apart, as FCIS with k = 7, 3, 1 and Mask R-CNN mask them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import to_rgb
from torch import Tensor

from mrcnn_edu import masks as mask_ops
from mrcnn_edu.data.pairs import SIZE, scenes
from mrcnn_edu.pictures.show import BLUE, ORANGE, show_boxes, show_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GALLERY = Path(__file__).resolve().parent.parent / "data" / "overlap_gallery.json"
SCENE = 9  # of those at a shift, as in benchmarks/overlap_course.py
NAMES = {"fcis k=7": "FCIS, k = 7", "fcis k=3": "k = 3", "fcis k=1": "k = 1"}
NAMES |= {"mask r-cnn": "Mask R-CNN"}


def draw() -> "Figure":
    """A row for each shift: the picture, the truth, and four predictions."""
    gallery = json.loads(GALLERY.read_text())
    shifts = [float(shift) for shift in gallery["mask r-cnn"]]
    figure, axes = plt.subplots(len(shifts), 6, figsize=(7.4, 1.28 * len(shifts) + 0.2))
    for row, shift in zip(axes, shifts, strict=True):
        image, target = scenes(shift, ("cross", "cross"))[SCENE]
        show_image(row[0], image)
        show_boxes(row[0], target["boxes"], [BLUE, ORANGE])
        row[0].set_ylabel(f"{shift:g} w", rotation=0, labelpad=14, va="center")
        show_image(row[1], _coloured(image, target["masks"] > 0))
        for axis, name in zip(row[2:], NAMES, strict=True):
            runs = [
                {"size": [SIZE, SIZE], "counts": counts.encode()}
                for counts in gallery[name][f"{shift:g}"]
            ]
            found = torch.stack([mask_ops.decode(r) for r in runs]) > 0
            show_image(axis, _coloured(image, found))
        low, high = target["boxes"].amin(dim=0)[:2], target["boxes"].amax(dim=0)[2:]
        (x, y), half = ((low + high) / 2).tolist(), float((high - low).max()) / 2 + 4
        for axis in row:
            axis.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
    for axis, title in zip(axes[0], ("A, B", "truth", *NAMES.values()), strict=True):
        axis.set_title(title)
    return figure


def _coloured(image: Tensor, masks: Tensor) -> Tensor:
    """A in blue, B in orange, and what both claim in black: [3, H, W]."""
    canvas = 0.35 * image.permute(1, 2, 0).float().mean(dim=2, keepdim=True) / 255 + 0.6
    canvas = canvas.expand(-1, -1, 3).clone()
    for where, colour in (
        (masks[0] & ~masks[1], BLUE),
        (masks[1] & ~masks[0], ORANGE),
        (masks[0] & masks[1], "black"),
    ):
        canvas[where] = 0.25 * canvas[where] + 0.75 * torch.tensor(to_rgb(colour))
    return canvas.permute(2, 0, 1)
