"""An ankle on its way: annotated, one cell, softmax, resized logits, a place; and left or right."""

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Rectangle
from safetensors.torch import load_file
from torch.nn import functional as F

from mrcnn_edu.data.shapes import ShapesDataset, default_set
from mrcnn_edu.data.shapes_outline import KEYPOINTS, SKELETON
from mrcnn_edu.data.transforms import resize, resize_target, to_float
from mrcnn_edu.nn.keypoint_head import KeypointHead, decode_keypoints, keypoint_targets
from mrcnn_edu.pictures.show import BLUE, ORANGE, show_image, show_joints
from mrcnn_edu.weights.checkpoint import load_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DATA = Path(__file__).resolve().parent.parent / "data"
PICTURE, PERSON, JOINT, PARTNER = 150, 1, "left_ankle", "right_ankle"


@torch.no_grad()
def draw() -> "Figure":
    """Six panels in a row."""
    raw, target = ShapesDataset(default_set("val"))[PICTURE]
    image = resize(to_float(raw), 192, 192)
    truth = resize_target(target, raw.shape[1:], image.shape[1:])
    box, joints = truth["boxes"][[PERSON]], truth["keypoints"][[PERSON]]
    model = load_model(DATA / "tiny_fpn_shapes.safetensors").model
    head = KeypointHead(48, channels=64, convs=4)
    weights = load_file(DATA / "keypoint_head_shapes.safetensors")
    head.load_state_dict({name: value.float() for name, value in weights.items()})
    logits = head(model.roi_features(model([image]), [box], 14))  # [1, J, M, M]
    size = logits.shape[-1]
    j, k = KEYPOINTS.index(JOINT), KEYPOINTS.index(PARTNER)
    chances = logits[0].flatten(1).softmax(dim=1).unflatten(1, (size, size))  # [J, M, M]

    figure, axes = plt.subplots(1, 6, figsize=(7.6, 2.1))
    x1, y1, x2, y2 = box[0].tolist()
    for axis, title, points in (
        (axes[0], "annotated", joints),
        (axes[4], "decoded", decode_keypoints(logits, box)[0]),
    ):
        show_image(axis, image, title)
        show_joints(axis, points, KEYPOINTS, SKELETON, linewidth=1.2)
        axis.plot(*points[0, j, :2].tolist(), "o", markersize=9, fillstyle="none", color="white")
        axis.set(xlim=(x1, x2), ylim=(y2, y1))
    cells, _ = keypoint_targets(joints, box, size)
    row, column = divmod(int(cells[0, j]), size)
    hot = F.one_hot(cells[0, j], size * size).reshape(size, size)
    show_image(axes[1], hot, f"1 of {size * size:,} cells", cmap="magma")
    axes[1].add_patch(
        Rectangle((column - 4, row - 4), 9, 9, fill=False, edgecolor=ORANGE, linewidth=1)
    )
    show_image(axes[2], chances[j].sqrt(), "softmax", cmap="magma")
    pixels = (int(-(-(y2 - y1) // 1)), int(-(-(x2 - x1) // 1)))
    fine = F.interpolate(logits[:, [j]], pixels, mode="bicubic")[0, 0]
    show_image(axes[3], fine, f"logits, {pixels[1]} × {pixels[0]} px", cmap="magma")
    at = divmod(int(fine.argmax()), pixels[1])
    axes[3].plot(at[1] + 0.5, at[0] + 0.5, "+", markersize=9, markeredgewidth=1.5, color=BLUE)
    either = (chances[j] + chances[k]) / 2  # what a head says that cannot tell them apart
    show_image(axes[5], either.sqrt(), "left or right?", cmap="magma")
    for axis in axes:
        axis.set(aspect="auto")  # every panel has the shape of the RoI
    return figure
