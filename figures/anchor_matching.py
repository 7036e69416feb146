"""Chapter 03, the take-away: lay anchors, compare them with an object, label them."""

import torch
from matplotlib.figure import Figure

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.anchors import pyramid_anchors
from mrcnn_edu.data.shapes import ShapesConfig, ShapesDataset, generate
from mrcnn_edu.matching import match
from mrcnn_edu.pictures.show import GREEN, ORANGE, PINK, SKY, show_boxes, show_image
from mrcnn_edu.presets import TINY_FPN

INPUT = 192
STRIDES = (4, 8, 16, 32, 64)
IMAGE = 8  # of the validation set


def draw() -> Figure:
    """Three panels over one image of Shapes."""
    import matplotlib.pyplot as plt

    shapes = ShapesDataset(generate(ShapesConfig(), IMAGE + 1, seed=2))
    picture, target = shapes[IMAGE]
    objects = INPUT / 128 * target["boxes"]  # [G, 4]
    maps = [(INPUT // t, INPUT // t) for t in STRIDES]
    sizes = [(s,) for s in TINY_FPN.anchor_sizes]
    anchors = torch.cat(pyramid_anchors(sizes, TINY_FPN.anchor_ratios, maps, (INPUT, INPUT)))
    found = match(objects, anchors, 0.7, 0.3, allow_low_quality=True)  # [A]
    strict = match(objects, anchors, 0.7, 0.3, allow_low_quality=False)  # [A]

    figure, axes = plt.subplots(1, 3, figsize=(7, 2.9))
    for axis in axes:
        show_image(axis, picture, extent=(0, INPUT, INPUT, 0))
        axis.set(xlim=(-4, INPUT + 4), ylim=(INPUT + 4, -4))

    axes[0].set_title(f"lay: {len(anchors):,} anchors")
    for stride, colour, mark in ((8, "white", 1.5), (16, SKY, 3), (32, PINK, 5)):
        places = torch.arange(0, INPUT, stride) + 0.0
        y, x = torch.meshgrid(places, places, indexing="ij")
        axes[0].plot(x.flatten(), y.flatten(), ".", color=colour, markersize=mark)

    first = int(box_ops.area(objects).argmax())
    overlap = box_ops.iou(objects[first : first + 1], anchors)[0]  # [A]
    axes[1].set_title(f"compare: {int((overlap >= 0.3).sum())} with IoU ≥ 0.3")
    show_boxes(axes[1], anchors[overlap >= 0.3], SKY, linewidth=0.5)
    show_boxes(axes[1], objects[first], ORANGE, linewidth=2)

    saved = (found >= 0) & (strict < 0)
    axes[2].set_title(f"label: {int((found >= 0).sum())} positive")
    show_boxes(axes[2], anchors[saved], PINK, linewidth=1.2)
    show_boxes(axes[2], anchors[strict >= 0], GREEN, linewidth=1.2)
    show_boxes(axes[2], objects, ORANGE, linewidth=1.8)
    for colour, name in ((ORANGE, "object"), (GREEN, "IoU ≥ 0.7"), (PINK, "low-quality rule")):
        axes[2].plot([], [], color=colour, label=name)
    figure.legend(loc="outside lower right", ncols=3)
    return figure
