"""Chapter 08, the take-away: what a box head learns from, and how its answers are selected."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from figures import HERE
from mrcnn_edu.data.shapes import running_picture
from mrcnn_edu.data.shapes_outline import CLASS_NAMES
from mrcnn_edu.data.transforms import resize, resize_target, to_float
from mrcnn_edu.nn.box_head import sample_rois
from mrcnn_edu.nn.detections import candidates, select_detections
from mrcnn_edu.pictures.colours import COLOURS
from mrcnn_edu.pictures.show import show_boxes, show_image
from mrcnn_edu.record import RoISample
from mrcnn_edu.weights.checkpoint import load_model

SURE = 0.5  # the score above which a person wants to see a detection


def draw() -> Figure:
    """Two rows over the running picture: training, test."""
    import matplotlib.pyplot as plt

    raw, raw_target = running_picture()
    model = load_model(HERE.parent / "data" / "tiny_fpn_shapes.safetensors").model
    side = model.config.short_side
    image = resize(to_float(raw), side, side)  # [3, side, side]
    target = resize_target(raw_target, raw.shape[1:], image.shape[1:])
    with torch.no_grad():
        record = model([image])
        rois = model.propose(record, training=False)[0].boxes  # [R, 4]
        logits, deltas = model.box_head(model.roi_features(record, [rois], model.config.box_pool))
    sample = sample_rois(
        rois, target["boxes"], target["labels"], model.config, torch.Generator().manual_seed(0)
    )
    offered = candidates(logits, deltas, rois, (side, side), model.config)
    found = select_detections(logits, deltas, rois, (side, side), model.config)
    sure = found.scores > SURE

    figure, axes = plt.subplots(2, 3, figsize=(7, 5))
    titles = (
        f"{len(rois)} proposals, {len(target['boxes'])} objects",
        f"sample: {sample.num_positive} of {len(sample.boxes)} positive",
        "",
        f"{len(offered.boxes)} boxes above {model.config.score_threshold}",
        f"{len(found.boxes)} after NMS",
        f"{int(sure.sum())} above {SURE}",
    )
    for axis, title in zip(axes.flat, titles, strict=True):
        if title:
            show_image(axis, image, title)
            axis.set(xlim=(0, side), ylim=(side, 0))
    show_boxes(axes[0, 0], rois, "white", linewidth=0.35)
    of_classes(axes[0, 0], target["boxes"], target["labels"], 1.6)
    count = sample.num_positive
    show_boxes(axes[0, 1], sample.boxes[count:], "white", linewidth=0.8)
    of_classes(axes[0, 1], sample.boxes[:count], sample.labels[:count], 1.4)
    _where_the_losses_look(axes[0, 2], sample, len(CLASS_NAMES))
    of_classes(axes[1, 0], offered.boxes, offered.labels, 0.4)
    of_classes(axes[1, 1], found.boxes, found.labels, 0.8)
    of_classes(axes[1, 2], found.boxes[sure], found.labels[sure], 1.6)
    axes[0, 0].set_ylabel("training")
    axes[1, 0].set_ylabel("test")
    for k in target["labels"].unique().tolist():
        axes[0, 0].plot([], [], color=paint_of(k), label=CLASS_NAMES[k - 1])
    figure.legend(loc="outside lower center", ncols=10)
    return figure


def paint_of(label: int) -> str:
    """The colour of a class: the course's nine, and red in place of its grey."""
    return "#e60026" if label == len(COLOURS) else "#{:02x}{:02x}{:02x}".format(*COLOURS[label - 1])


def of_classes(axis: Axes, boxes: Tensor, labels: Tensor, linewidth: float) -> None:
    """Boxes in the colours of their classes."""
    show_boxes(axis, boxes, [paint_of(k) for k in labels.tolist()], linewidth=linewidth)


def _where_the_losses_look(axis: Axes, sample: RoISample, classes: int) -> None:
    """A table of sampled RoIs by classes: the true class of each, and the boxes that learn."""
    rows = np.arange(len(sample.boxes))
    labels = sample.labels.numpy()
    table = np.full((len(rows), classes + 1), 0.93)  # every logit is in the class loss
    axis.imshow(table, cmap="gray", vmin=0, vmax=1, extent=(0, classes + 1, len(rows), 0))
    for row, label in zip(rows, labels, strict=True):
        paint = paint_of(int(label)) if label else "0.6"
        axis.add_patch(Rectangle((label, row), 1, 1, color=paint, linewidth=0))
    axis.set_aspect("auto")
    axis.set(
        title="the true class of each RoI",
        xticks=[0.5, classes / 2 + 1],
        xticklabels=["background", f"{classes} classes"],
        yticks=[sample.num_positive / 2, (len(rows) + sample.num_positive) / 2],
        yticklabels=["class and\nbox loss", "class\nloss only"],
    )
    axis.tick_params(length=0)
    for x in range(classes + 2):
        axis.axvline(x, color="white", linewidth=0.8)
    axis.axhline(sample.num_positive, color="black", linewidth=0.8)
