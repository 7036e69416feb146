"""One joint's heatmap, from logits to a place in the image: softmax, best cell, best pixel.

In: the logits of some joints in one RoI, and the RoI. The widget shows the softmax over the M²
cells with its best one, the logits resized to the RoI's size in pixels with the best pixel, and
where in the image either lands. The RoI can be dragged, and so can the peak: it then becomes a
round one of the reader's own. Mask R-CNN, §5. Chapter 16.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mrcnn_edu.nn.keypoint_head import decode_keypoints
from mrcnn_edu.pictures.show import BLUE, ORANGE, show_boxes, show_image
from mrcnn_edu.widgets.common import Widget, bundle, pack, style, unpack
from mrcnn_edu.widgets.common import photograph as data_url

OWN = "a peak of my own"
MARGIN = 0.3  # of the RoI's longer side, shown around it
SMALLEST = 4  # px, of a RoI that is dragged


class Decoded(NamedTuple):
    """What became of one heatmap."""

    share: float  # of the probability, in the best cell
    cell: tuple[int, int]  # row and column of the best cell
    centre: tuple[float, float]  # of that cell, in the image
    place: tuple[float, float]  # of the best pixel after resizing, in the image


class HeatmapDecode(Widget):
    """Heatmaps that are decoded.

    Args:
        logits: [J, M, M] of one RoI.
        names: J of them.
        box: the RoI, xyxy in pixels of the photograph, inside it, at least 4 pixels a side.
        photograph: uint8 [3, H, W].
        truth: [J, 3], the annotated joints, or None.
        state: first values of `joint` (a name, or `OWN`), `peak` ([x, y] in cells) and `spread`
            (of a peak of one's own, in cells).

    Raises:
        ValueError: shapes do not fit each other, or the box is not inside.
    """

    _esm = bundle("heatmap")
    _css = style("heatmap")

    logits = traitlets.Bytes().tag(sync=True)
    cells = traitlets.Int().tag(sync=True)
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    truth = traitlets.List(traitlets.Float()).tag(sync=True)  # x, y, v of each joint
    photograph = traitlets.Unicode().tag(sync=True)
    size = traitlets.List(traitlets.Int(), minlen=2, maxlen=2).tag(sync=True)
    window = traitlets.List(traitlets.Int(), minlen=4, maxlen=4).tag(sync=True)
    box = traitlets.List(traitlets.Float(), minlen=4, maxlen=4).tag(sync=True)
    joint = traitlets.Unicode().tag(sync=True)
    peak = traitlets.List(traitlets.Float(), minlen=2, maxlen=2).tag(sync=True)
    spread = traitlets.Float(1.5, min=0.2, max=8.0).tag(sync=True)

    def __init__(
        self,
        logits: Tensor,
        names: Sequence[str],
        box: Sequence[float],
        photograph: Tensor,
        truth: Tensor | None = None,
        **state: Any,
    ) -> None:
        if logits.ndim != 3 or logits.shape[1] != logits.shape[2] or len(logits) != len(names):
            raise ValueError(
                f"logits must be [J, M, M] with a name for each of the J joints, got "
                f"{list(logits.shape)} and {len(names)} names"
            )
        height, width = photograph.shape[1:]
        x1, y1, x2, y2 = box = [round(float(v), 1) for v in box]
        inside = x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height
        if not inside or min(x2 - x1, y2 - y1) < SMALLEST:
            raise ValueError(
                f"box {box} must lie inside the image of {width} × {height} pixels and be at least "
                f"{SMALLEST} pixels wide and high"
            )
        margin = MARGIN * max(x2 - x1, y2 - y1)
        cells = logits.shape[1]
        super().__init__(
            logits=pack(logits.float()),
            cells=cells,
            names=list(names),
            truth=[] if truth is None else [round(float(v), 2) for v in truth.flatten()],
            photograph=data_url(photograph),
            size=[height, width],
            window=[
                max(int(x1 - margin), 0),
                max(int(y1 - margin), 0),
                min(int(x2 + margin) + 1, width),
                min(int(y2 + margin) + 1, height),
            ],
            box=box,
            **{"joint": names[0], "peak": [cells / 2, cells / 2], **state},
        )

    def heatmap(self) -> Tensor:
        """The logits [M, M] that are decoded: those of the joint, or the peak of one's own."""
        if self.joint in self.names:
            maps = unpack(self.logits, (len(self.names), self.cells, self.cells))
            return torch.from_numpy(maps[self.names.index(self.joint)].copy())
        centre = torch.arange(self.cells) + 0.5
        x, y = self.peak
        squared = (centre - x) ** 2 + (centre[:, None] - y) ** 2  # [M, M]
        return -squared / (2 * self.spread**2)

    def decoded(self) -> Decoded:
        """What becomes of the heatmap, by the library."""
        heatmap, box = self.heatmap(), torch.tensor([self.box])
        best = int(heatmap.argmax())
        row, column = divmod(best, self.cells)
        found, _ = decode_keypoints(heatmap[None, None], box)
        x1, y1, x2, y2 = self.box
        step = (x2 - x1) / self.cells, (y2 - y1) / self.cells
        return Decoded(
            float(heatmap.flatten().softmax(dim=0)[best]),
            (row, column),
            (x1 + (column + 0.5) * step[0], y1 + (row + 0.5) * step[1]),
            (float(found[0, 0, 0]), float(found[0, 0, 1])),
        )

    def figure(self) -> Figure:
        """The image with both places, the softmax, and the logits resized to the RoI."""
        now, heatmap = self.decoded(), self.heatmap()
        figure = Figure(figsize=(7.4, 2.9), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        show_image(left, _pixels(self.photograph), self.joint)
        show_boxes(left, [self.box], "white")
        x1, y1, x2, y2 = self.box
        place, centre = now.place, now.centre
        left.plot(*centre, "o", color=ORANGE, markersize=8, fillstyle="none", markeredgewidth=2)
        left.plot(*place, "+", color=BLUE, markersize=10, markeredgewidth=2)
        a, b, c, d = self.window
        left.set(xlim=(a, c), ylim=(d, b))
        chances = heatmap.flatten().softmax(dim=0).unflatten(0, heatmap.shape)
        show_image(middle, chances, f"softmax, {self.cells} × {self.cells}", cmap="viridis")
        row, column = now.cell
        middle.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=ORANGE))
        pixels = (max(1, int(np.ceil(y2 - y1))), max(1, int(np.ceil(x2 - x1))))
        resized = F.interpolate(heatmap[None, None], pixels, mode="bicubic")[0, 0]
        title = f"logits, {pixels[1]} × {pixels[0]} pixels"
        show_image(right, resized, title, cmap="viridis", aspect="auto")
        at = int(resized.argmax())
        corner = (at % pixels[1], at // pixels[1])
        right.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=BLUE))
        return figure


def _pixels(url: str) -> NDArray[np.uint8]:
    """The picture of a data URL, [H, W, 3]."""
    import base64
    import io

    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1]))) as image:
        return np.array(image.convert("RGB"))
