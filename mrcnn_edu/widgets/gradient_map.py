"""Where a gradient arrives: drag a box over a map and see what RoIAlign and RoIPool send back.

In: one channel of a feature map, a box in image coordinates; 4 × 4 bins. The arithmetic is in
`gradient_map.js` too and is tested against the library's autograd. Chapter 06.
"""

from collections.abc import Sequence

import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from mrcnn_edu.pictures.show import RED, show_boxes, show_image
from mrcnn_edu.roi import roi_align, roi_pool
from mrcnn_edu.widgets.common import Widget, bundle, pack, unpack

BINS = 4


class GradientMap(Widget):
    """A map with a box, and beside it the gradient that RoIAlign and RoIPool send to the map.

    Args:
        features: [H, W], one channel; any range.
        box: xyxy in image coordinates.
        stride: image pixels a map pixel.
        state: first values of `bin` (the bin q · 4 + p whose gradient is 1; −1 for all) and
            `samples` (a bin side, 1 to 4).

    Raises:
        ValueError: the map is not [H, W].
    """

    _esm = bundle("gradient_map")

    features = traitlets.Bytes().tag(sync=True)
    size = traitlets.List(traitlets.Int(), minlen=2, maxlen=2).tag(sync=True)
    stride = traitlets.Int().tag(sync=True)
    box = traitlets.List(traitlets.Float(), minlen=4, maxlen=4).tag(sync=True)
    bin = traitlets.Int(-1, min=-1, max=BINS**2 - 1).tag(sync=True)
    samples = traitlets.Int(2, min=1, max=4).tag(sync=True)

    def __init__(self, features: Tensor, box: Sequence[float], stride: int, **state: int) -> None:
        if features.dim() != 2:
            raise ValueError(f"features must be one channel [H, W], got {tuple(features.shape)}")
        super().__init__(
            features=pack(features), size=list(features.shape), stride=stride,
            box=[float(v) for v in box], **state,
        )  # fmt: skip

    def gradients(self) -> tuple[Tensor, Tensor]:
        """What RoIAlign and RoIPool send to the map, by the library's autograd: [H, W] each."""
        values = torch.from_numpy(unpack(self.features, tuple(self.size)).copy())
        maps = values.double()[None, None].requires_grad_()  # [1, 1, H, W]
        roi = torch.tensor([[0.0, *self.box]], dtype=torch.float64)
        sent = torch.ones(BINS**2, dtype=torch.float64)
        if self.bin >= 0:
            sent = torch.eye(BINS**2, dtype=torch.float64)[self.bin]
        scale = 1 / self.stride
        pooled = (
            roi_align(maps, roi, BINS, scale, self.samples, True),
            roi_pool(maps, roi, BINS, scale),
        )
        align, pool = (
            torch.autograd.grad(p, maps, sent.reshape(1, 1, BINS, BINS))[0][0, 0] for p in pooled
        )
        return align, pool

    def figure(self) -> Figure:
        """The map with the box, and both gradients."""
        figure = Figure(figsize=(7, 2.2), layout="constrained")
        axes = figure.subplots(1, 3)
        show_image(axes[0], unpack(self.features, tuple(self.size)), "the map", cmap="gray")
        for axis, gradient, name in zip(
            axes[1:], self.gradients(), ("RoIAlign", "RoIPool"), strict=True
        ):
            reached = int((gradient > 0).sum())
            show_image(axis, gradient, f"{name}: {reached} pixels receive", cmap="viridis", vmin=0)
        for axis in axes:
            show_boxes(axis, [[v / self.stride for v in self.box]], RED)
        return figure
