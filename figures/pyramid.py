"""Chapter 02: the backbone's maps C2 to C5 and the pyramid's P2 to P5 of one image."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from mrcnn_edu.data.shapes import ShapesDataset, default_set
from mrcnn_edu.data.transforms import resize, to_float
from mrcnn_edu.pictures.show import show_image
from mrcnn_edu.weights.checkpoint import load_model

WEIGHTS = Path(__file__).parent.parent / "data" / "tiny_fpn_shapes.safetensors"


def draw() -> Figure:
    """Draw the image, and under each other the length of the feature vector of every cell."""
    model = load_model(WEIGHTS).model
    raw, _ = ShapesDataset(default_set("val"))[17]
    with torch.no_grad():
        record = model([resize(to_float(raw), 192, 192)])
    figure, axes = plt.subplots(2, 5, figsize=(7.0, 3.0))
    show_image(axes[0, 0], raw, "image, 128 × 128")
    axes[1, 0].set_axis_off()
    axes[1, 0].text(
        0.5, 0.5, "length of the\nfeature vector\nof each cell", ha="center", va="center"
    )
    for column, (backbone, pyramid) in enumerate(
        zip(record.backbone_maps, record.pyramid[:4], strict=True), start=1
    ):
        for row, (letter, maps) in enumerate((("C", backbone), ("P", pyramid))):
            title = f"{letter}{column + 1}, {maps.shape[-2]} × {maps.shape[-1]}"
            show_image(axes[row, column], _lengths(maps), title, cmap="viridis")
    return figure


def _lengths(maps: Tensor) -> Tensor:
    """The length [H, W] of each cell's vector in maps [1, C, H, W]."""
    return maps[0].norm(dim=0)
