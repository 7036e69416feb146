"""Chapter 00: the stages of Mask R-CNN, with the tensors of one image in them."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.data.shapes import ShapesDataset, default_set
from mrcnn_edu.data.transforms import resize, to_float
from mrcnn_edu.pictures.overlay import draw_detections
from mrcnn_edu.pictures.show import RED, show_boxes, show_image
from mrcnn_edu.weights.checkpoint import load_model

WEIGHTS = Path(__file__).parent.parent / "data" / "tiny_fpn_shapes.safetensors"
SIZE = (7.0, 3.3)  # inches


def draw() -> Figure:
    """Draw each stage's tensors where they arise, left to right, and the arrows between them."""
    loaded = load_model(WEIGHTS)
    model, names = loaded.model, loaded.categories.names
    raw, _ = ShapesDataset(default_set("val"))[90]
    image = resize(to_float(raw), 192, 192)  # [3, 192, 192]
    with torch.no_grad():
        record = model.detect(model([image]))
        found, proposals = record.detections[0], record.proposals[0]
        near = box_ops.iou(found.boxes[:3], proposals.boxes).argmax(1)  # [3], where each came from
        small = model.pool(record, [proposals.boxes[near]], 7)  # [3, C, 7, 7]
        large = model.pool(record, [found.boxes[:3]], 14)  # [3, C, 14, 14]
    figure = plt.figure(figsize=SIZE, layout="none")

    def panel(x: float, y: float, side: float) -> Axes:
        """A square of `side` inches whose lower left corner is at (x, y) inches."""
        return figure.add_axes((x / SIZE[0], y / SIZE[1], side / SIZE[0], side / SIZE[1]))

    show_image(panel(0.05, 1.4, 0.95), image)
    for x, maps in ((1.3, record.backbone_maps), (2.25, record.pyramid)):
        for level, side in enumerate((0.75, 0.55, 0.4, 0.28)):
            y = 0.55 + sum((0.75, 0.55, 0.4, 0.28)[:level]) + 0.08 * level
            axis = panel(x + (0.75 - side) / 2, y, side)
            show_image(axis, maps[level][0].norm(dim=0), cmap="viridis")
    axis = panel(3.25, 1.4, 0.95)
    show_image(axis, image)
    show_boxes(axis, proposals.boxes[:20], RED, linewidth=0.5)
    axis.set(xlim=(0, 192), ylim=(192, 0))
    for i in range(3):
        y = 0.42 * (2 - i)
        show_image(panel(4.5, 1.78 + y, 0.38), small[i].norm(dim=0), cmap="viridis")
        show_image(panel(4.5, 0.3 + y, 0.38), large[i].norm(dim=0), cmap="viridis")
        show_image(panel(5.27, 0.3 + y, 0.38), found.masks[i], cmap="magma", vmin=0, vmax=1)
    drawn = draw_detections((image * 255).byte(), found, ["" for _ in names], scale=2)
    show_image(panel(6.0, 1.4, 0.95), np.asarray(drawn))

    page = figure.add_axes((0, 0, 1, 1), zorder=-1)
    page.set(xlim=(0, SIZE[0]), ylim=(0, SIZE[1]))
    page.set_axis_off()
    best = list(zip(found.labels.tolist(), found.scores.tolist(), strict=True))[:3]
    for i, (label, score) in enumerate(best):
        text = f"{names[label - 1]} {score:.2f}"
        page.text(5.46, 1.97 + 0.42 * (2 - i), text, ha="center", va="center", fontsize=7)
    page.text(5.46, 0.14, "mask head", ha="center", va="center", fontsize=9, weight="bold")
    page.text(5.2, 1.615, "corrected boxes", ha="left", va="center", fontsize=7, color="0.35")
    for x, name, shape in (
        (0.52, "image", "[3, H, W]"),
        (1.67, "backbone", "C2 to C5"),
        (2.62, "pyramid", "P2 to P6"),
        (3.72, "RPN", "[A, 4] → [R, 4]"),
        (4.69, "RoIAlign", "7×7, 14×14"),
        (5.46, "box head", ""),
        (6.47, "objects", "boxes, masks"),
    ):
        page.text(x, 3.12, name, ha="center", va="center", fontsize=9, weight="bold")
        page.text(x, 0.1, shape, ha="center", va="center", fontsize=7, color="0.35")
    for x1, x2, y1, y2 in (
        (1.05, 1.28, 1.87, 1.87),
        (2.07, 2.23, 1.87, 1.87),
        (3.04, 3.22, 1.87, 1.87),
        (4.23, 4.45, 2.05, 2.3),
        (4.93, 5.1, 2.38, 2.38),
        (5.12, 4.93, 1.8, 1.3),
        (4.93, 5.22, 0.91, 0.91),
        (5.82, 5.97, 2.38, 2.1),
        (5.7, 5.97, 0.91, 1.6),
    ):
        page.annotate("", (x2, y2), (x1, y1), arrowprops={"arrowstyle": "->", "color": "0.35"})
    return figure
