"""Chapter 03: the best anchor of each object of Shapes, by size and by threshold."""

import numpy as np
import torch
from matplotlib.figure import Figure

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.anchors import pyramid_anchors
from mrcnn_edu.data.shapes import ShapesDataset, default_set
from mrcnn_edu.pictures.show import BLUE, ORANGE, RED, SKY
from mrcnn_edu.presets import TINY_FPN

INPUT = 192  # Shapes' 128 pixels, enlarged as the small model takes them
RATIOS = (0.5, 1.0, 2.0)
STRIDES = (4, 8, 16, 32, 64)
COCO_SIZES = (32, 64, 128, 256, 512)


def draw() -> Figure:
    """Left, IoU by size, under the curve of the ideal object; right, coverage by threshold."""
    import matplotlib.pyplot as plt

    shapes = ShapesDataset(default_set("val"))
    objects = [INPUT / 128 * shapes.target(i)["boxes"] for i in range(len(shapes))]
    every = torch.cat(objects)  # [G, 4]
    side = box_ops.area(every).sqrt()  # [G]
    w, h = every[:, 2] - every[:, 0], every[:, 3] - every[:, 1]
    stretched = (h / w).log2().abs() > np.log2(1.5)  # [G]
    sizes = TINY_FPN.anchor_sizes
    best = best_iou(objects, [(s,) for s in sizes], RATIOS, STRIDES)  # [G]

    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2))
    ideal = np.geomspace(6, 192, 400)
    each = (ideal[:, None] / np.array(sizes)) ** 2  # [400, sizes], area of object : anchor
    left.plot(ideal, np.minimum(each, 1 / each).max(1), color="0.35", linewidth=1.5)
    for mask, colour, name in ((~stretched, BLUE, "under 1.5 : 1"), (stretched, ORANGE, "more")):
        left.plot(side[mask], best[mask], ".", color=colour, markersize=3, label=name, alpha=0.8)
    for threshold in (0.5, 0.7):
        left.axhline(threshold, color="0.6", linestyle=":", linewidth=1)
    left.set(xscale="log", xlabel="√area of the object, pixels", ylabel="IoU with its best anchor")
    left.set_xticks([8, *sizes], [str(v) for v in (8, *sizes)])
    left.minorticks_off()
    left.set(ylim=(0, 1.02), xlim=(6, 192))
    left.legend(title="long side : short side", loc="lower right", markerscale=3)
    left.set_title("sizes 18 to 168, three ratios, five maps")

    thresholds = np.linspace(0.3, 1, 141)
    arms = (
        ("FPN, 18 to 168", BLUE, best),
        ("… squares only", SKY, best_iou(objects, [(s,) for s in sizes], (1.0,), STRIDES)),
        ("… 32 to 512", ORANGE, best_iou(objects, [(s,) for s in COCO_SIZES], RATIOS, STRIDES)),
        ("one map, stride 16", RED, best_iou(objects, [sizes], RATIOS, (16,))),
    )
    for name, colour, values in arms:
        shares = [100 * float((values >= t).float().mean()) for t in thresholds]
        right.plot(thresholds, shares, color=colour, label=name)
    for threshold in (0.5, 0.7):
        right.axvline(threshold, color="0.6", linestyle=":", linewidth=1)
    right.set(xlabel="IoU threshold", ylabel="objects covered, %", ylim=(0, 102), xlim=(0.3, 1))
    right.legend(loc="upper right")
    right.set_title(f"{len(every)} objects of Shapes")
    return figure


def best_iou(objects, sizes_per_level, ratios, strides) -> torch.Tensor:
    """The IoU of each object with its best anchor: [G]."""
    maps = [(INPUT // t, INPUT // t) for t in strides]
    anchors = torch.cat(pyramid_anchors(sizes_per_level, ratios, maps, (INPUT, INPUT)))
    return torch.cat([box_ops.iou(boxes, anchors).amax(1) for boxes in objects])
