"""An object among all anchors of an image: which fit, which become positive. Chapter 03."""

from typing import Any

import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.anchors import pyramid_anchors
from mrcnn_edu.matching import BELOW, BETWEEN, match
from mrcnn_edu.pictures.show import GREEN, ORANGE, RED, show_boxes, show_image
from mrcnn_edu.widgets.common import Widget, bundle, photograph

# Name: ratios, and for each map its stride and its sizes, as multiples of the smallest.
SETS: dict[str, tuple[tuple[float, ...], tuple[tuple[int, tuple[int, ...]], ...]]] = {
    "FPN: 5 maps, 3 anchors a cell": (
        (0.5, 1.0, 2.0),
        ((4, (1,)), (8, (2,)), (16, (4,)), (32, (8,)), (64, (16,))),
    ),
    "FPN, squares only": (
        (1.0,),
        ((4, (1,)), (8, (2,)), (16, (4,)), (32, (8,)), (64, (16,))),
    ),
    "C4: 1 map, 15 anchors a cell": ((0.5, 1.0, 2.0), ((16, (1, 2, 4, 8, 16)),)),
    "Faster R-CNN: 1 map, 9 a cell": ((0.5, 1.0, 2.0), ((16, (4, 8, 16)),)),
}


class AnchorExplorer(Widget):
    """One object's box over a photograph, compared with every anchor of a set.

    Args:
        image: uint8 [3, H, W], sides multiples of 64.
        box: the object, (x1, y1, x2, y2), whole pixels.
        traits: `anchors`, a key of SETS; `base`, the smallest size in pixels, even; `point`,
            the place whose cells are shown; `low_quality`, whether that rule is on.

    See Chapter 03.
    """

    _esm = bundle("anchors")
    width = traitlets.Int().tag(sync=True)
    height = traitlets.Int().tag(sync=True)
    image = traitlets.Unicode().tag(sync=True)
    box = traitlets.List(traitlets.Float(), minlen=4, maxlen=4).tag(sync=True)
    point = traitlets.List(traitlets.Float(), minlen=2, maxlen=2).tag(sync=True)
    anchors = traitlets.Enum(list(SETS), next(iter(SETS))).tag(sync=True)
    base = traitlets.Int(32, min=8, max=64).tag(sync=True)
    low_quality = traitlets.Bool(True).tag(sync=True)

    def __init__(
        self,
        image: Tensor,
        box: tuple[float, ...],
        point: tuple[float, float] = (384.0, 416.0),
        **traits: Any,
    ) -> None:
        height, width = image.shape[1:]
        if height % 64 or width % 64:
            raise ValueError(f"The image is {height}×{width}; both sides must be multiples of 64.")
        self._pixels = image
        super().__init__(
            width=width,
            height=height,
            image=photograph(image),
            box=[float(v) for v in box],
            point=list(point),
            **traits,
        )

    def all_anchors(self) -> Tensor:
        """Every anchor of the chosen set: [A, 4], finest map first."""
        ratios, maps = SETS[self.anchors]
        levels = pyramid_anchors(
            [[self.base * m for m in multiples] for _, multiples in maps],
            ratios,
            [(self.height // stride, self.width // stride) for stride, _ in maps],
            (self.height, self.width),
        )
        return torch.cat(levels)

    def summary(self) -> dict[str, float]:
        """Best IoU and its anchor's index; how many are positive, ignored, negative."""
        anchors, box = self.all_anchors(), torch.tensor([self.box])
        best, index = box_ops.iou(box, anchors)[0].max(0)
        found = match(box, anchors, 0.7, 0.3, self.low_quality)
        return {
            "best": best.item(),
            "index": index.item(),
            "positive": int((found >= 0).sum()),
            "ignored": int((found == BETWEEN).sum()),
            "negative": int((found == BELOW).sum()),
        }

    def figure(self) -> Figure:
        """The photograph, the object, its positives, its best anchor."""
        figure = Figure(figsize=(4.5, 4.5), layout="constrained")
        axis = figure.subplots()
        show_image(axis, self._pixels)
        anchors, said = self.all_anchors(), self.summary()
        found = match(torch.tensor([self.box]), anchors, 0.7, 0.3, self.low_quality)
        show_boxes(axis, anchors[found >= 0], GREEN, linewidth=0.8)
        show_boxes(axis, anchors[[int(said["index"])]], RED, linewidth=2, linestyle="--")
        show_boxes(axis, [self.box], ORANGE, linewidth=2)
        axis.set(xlim=(0, self.width), ylim=(self.height, 0))
        axis.set_title(
            f"best IoU {said['best']:.2f}: {said['positive']} positive, {said['ignored']} ignored, "
            f"{said['negative']:,} negative"
        )
        return figure
