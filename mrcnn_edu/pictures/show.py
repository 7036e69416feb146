"""What every chapter shows: versions, a function's source, images with boxes in one style.

Axes are in continuous image coordinates: pixel (i, j) covers [j, j + 1) × [i, i + 1), so a box
drawn with its own numbers lies where the library means it; Chapter 01 explains. Needs matplotlib.
"""

import importlib.metadata
import inspect
import platform
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrcnn_edu.pictures.colours import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLE = Path(__file__).with_name("style.mplstyle")
ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK = (f"#{r:02x}{g:02x}{b:02x}" for r, g, b in COLOURS[:7])


def use_style() -> None:
    """Give all further figures the course's fonts, sizes and colours (`style.mplstyle`)."""
    from matplotlib import pyplot

    pyplot.style.use(STYLE)
    pyplot.install_repl_displayhook()  # a notebook then draws figures made without pyplot, too


def versions(*more: str) -> None:
    """Print the versions of what a chapter runs on.

    Args:
        more: names of further distributions.
    """
    print("python", platform.python_version())
    for name in ("torch", "torchvision", "numpy", "numba", *more):
        print(name, importlib.metadata.version(name))


class Source:
    """The source of a function or class; a notebook shows it highlighted."""

    def __init__(self, thing: Callable | type) -> None:
        plain: Any = inspect.unwrap(thing)
        plain = getattr(plain, "py_func", plain)  # what a Numba kernel was made from
        module = inspect.getmodule(plain)
        self.name = f"{module.__name__ if module else '?'}.{plain.__qualname__}".replace(
            ".<locals>", ""
        )
        lines, self.line = inspect.getsourcelines(plain)
        self.text = textwrap.dedent("".join(lines)).rstrip()  # it may stand in another function

    def __repr__(self) -> str:
        return f"source of {self.name}"

    def _repr_markdown_(self) -> str:
        return f"`{self.name}`, line {self.line}\n\n````python\n{self.text}\n````"


def show_source(thing: Callable | type) -> Source:
    """Show the library's own source of a function, class or Numba kernel.

    Raises:
        TypeError: it is not written in Python.
        OSError: its file cannot be read.
    """
    return Source(thing)


def show_image(axis: "Axes", image: Tensor | NDArray, title: str = "", **options: Any) -> None:
    """Draw an image or a map in continuous coordinates: x right, y down, pixels from edge to edge.

    Args:
        axis: where.
        image: [3, H, W] tensor or [H, W, 3] array, uint8 or 0..1; or one channel [H, W].
        title: above it.
        options: for `imshow`.
    """
    pixels = _pixels(image)
    height, width = pixels.shape[:2]
    axis.imshow(pixels, **{"extent": (0, width, height, 0), **options})
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    if title:
        axis.set_title(title)


def show_boxes(
    axis: "Axes",
    boxes: Tensor | NDArray | Sequence[Sequence[float]],
    colour: str | Sequence[str] = RED,
    labels: Sequence[str] | None = None,
    **options: Any,
) -> None:
    """Draw boxes as outlines.

    Args:
        axis: where; its data are image coordinates.
        boxes: [G, 4] xyxy.
        colour: one for all, or G of them.
        labels: G short texts, drawn at the upper left corner.
        options: for `matplotlib.patches.Rectangle`: linewidth, linestyle, alpha.
    """
    from matplotlib.patches import Rectangle

    corners = torch.as_tensor(boxes, dtype=torch.float32).detach().cpu().reshape(-1, 4).tolist()
    colours = [colour] * len(corners) if isinstance(colour, str) else list(colour)
    texts = [""] * len(corners) if labels is None else list(labels)
    for (x1, y1, x2, y2), paint, text in zip(corners, colours, texts, strict=True):
        axis.add_patch(
            Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=paint, **options)
        )
        if text:
            box = {"facecolor": paint, "edgecolor": "none", "pad": 1.5}
            axis.text(x1, y1, text, fontsize=7, va="bottom", bbox=box, clip_on=True)


def show_joints(
    axis: "Axes",
    joints: Tensor,
    names: Sequence[str],
    bones: Sequence[tuple[int, int]],
    **options: Any,
) -> None:
    """Draw people as stick figures: their left in orange, their right in blue, the rest in grey.

    Args:
        axis: where; its data are image coordinates.
        joints: [J, 3] or [G, J, 3], (x, y, v); those with v = 0 are left out.
        names: J of them; `left_` and `right_` at the beginning tell the side.
        bones: pairs of joints, counted from 1 as COCO's skeletons are.
        options: for the lines: linewidth, alpha.
    """

    def paint(*ends: int) -> str:
        side, *others = {names[i].split("_")[0] for i in ends}
        return {"left": ORANGE, "right": BLUE}.get(side, "0.6") if not others else "0.6"

    for person in joints.detach().cpu().reshape(-1, len(names), 3).tolist():
        for a, b in ((a - 1, b - 1) for a, b in bones):
            if person[a][2] > 0 and person[b][2] > 0:
                (x1, y1, _), (x2, y2, _) = person[a], person[b]
                axis.plot([x1, x2], [y1, y2], color=paint(a, b), **{"linewidth": 1.5, **options})
        seen = [(x, y, paint(i)) for i, (x, y, v) in enumerate(person) if v > 0]
        if seen:
            x, y, colours = zip(*seen, strict=True)
            axis.scatter(x, y, s=9, c=colours, edgecolors="black", linewidths=0.4, zorder=3)


def _pixels(image: Tensor | NDArray) -> NDArray:
    """An image as `imshow` wants it: [H, W, 3] or [H, W].

    Raises:
        ValueError: it has another shape.
    """
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        pixels = (image.permute(1, 2, 0) if image.ndim == 3 else image).numpy()  # [H, W, 3]
    else:
        pixels = np.asarray(image)
    if pixels.ndim != 2 and not (pixels.ndim == 3 and pixels.shape[2] == 3):
        raise ValueError(
            f"an image is a tensor [3, H, W] or [H, W] or an array [H, W, 3] or [H, W]; this one "
            f"is {type(image).__name__} {list(image.shape)}"
        )
    return pixels
