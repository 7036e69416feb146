"""Two transforms of a picture and its target, in both orders; what is left behind. Chapter 12."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from mrcnn_edu import masks as mask_ops
from mrcnn_edu.data import transforms
from mrcnn_edu.data.dataset import Target
from mrcnn_edu.pictures.colours import COLOURS
from mrcnn_edu.pictures.show import show_boxes, show_image
from mrcnn_edu.widgets.common import Widget, bundle, photograph

STEPS = ("nothing", "mirror", "upside down", "quarter turn", "crop", "resize")
FORGOTTEN = ("nothing", "boxes", "masks", "joints")


class TransformExplorer(Widget):
    """A picture with boxes, masks and joints, through two steps in both orders.

    Args:
        image: uint8 [3, H, W].
        target: its boxes [G, 4], masks [G, H, W] and, where there are any, keypoints [G, J, 3].
        names: of the objects, G of them; numbers where there are none.
        traits: `first` and `second`, of STEPS; `forgotten`, of FORGOTTEN: what the code does
            not move; `chosen`: the object whose numbers are shown; `window`: what "crop" cuts
            out, top, left, height, width, less where the picture ends before it; `resized`: the
            height and width that "resize" gives.

    See Chapter 12.
    """

    _esm = bundle("transforms")
    image = traitlets.Unicode().tag(sync=True)
    size = traitlets.List(traitlets.Int(), minlen=2, maxlen=2).tag(sync=True)  # H, W
    boxes = traitlets.List(traitlets.List()).tag(sync=True)  # [G, 4]
    runs = traitlets.List(traitlets.List()).tag(sync=True)  # of each mask, as COCO writes them
    joints = traitlets.List(traitlets.List()).tag(sync=True)  # [G, J, 3]
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    window = traitlets.List(traitlets.Int(), minlen=4, maxlen=4).tag(sync=True)
    resized = traitlets.List(traitlets.Int(), minlen=2, maxlen=2).tag(sync=True)
    first = traitlets.Enum(STEPS, "mirror").tag(sync=True)
    second = traitlets.Enum(STEPS, "crop").tag(sync=True)
    forgotten = traitlets.Enum(FORGOTTEN, "nothing").tag(sync=True)
    chosen = traitlets.Int(0).tag(sync=True)

    def __init__(
        self, image: Tensor, target: Target, names: Sequence[str] = (), **traits: Any
    ) -> None:
        self._image, self._target = image, target
        count, (height, width) = len(target["boxes"]), image.shape[1:]
        joints = target.get("keypoints", torch.zeros(count, 0, 3))
        short = min(height, width)
        super().__init__(
            image=photograph(image),
            size=[height, width],
            boxes=target["boxes"].tolist(),
            runs=[mask_ops.to_runs(mask) for mask in target["masks"]],
            joints=joints.tolist(),
            names=list(names) or [f"object {k}" for k in range(count)],
            # Inside the picture however it is turned, and off its middle, so that orders differ.
            **{
                "window": [5 * short // 16, short // 16, 5 * short // 8, 9 * short // 16],
                "resized": [9 * height // 8, 3 * width // 2],
                **traits,
            },
        )

    def through(self, steps: Sequence[str], target: Target | None = None) -> tuple[Tensor, Target]:
        """The image and its target, or another target of it, after some steps, by the library."""
        image, target = self._image, self._target if target is None else target
        for name in steps:
            image, target = self._step(name, image, target)
        return image, target

    def _step(self, name: str, image: Tensor, target: Target) -> tuple[Tensor, Target]:
        if name == "mirror":
            return transforms.horizontal_flip(image, target)
        if name == "upside down":
            return transforms.vertical_flip(image, target)
        if name == "quarter turn":
            return transforms.quarter_turn(image, target, 1)
        if name == "crop":
            top, left, height, width = self.window
            height, width = min(height, image.shape[1] - top), min(width, image.shape[2] - left)
            return transforms.crop_window(image, target, top, left, height, width)
        if name == "resize":
            old, new = image.shape[1:], self.resized
            pixels = torch.nn.functional.interpolate(image[None].float(), new, mode="bilinear")[0]
            return pixels.round().to(torch.uint8), transforms.resize_target(target, old, new)
        return image, target

    def figure(self) -> Figure:
        """Both orders side by side."""
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.subplots(1, 2)
        orders = [(self.first, self.second), (self.second, self.first)]
        numbered = self._target | {"labels": torch.arange(len(self.boxes))}  # keep their colours
        done = [self.through(order, numbered) for order in orders]
        side = max(max(image.shape[1:]) for image, _ in done)
        for axis, (one, two), (image, target) in zip(axes, orders, done, strict=True):
            show_image(axis, image, f"{one}, then {two}")
            parts = {part: numbered if part == self.forgotten else target for part in FORGOTTEN[1:]}
            masks, joints = parts["masks"]["masks"], parts["joints"].get("keypoints")
            height, width = image.shape[1:]
            for k, mask in zip(
                parts["masks"]["labels"], _fitted(masks, (height, width)), strict=True
            ):
                paint = np.array(COLOURS[k % len(COLOURS)]) / 255
                tint = np.empty((height, width, 4))
                tint[..., :3], tint[..., 3] = paint, 0.55 * mask.numpy()
                axis.imshow(tint, extent=(0, width, height, 0))
            boxes = parts["boxes"]
            show_boxes(axis, boxes["boxes"], [_hex(k) for k in boxes["labels"]], linewidth=1.2)
            if joints is not None:
                x, y, seen = joints.reshape(-1, 3).T
                axis.plot(x[seen > 0], y[seen > 0], "w.", markersize=2)
            axis.set(xlim=(-1, side + 1), ylim=(side + 1, -1))
        return figure


def _hex(k: Any) -> str:
    return "#{:02x}{:02x}{:02x}".format(*COLOURS[k % len(COLOURS)])


def _fitted(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks on a canvas of another size, cut or filled up on the right and below: [G, *size]."""
    canvas = masks.new_zeros((len(masks), *size))
    height, width = (min(a, b) for a, b in zip(masks.shape[1:], size, strict=True))
    canvas[:, :height, :width] = masks[:, :height, :width]
    return canvas
