"""FCIS's maps under your hand: drag a RoI and see its scores assembled, cell by cell.

In: the k² inside maps and k² outside maps of one class, and the picture they were made of. Out: the
two assembled 21 × 21 maps, their class score and the mask. The arithmetic is in `inside_outside.js`
too and is tested against `mrcnn_edu.related.position_sensitive`. Chapter 18.
"""

from collections.abc import Sequence

import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from mrcnn_edu.pictures.show import RED, show_boxes, show_image
from mrcnn_edu.related.position_sensitive import ps_roi_pool
from mrcnn_edu.widgets.common import Widget, bundle, pack, photograph, unpack

BINS = 21


class InsideOutside(Widget):
    """A picture with a RoI, the maps that its cells read, and what they say together.

    Args:
        image: uint8 [3, H, W].
        maps: [2, k², H / stride, W / stride], inside first, of one class.
        box: xyxy in pixels of the image.
        stride: image pixels a map pixel.
        state: a first value of `which`, "inside" or "outside": whose maps are shown.

    Raises:
        ValueError: the maps are not [2, k², H, W].
    """

    _esm = bundle("inside_outside")

    photo = traitlets.Unicode().tag(sync=True)
    image_size = traitlets.List(traitlets.Int(), minlen=2, maxlen=2).tag(sync=True)
    maps = traitlets.Bytes().tag(sync=True)
    size = traitlets.List(traitlets.Int(), minlen=2, maxlen=2).tag(sync=True)
    cells = traitlets.Int().tag(sync=True)
    stride = traitlets.Int().tag(sync=True)
    box = traitlets.List(traitlets.Float(), minlen=4, maxlen=4).tag(sync=True)
    which = traitlets.Enum(["inside", "outside"], "inside").tag(sync=True)

    def __init__(
        self, image: Tensor, maps: Tensor, box: Sequence[float], stride: int, **state: str
    ) -> None:
        cells = round(maps.shape[1] ** 0.5) if maps.dim() == 4 else 0
        if maps.dim() != 4 or maps.shape[0] != 2 or cells**2 != maps.shape[1]:
            raise ValueError(f"maps must be [2, k², H, W], got {tuple(maps.shape)}")
        super().__init__(
            photo=photograph(image), image_size=list(image.shape[1:]), maps=pack(maps),
            size=list(maps.shape[2:]), cells=cells, stride=stride, box=[float(v) for v in box],
            **state,
        )  # fmt: skip
        self._image = image

    def assembled(self) -> Tensor:
        """Inside and outside scores of the RoI, by the library: [2, 21, 21]."""
        shape = (1, 2 * self.cells**2, *self.size)
        values = torch.from_numpy(unpack(self.maps, shape).copy())
        return ps_roi_pool(values, [torch.tensor([self.box])], BINS, self.cells, 1 / self.stride)[0]

    def figure(self) -> Figure:
        """The picture with the RoI and its cells, both assembled maps, and the mask."""
        inside, outside = self.assembled()
        figure = Figure(figsize=(7.4, 2.1), layout="constrained")
        axes = figure.subplots(1, 4)
        show_image(axes[0], self._image, "drag the RoI")
        show_boxes(axes[0], [self.box], RED)
        x1, y1, x2, y2 = self.box
        for i in range(1, self.cells):
            axes[0].axvline(x1 + (x2 - x1) * i / self.cells, color=RED, lw=0.5)
            axes[0].axhline(y1 + (y2 - y1) * i / self.cells, color=RED, lw=0.5)
        limit = float(torch.stack([inside, outside]).abs().max())
        score = float(torch.maximum(inside, outside).mean())
        for axis, values, name in zip(
            axes[1:3], (inside, outside), ("inside", "outside"), strict=True
        ):
            show_image(axis, values, name, cmap="gray", vmin=-limit, vmax=limit)
        show_image(
            axes[3], (inside - outside).sigmoid(), f"mask; score {score:.2f}",
            cmap="gray", vmin=0, vmax=1,
        )  # fmt: skip
        return figure
