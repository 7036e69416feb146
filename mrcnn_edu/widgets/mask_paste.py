"""One object's mask, cut to M × M cells and pasted back: what is lost on the way.

In: the bitmap of an object and its box. The widget cuts the bitmap to 7, 14, 28 or 56 cells a side,
pastes it by either dialect, and colours what is missing and what is too much; the box of the paste
can be dragged, with the cut or without it. Mask R-CNN, §3. Chapter 09.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
import traitlets
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from mrcnn_edu import masks as mask_ops
from mrcnn_edu.pictures.show import BLUE, GREEN, RED, show_boxes, show_image
from mrcnn_edu.widgets.common import Widget, bundle, pack, style, unpack
from mrcnn_edu.widgets.common import photograph as data_url

CELLS = (7, 14, 28, 56)
MARGIN = 0.35  # of the box's longer side, shown around it


class MaskPaste(Widget):
    """A mask that is cut and pasted.

    Args:
        mask: [H, W], 0 or 1.
        box: xyxy in pixels of the mask, at least two pixels wide and high, inside the image.
        photograph: uint8 [3, H, W], the image that the mask belongs to.
        state: first values of `cells` (7, 14, 28 or 56), `threshold`, `dialect`
            ("continuous" or "torchvision") and `recut` (cut the mask where it is pasted; else it
            stays cut from `box`).

    Raises:
        ValueError: the mask is not [H, W], or the box is not inside it.
    """

    _esm = bundle("mask_paste")
    _css = style("mask_paste")

    mask = traitlets.Bytes().tag(sync=True)
    size = traitlets.List(traitlets.Int(), minlen=2, maxlen=2).tag(sync=True)
    photograph = traitlets.Unicode("").tag(sync=True)
    window = traitlets.List(traitlets.Int(), minlen=4, maxlen=4).tag(sync=True)
    cut_box = traitlets.List(traitlets.Float(), minlen=4, maxlen=4).tag(sync=True)
    box = traitlets.List(traitlets.Float(), minlen=4, maxlen=4).tag(sync=True)
    cells = traitlets.Enum(list(CELLS), 28).tag(sync=True)
    threshold = traitlets.Float(0.5, min=0.05, max=0.95).tag(sync=True)
    dialect = traitlets.Enum(["continuous", "torchvision"], "continuous").tag(sync=True)
    recut = traitlets.Bool(True).tag(sync=True)

    def __init__(
        self, mask: Tensor, box: Sequence[float], photograph: Tensor | None = None, **state: Any
    ) -> None:
        if mask.ndim != 2:
            raise ValueError(f"mask must be one bitmap [H, W], got {list(mask.shape)}")
        height, width = mask.shape
        x1, y1, x2, y2 = box = [round(float(v), 1) for v in box]
        inside = x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height
        if not inside or x2 - x1 < 2 or y2 - y1 < 2:
            raise ValueError(
                f"box {box} must lie inside the image of {width} × {height} pixels and be at least "
                "2 pixels wide and high"
            )
        margin = MARGIN * max(x2 - x1, y2 - y1)
        super().__init__(
            mask=pack(mask.float()),
            size=[height, width],
            photograph="" if photograph is None else data_url(photograph),
            window=[
                max(int(x1 - margin), 0),
                max(int(y1 - margin), 0),
                min(int(x2 + margin) + 1, width),
                min(int(y2 + margin) + 1, height),
            ],
            cut_box=box,
            box=box,
            **state,
        )

    def pasted(self) -> tuple[Tensor, Tensor]:
        """The mask [M, M] and the probabilities of the whole image [H, W], by the library."""
        truth = torch.from_numpy(unpack(self.mask, tuple(self.size)) != 0)[None]  # [1, H, W]
        box, index = torch.tensor([self.box]), torch.zeros(1, dtype=torch.int64)
        cut_box = box if self.recut else torch.tensor([self.cut_box])
        cut = mask_ops.crop_to_boxes(truth, cut_box, index, self.cells, aligned=True)  # [1, M, M]
        height, width = self.size
        dialect = cast(mask_ops.Dialect, self.dialect)
        return cut[0], mask_ops.paste(cut, box, (height, width), dialect)[0]

    def figure(self) -> Figure:
        """What is right, missing and too much around the object, and the cells of the mask."""
        cells, image = self.pasted()
        truth = unpack(self.mask, tuple(self.size)) != 0
        found = image.numpy() > self.threshold
        pixels = np.ones((*self.size, 3))
        for where, colour in (
            (found & truth, GREEN),
            (truth & ~found, BLUE),
            (found & ~truth, RED),
        ):
            pixels[where] = to_rgb(colour)
        iou = (found & truth).sum() / max((found | truth).sum(), 1)
        figure = Figure(figsize=(6.2, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
        missing, extra = (truth & ~found).sum(), (found & ~truth).sum()
        wrong = f"{missing} missing (blue), {extra} too many (orange)"
        show_image(left, pixels, f"IoU {iou:.3f}\n{wrong}")
        show_boxes(left, [self.box], "black")
        x1, y1, x2, y2 = self.window
        left.set(xlim=(x1, x2), ylim=(y2, y1))
        show_image(
            right, cells, f"the mask, {self.cells} × {self.cells}", cmap="gray", vmin=0, vmax=1
        )
        return figure
