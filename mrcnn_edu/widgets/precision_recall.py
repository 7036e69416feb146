"""Detections whose scores can be dragged, and the average precision that follows. Chapter 11."""

from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mrcnn_edu.coco_ap import IOU_THRESHOLDS, RECALL_POINTS, reference
from mrcnn_edu.coco_ap.load import Bools, Floats, Ints
from mrcnn_edu.pictures.show import BLUE, GREEN, ORANGE, RED, show_boxes
from mrcnn_edu.widgets.common import Widget, bundle, pack, unpack

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class PrecisionRecall(Widget):
    """One class on a few images: objects, detections, their curve and its AP.

    Args:
        boxes: [D, 4] xyxy, the detections, D at most 26.
        images: [D] the image of each, 0, 1, …
        scores: [D] in 0..1; what the reader drags.
        objects: [G, 4] xyxy, G at least 1.
        object_images: [G].
        size: (height, width) of each image.
        traits: `iou`, the threshold that is looked at; `cut`, the score from which a detection
            would be shown to a user.
    """

    _esm = bundle("precision_recall")
    size = traitlets.List([0, 0]).tag(sync=True)  # H, W
    boxes = traitlets.Bytes().tag(sync=True)  # float32 [D, 4]
    images = traitlets.List(traitlets.Int()).tag(sync=True)
    scores = traitlets.List(traitlets.Float()).tag(sync=True)
    objects = traitlets.Bytes().tag(sync=True)  # float32 [G, 4]
    object_images = traitlets.List(traitlets.Int()).tag(sync=True)
    thresholds = traitlets.List(IOU_THRESHOLDS.tolist()).tag(sync=True)
    iou = traitlets.Float(0.5).tag(sync=True)
    cut = traitlets.Float(0.5).tag(sync=True)

    def __init__(
        self,
        boxes: Tensor,
        images: list[int],
        scores: list[float],
        objects: Tensor,
        object_images: list[int],
        size: tuple[int, int],
        **traits: Any,
    ) -> None:
        super().__init__(
            boxes=pack(boxes.to(torch.float32)),
            images=images,
            scores=scores,
            objects=pack(objects.to(torch.float32)),
            object_images=object_images,
            size=list(size),
            **traits,
        )

    def matches(self, threshold: float) -> Ints:
        """The object that each detection finds at an IoU threshold, or −1: [D]."""
        found, truth = self._xywh(self.boxes), self._xywh(self.objects)
        image, object_image = np.array(self.images, int), np.array(self.object_images, int)
        ious = reference.box_overlaps(found, truth, np.zeros(len(truth), np.bool_))  # [D, G]
        ious[image[:, None] != object_image] = 0
        order = self._order()
        none = np.zeros(len(truth), np.bool_)
        result = np.full(len(found), -1, np.int64)
        result[order] = reference.match(ious[order], none, none, threshold)[0]
        return result

    def curve(self, threshold: float) -> tuple[Floats, Floats, Floats]:
        """Raw precision, its envelope and recall of the best 1, …, D detections: [D] each."""
        right: Bools = self.matches(threshold)[self._order()] >= 0
        rank = np.arange(1, len(right) + 1)
        everything = np.ones(len(right), np.bool_)
        envelope, recall, _ = reference.precision_recall(
            -rank.astype(np.float64), right, everything, len(self.object_images)
        )
        return np.cumsum(right) / rank, envelope, recall

    def ap(self, threshold: float | None = None) -> float:
        """AP at one threshold, or the mean of the ten; 0 to 1."""
        if threshold is None:
            return float(np.mean([self.ap(t) for t in self.thresholds]))
        _, envelope, recall = self.curve(threshold)
        return float(reference.at_recalls(envelope, recall, RECALL_POINTS).mean())

    def figure(self) -> Figure:
        """The images with objects and detections, and the curve at the chosen threshold."""
        count = 1 + max([*self.images, *self.object_images], default=0)
        height, width = self.size
        figure = Figure(figsize=(7.2, 2.6), layout="constrained")
        axes = figure.subplots(1, count + 1, width_ratios=[1] * count + [1.2])
        found = self.matches(self.iou) >= 0
        for i, axis in enumerate(axes[:-1]):
            axis.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
            axis.set_title(f"image {i + 1}")
            for box, image in zip(self._xyxy(self.objects), self.object_images, strict=True):
                if image == i:
                    show_boxes(axis, box[None], "black", linewidth=1.6, linestyle=":")
            for d, box in enumerate(self._xyxy(self.boxes)):
                if self.images[d] == i:
                    paint = GREEN if found[d] else RED
                    show_boxes(axis, box[None], paint, linewidth=1.4)
                    style = {"color": paint, "weight": "bold", "va": "top", "fontsize": 9}
                    x, side = (box[2], "right") if d % 2 else (box[0], "left")
                    axis.text(x, box[1], f" {LETTERS[d]} ", ha=side, **style)
        self._draw_curve(axes[-1])
        return figure

    def _draw_curve(self, axis: Axes) -> None:
        raw, envelope, recall = self.curve(self.iou)
        axis.plot(recall, raw, ".-", color="0.6", linewidth=0.8)
        points = reference.at_recalls(envelope, recall, RECALL_POINTS)
        axis.fill_between(RECALL_POINTS, points, color=BLUE, alpha=0.2, step="pre")
        axis.step(RECALL_POINTS, points, color=BLUE, where="pre")
        shown = sum(score >= self.cut for score in self.scores)
        if shown:
            axis.plot(recall[shown - 1], raw[shown - 1], "o", color=ORANGE)
        axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1.03), ylim=(0, 1.03))
        axis.set_title(f"AP at IoU {self.iou:.2f}: {self.ap(self.iou):.3f}; AP {self.ap():.3f}")

    def _order(self) -> Ints:
        """Detections by falling score; of equal scores those of the earlier image first: [D]."""
        return np.lexsort((np.array(self.images, int), -np.array(self.scores, np.float64)))

    @staticmethod
    def _xyxy(values: bytes) -> Floats:
        return unpack(values, (-1, 4)).astype(np.float64)

    @classmethod
    def _xywh(cls, values: bytes) -> Floats:
        boxes = cls._xyxy(values)
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
