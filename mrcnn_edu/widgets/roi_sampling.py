"""RoIPool, RoIWarp and RoIAlign on one feature map: drag the box and see what is read.

In: one channel of a feature map, a box in image coordinates. The widget shows the box and the box
that the operator reads, the bins, the samples with their four neighbours and weights, and the
outputs of the three operators side by side. Mask R-CNN, §3, figure 3. Chapter 05.
"""

import base64
import functools
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from mrcnn_edu.pictures.show import BLUE, RED, show_image
from mrcnn_edu.roi import reference
from mrcnn_edu.widgets.common import Widget, bundle, pack, style, unpack

OPERATORS = {"pool": "RoIPool", "warp": "RoIWarp", "align": "RoIAlign"}


class RoISampling(Widget):
    """Three RoI operators on one feature map, to be dragged.

    Args:
        features: [H, W], one channel; any range.
        box: xyxy in image coordinates, at least one map pixel wide and high, inside the image.
        stride: image pixels a map pixel.
        photograph: uint8 [3, H·stride, W·stride], the image that the map belongs to; shown on
            demand, in a resolution of at most 512 pixels.
        state: first values of `operator` ("pool", "warp", "align"), `bins` (1 to 7),
            `samples` (a bin side, 1 to 4; 0 adaptive), `aligned`, `reduce` ("mean", "max"),
            `bin` (row, column of the one that is explained).

    Raises:
        ValueError: the map is not [H, W], or the box is not inside the image.
    """

    _esm = bundle("roi_sampling")
    _css = style("roi_sampling")

    features = traitlets.Bytes().tag(sync=True)
    size = traitlets.List(traitlets.Int(), minlen=2, maxlen=2).tag(sync=True)
    stride = traitlets.Int().tag(sync=True)
    photograph = traitlets.Unicode("").tag(sync=True)
    photograph_shown = traitlets.Bool(False).tag(sync=True)
    box = traitlets.List(traitlets.Float(), minlen=4, maxlen=4).tag(sync=True)
    operator = traitlets.Enum(list(OPERATORS), "align").tag(sync=True)
    bins = traitlets.Int(3, min=1, max=7).tag(sync=True)
    samples = traitlets.Int(2, min=0, max=4).tag(sync=True)
    aligned = traitlets.Bool(True).tag(sync=True)
    reduce = traitlets.Enum(["mean", "max"], "mean").tag(sync=True)
    bin = traitlets.List(traitlets.Int(min=0), [0, 0], minlen=2, maxlen=2).tag(sync=True)

    def __init__(
        self,
        features: Tensor,
        box: Sequence[float],
        stride: int,
        photograph: Tensor | None = None,
        **state: Any,
    ) -> None:
        if features.ndim != 2 or min(features.shape) < 1:
            raise ValueError(f"features must be one channel [H, W], got {list(features.shape)}")
        height, width = features.shape
        x1, y1, x2, y2 = box
        inside = x1 >= 0 and y1 >= 0 and x2 <= width * stride and y2 <= height * stride
        if not inside or x2 - x1 < stride or y2 - y1 < stride:
            raise ValueError(
                f"box {list(box)} must lie inside the image of {width * stride} × "
                f"{height * stride} pixels and be at least {stride} pixels wide and high"
            )
        super().__init__(
            features=pack(features),
            size=[height, width],
            stride=stride,
            photograph="" if photograph is None else _data_url(photograph),
            box=[float(v) for v in box],
            **state,
        )

    def outputs(self) -> dict[str, Tensor]:
        """The three outputs [P, P] of the present state, by the library's definition."""
        x = unpack(self.features, tuple(self.size)).astype(np.float64)[None]
        size, scale = (self.bins, self.bins), 1 / self.stride
        sampled = functools.partial(
            reference.sampled_forward, x, self.box, size, scale, self.samples, reduce=self.reduce
        )
        outputs = {
            "pool": reference.pool_forward(x, self.box, size, scale),
            "warp": sampled(aligned=False, rounded=True),
            "align": sampled(aligned=self.aligned),
        }
        return {name: torch.from_numpy(output[0]) for name, output in outputs.items()}

    def figure(self) -> Figure:
        """The map with the box and what is read, and the three outputs."""
        values = unpack(self.features, tuple(self.size))
        low, high = float(values.min()), float(values.max())
        dark = low - 0.22 * (high - low)  # as in the widget: lines are seen on dark grey, too
        figure = Figure(figsize=(6.2, 4.4), layout="constrained")
        grid = figure.add_gridspec(3, 2, width_ratios=(3.5, 1))
        axis = figure.add_subplot(grid[:, 0])
        show_image(axis, values, cmap="gray", vmin=dark, vmax=high)
        self._draw_reading(axis)
        for row, (name, output) in enumerate(self.outputs().items()):
            side = figure.add_subplot(grid[row, 1])
            chosen = " ◂" if name == self.operator else ""
            show_image(
                side, output.numpy(), OPERATORS[name] + chosen, cmap="gray", vmin=dark, vmax=high
            )
            if self.bins <= 4:
                for (q, p), value in np.ndenumerate(output.numpy()):
                    ink = "black" if value > (low + high) / 2 else "white"
                    side.text(p + 0.5, q + 0.5, f"{value:.2f}", color=ink, ha="center", va="center")
        return figure

    def _draw_reading(self, axis: Any) -> None:
        """The box in blue, and in red the pixels (RoIPool) or points that are read."""
        size, scale = (self.bins, self.bins), 1 / self.stride
        map_size = (self.size[0], self.size[1])
        if self.operator == "pool":
            for _, _, pixels in reference.pool_bins(self.box, size, map_size, scale):
                if pixels:
                    (top, left), (bottom, right) = pixels[0], pixels[-1]
                    window = (left, top), right - left + 1, bottom - top + 1
                    axis.add_patch(Rectangle(*window, fill=False, edgecolor=RED, linewidth=1))
        else:
            bins = reference.bin_samples(
                self.box, size, map_size, scale, self.samples,
                self.operator == "align" and self.aligned, self.operator == "warp",
            )  # fmt: skip
            # A sample lies at the mean of its four neighbours; pixel j is drawn from j to j + 1.
            points = np.array(
                [
                    [sum(w * (k + 0.5) for i, j, w in taps for k in [pick(i, j)]) for pick in _AXES]
                    for _, _, samples in bins
                    for taps in samples
                    if taps
                ]
            ).reshape(-1, 2)
            axis.plot(*points.T, "o", color=RED, markersize=3, markeredgecolor="white")
        x1, y1, x2, y2 = (v * scale for v in self.box)
        axis.add_patch(
            Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=BLUE, linewidth=2)
        )


_AXES = (lambda i, j: j, lambda i, j: i)  # x, then y


def _data_url(photograph: Tensor) -> str:
    """A uint8 image [3, H, W] as a JPEG of at most 512 pixels a side."""
    picture = Image.fromarray(photograph.permute(1, 2, 0).numpy())
    picture.thumbnail((512, 512))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
