"""Two boxes on an image: drag them and read IoU and deltas. Chapter 01."""

from typing import Any

import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.pictures.show import BLUE, ORANGE, SKY, show_boxes, show_image
from mrcnn_edu.widgets.common import Widget, bundle, photograph

WEIGHTS = {"1, 1, 1, 1": (1.0, 1.0, 1.0, 1.0), "10, 10, 5, 5": (10.0, 10.0, 5.0, 5.0)}


class TwoBoxes(Widget):
    """An anchor and an object's box, with their IoU and the deltas from one to the other.

    Args:
        image: uint8 [3, H, W]; what the boxes lie on.
        anchor: the box that is started from, (x1, y1, x2, y2).
        box: the object's.
        traits: `weights`, a key of WEIGHTS; `whole`: corners on whole pixels only; `plus`:
            show the IoU of the old +1 convention too.

    See Chapter 01.
    """

    _esm = bundle("boxes")
    width = traitlets.Int().tag(sync=True)
    height = traitlets.Int().tag(sync=True)
    image = traitlets.Unicode().tag(sync=True)
    anchor = traitlets.List(traitlets.Float(), minlen=4, maxlen=4).tag(sync=True)
    box = traitlets.List(traitlets.Float(), minlen=4, maxlen=4).tag(sync=True)
    weights = traitlets.Enum(list(WEIGHTS), "1, 1, 1, 1").tag(sync=True)
    whole = traitlets.Bool(True).tag(sync=True)
    plus = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self, image: Tensor, anchor: tuple[float, ...], box: tuple[float, ...], **traits: Any
    ) -> None:
        self._pixels = image
        super().__init__(
            width=image.shape[2],
            height=image.shape[1],
            image=photograph(image),
            anchor=[float(v) for v in anchor],
            box=[float(v) for v in box],
            **traits,
        )

    def numbers(self) -> tuple[float, list[float]]:
        """The IoU of the two boxes and the four deltas that turn the anchor into the object."""
        box, anchor = torch.tensor([self.box]), torch.tensor([self.anchor])  # [1, 4]
        deltas = box_ops.encode(box, anchor, WEIGHTS[self.weights])  # [1, 4]
        return box_ops.iou(box, anchor).item(), deltas[0].tolist()

    def figure(self) -> Figure:
        """The image, the boxes and the numbers."""
        from matplotlib.patches import Rectangle

        figure = Figure(figsize=(5.5, 4), layout="constrained")
        axis = figure.subplots()
        show_image(axis, self._pixels)
        x1, y1 = (max(a, b) for a, b in zip(self.box[:2], self.anchor[:2], strict=True))
        x2, y2 = (min(a, b) for a, b in zip(self.box[2:], self.anchor[2:], strict=True))
        if x1 < x2 and y1 < y2:
            axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, color=SKY, alpha=0.5))
        show_boxes(axis, [self.anchor, self.box], [BLUE, ORANGE], linewidth=2)
        overlap, deltas = self.numbers()
        text = ", ".join(
            f"{name} {d:.2f}" for name, d in zip(["dx", "dy", "dw", "dh"], deltas, strict=True)
        )
        axis.set_title(f"IoU {overlap:.3f}   {text}")
        return figure
