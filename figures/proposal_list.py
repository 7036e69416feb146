"""Chapter 04, the take-away: ask every anchor, keep the best, move them, thin them."""

import torch
from matplotlib.figure import Figure

from figures import HERE
from mrcnn_edu import boxes as box_ops
from mrcnn_edu.data.shapes import ShapesConfig, ShapesDataset, generate
from mrcnn_edu.data.transforms import resize, to_float
from mrcnn_edu.pictures.show import RED, show_boxes, show_image
from mrcnn_edu.weights.checkpoint import load_model

INPUT = 192
IMAGE = 17  # of the validation set
KEPT = 40
LEVEL = 2  # P4


def draw() -> Figure:
    """Four panels over one image of Shapes."""
    import matplotlib.pyplot as plt

    shapes = ShapesDataset(generate(ShapesConfig(), IMAGE + 1, seed=2))
    image = resize(to_float(shapes[IMAGE][0]), INPUT, INPUT)  # [3, 192, 192]
    model = load_model(HERE.parent / "data" / "tiny_fpn_shapes.safetensors").model
    with torch.no_grad():
        record = model([image])
    logits, deltas = record.objectness[0], record.deltas[0]  # [A], [A, 4]
    anchors = torch.cat(record.anchors)  # [A, 4]
    side = record.pyramid[LEVEL].shape[-1]
    level = logits.split([len(a) for a in record.anchors])[LEVEL]
    heat = level.sigmoid().reshape(side, side, -1).amax(dim=2)  # [H, W]
    best = logits.argsort(descending=True)[:KEPT]
    moved = box_ops.decode(deltas[best], anchors[best], model.config.rpn_box_weights)
    levels = torch.cat([torch.full((len(a),), i) for i, a in enumerate(record.anchors)])
    stay = box_ops.batched_nms(moved, logits[best], levels[best], model.config.rpn_nms_iou)
    copies = torch.ones(KEPT, dtype=torch.bool)  # what NMS within the levels removes
    copies[stay] = False

    figure, axes = plt.subplots(1, 4, figsize=(7, 2.3))
    show_image(axes[0], heat, "ask: objectness, P4", vmin=0, vmax=1, cmap="magma")
    titles = (f"keep: {KEPT} anchors", "move", f"thin: {len(stay)} proposals")
    for axis, title, shown in zip(
        axes[1:], titles, (anchors[best], moved, moved[stay]), strict=True
    ):
        show_image(axis, image, title)
        show_boxes(axis, shown, "black", linewidth=0.6)
        axis.set(xlim=(0, INPUT), ylim=(INPUT, 0))
    show_boxes(axes[2], moved[copies], RED, linewidth=0.9)
    axes[2].plot([], [], color=RED, label="near copy of a better one")
    figure.legend(loc="outside lower right")
    return figure
