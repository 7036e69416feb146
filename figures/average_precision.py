"""Chapter 11, the take-away: boxes choose objects, the list becomes a curve, the curve a number."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mrcnn_edu.coco_ap import IOU_THRESHOLDS, RECALL_POINTS, evaluate, reference
from mrcnn_edu.coco_ap.cases import one_class
from mrcnn_edu.pictures.show import BLUE, GREEN, RED, SKY, show_boxes

# The chapter's six detections of four objects: (x, y, width, height).
OBJECTS = [(1, (10, 10, 40, 40)), (1, (60, 20, 30, 40))]
OBJECTS += [(2, (20, 20, 40, 50)), (2, (65, 10, 20, 20))]
DETECTIONS = [(1, 0.95, (10, 10, 40, 36)), (1, 0.9, (13, 10, 40, 40)), (2, 0.8, (20, 20, 40, 32))]
DETECTIONS += [(1, 0.7, (0, 58, 30, 20)), (2, 0.6, (65, 10, 20, 16)), (1, 0.4, (60, 20, 30, 30))]
NAMES = "ABCDEF"


def draw() -> Figure:
    """Two images, the ranked list, the curve, and AP at each threshold."""
    import matplotlib.pyplot as plt

    right = _right(0.5)
    figure = plt.figure(figsize=(7.2, 2.75))
    grid = figure.add_gridspec(2, 4, width_ratios=(1, 1.35, 1.75, 1.25))
    for i in (1, 2):
        _draw_image(figure.add_subplot(grid[i - 1, 0]), i, right)
    _draw_list(figure.add_subplot(grid[:, 1]), right)
    _draw_curve(figure.add_subplot(grid[:, 2]), right)
    _draw_thresholds(figure.add_subplot(grid[:, 3]))
    return figure


def _right(threshold: float) -> np.ndarray:
    """[D] whether each detection finds an object."""
    right = np.zeros(len(DETECTIONS), bool)
    for image in (1, 2):
        rows = [d for d, each in enumerate(DETECTIONS) if each[0] == image]
        found = np.array([DETECTIONS[d][2] for d in rows], float)
        objects = np.array([box for i, box in OBJECTS if i == image], float)
        none = np.zeros(len(objects), bool)
        ious = reference.box_overlaps(found, objects, none)  # [D, G]
        right[rows] = reference.match(ious, none, none, threshold)[0] >= 0
    return right


def _draw_image(axis: Axes, image: int, right: np.ndarray) -> None:
    from matplotlib.patches import Rectangle

    axis.set(xlim=(-1, 100), ylim=(80, -1), xticks=[], yticks=[], aspect="equal")
    axis.set_title("1. match" if image == 1 else "", loc="left")
    axis.spines[:].set_visible(True)
    for i, (x, y, w, h) in OBJECTS:
        if i == image:
            axis.add_patch(Rectangle((x, y), w, h, color="0.85"))
    for d, (i, _, (x, y, w, h)) in enumerate(DETECTIONS):
        if i == image:
            paint = GREEN if right[d] else RED
            show_boxes(axis, [[x, y, x + w, y + h]], paint, linewidth=1.2)
            place = (x + w, "right") if d % 2 else (x, "left")
            style = {"fontsize": 7, "weight": "bold", "color": paint, "va": "top"}
            axis.text(place[0], y, f" {NAMES[d]} ", ha=place[1], **style)


def _draw_list(axis: Axes, right: np.ndarray) -> None:
    axis.set(xlim=(0, 1), ylim=(6.6, -1), xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.set_title("2. rank by score", loc="left")
    columns = (0.0, 0.16, 0.56, 1.0)
    hits = np.cumsum(right)
    head = ("", "score", "precision", "recall")
    lines = [head] + [
        (NAMES[d], f"{DETECTIONS[d][1]:.2f}", f"{hits[d]}/{d + 1}", f"{hits[d]}/{len(OBJECTS)}")
        for d in range(len(DETECTIONS))
    ]
    for row, cells in enumerate(lines):
        colour = "0.4" if row == 0 else GREEN if right[row - 1] else RED
        for x, text, side in zip(columns, cells, ("left", "left", "center", "right"), strict=True):
            size = 7 if row == 0 else 9
            axis.text(x, row - 0.2, text, ha=side, va="center", fontsize=size, color=colour)


def _draw_curve(axis: Axes, right: np.ndarray) -> None:
    scores = np.array([d[1] for d in DETECTIONS])
    envelope, recall, _ = reference.precision_recall(
        scores, right, np.ones(len(right), bool), len(OBJECTS)
    )
    raw = np.cumsum(right) / np.arange(1, len(right) + 1)
    points = reference.at_recalls(envelope, recall, RECALL_POINTS)
    axis.fill_between(RECALL_POINTS, points, color=SKY, alpha=0.3, linewidth=0, step="pre")
    axis.plot(recall, raw, color="0.6", linewidth=1)
    axis.scatter(recall, raw, s=16, color=[GREEN if hit else RED for hit in right], zorder=3)
    axis.step(RECALL_POINTS, points, color=BLUE, where="pre", linewidth=1.6)
    for name, r, p in zip(NAMES, recall, raw, strict=True):
        axis.annotate(name, (r, p), (-9, -10), textcoords="offset points", fontsize=7.5)
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1.04), ylim=(0, 1.06))
    axis.text(0.5, 0.2, f"mean of 101 points:\nAP50 = {points.mean():.3f}", ha="center", color=BLUE)
    axis.set_title("3. curve and staircase", loc="left")


def _draw_thresholds(axis: Axes) -> None:
    found = evaluate(*one_class(OBJECTS, DETECTIONS), "bbox")
    values = [(found.ap(t) or 0) / 100 for t in IOU_THRESHOLDS]
    axis.bar(IOU_THRESHOLDS, values, width=0.04, color=[BLUE] + [SKY] * (len(values) - 1))
    mean = float(np.mean(values))
    axis.axhline(mean, color="black", linewidth=1, linestyle="--")
    axis.text(0.975, mean + 0.02, f"AP {mean:.3f}", ha="right", fontsize=8)
    axis.set(xlabel="IoU threshold", ylabel="", ylim=(0, 1.06), xticks=[0.5, 0.7, 0.9])
    axis.set_title("4. ten thresholds", loc="left")
