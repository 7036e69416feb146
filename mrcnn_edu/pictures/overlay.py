"""Pictures: detections over an image, beside the ground truth, and the curves of a run.

`overlay` works on plain arrays and needs only Pillow; the figures need matplotlib. A class has one
colour in every picture; where there is one class only, each object has its own. The colours are
Okabe and Ito's and three of Tol's, which colour-blind readers can tell apart.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mrcnn_edu import masks as mask_ops
from mrcnn_edu.pictures.colours import COLOURS
from mrcnn_edu.record import Detections


def overlay(
    image: Tensor,
    boxes: Tensor,
    labels: Sequence[str],
    masks: Iterable[Tensor],
    colours: Sequence[int],
    scale: int = 1,
    opacity: float = 0.45,
) -> Image.Image:
    """Paint boxes, masks and labels over an image.

    Args:
        image: uint8 [3, H, W], RGB.
        boxes: [G, 4] xyxy in pixels of the image.
        labels: G short texts; "" for none.
        masks: G masks [H, W], 0 or 1; a tensor [G, H, W], or a generator to save memory.
        colours: G numbers in `COLOURS`; they start over behind its end.
        scale: enlarge the picture this many times, so that a line is thin on small images.
        opacity: of the masks, 0..1.

    Returns:
        an RGB picture of (W · scale) × (H · scale) pixels.
    """
    picture = image.permute(1, 2, 0).cpu().numpy().astype(np.float32)  # [H, W, 3]
    picture = picture.repeat(scale, axis=0).repeat(scale, axis=1)
    paints = [COLOURS[c % len(COLOURS)] for c in colours]
    for paint, mask in zip(paints, masks, strict=True):
        colour = np.array(paint, np.float32)
        whole = mask.cpu().numpy().astype(bool)  # [H, W]
        rows, columns = _window(whole)
        inside = whole[rows, columns].repeat(scale, axis=0).repeat(scale, axis=1)
        alpha = np.where(_outline(inside, max(1, scale // 2)), 1.0, opacity * inside)[..., None]
        window = tuple(slice(s.start * scale, s.stop * scale) for s in (rows, columns))
        picture[window] = picture[window] * (1 - alpha) + colour * alpha
    canvas = Image.fromarray(picture.round().astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    side = min(canvas.size)
    font = ImageFont.load_default(size=max(10, side // 32))
    line = max(1, side // 300)
    corners = (boxes.cpu() * scale).tolist()
    for paint, (x1, y1, x2, y2) in zip(paints, corners, strict=True):
        x2, y2 = max(x1, x2 - 1), max(y1, y2 - 1)  # the line lies on the box's last pixel
        draw.rectangle([x1, y1, x2, y2], outline=paint, width=line)
    for paint, corner, text in zip(paints, corners, labels, strict=True):
        if text:
            _label(draw, (corner[0], corner[1]), text, paint, font, canvas.size)
    return canvas


def draw_detections(
    image: Tensor,
    detections: Detections,
    names: Sequence[str],
    min_score: float = 0.5,
    scale: int = 1,
    paste: mask_ops.Dialect = "continuous",
    threshold: float = 0.5,
) -> Image.Image:
    """Paint the detections of an image with at least `min_score`.

    Args:
        image: uint8 [3, H, W].
        detections: in pixels of the image.
        names: the name of each class, label 1 first.
        min_score: leave out detections below.
        scale: see `overlay`.
        paste: dialect of `mrcnn_edu.masks.paste`.
        threshold: a pixel is in the mask if its probability is above.
    """
    shown = (detections.scores >= min_score).cpu()
    boxes, labels = detections.boxes.cpu()[shown], detections.labels.cpu()[shown]
    size = (image.shape[1], image.shape[2])
    masks: Iterable[Tensor] = torch.zeros(len(boxes), *size, dtype=torch.uint8)  # no mask head
    if detections.masks is not None:
        rles = mask_ops.paste_to_rle(detections.masks.cpu()[shown], boxes, size, threshold, paste)
        masks = (mask_ops.decode(rle) for rle in rles)  # one image-sized mask at a time
    scores = detections.scores.cpu()[shown]
    texts = [
        f"{name} {score:.2f}" if name else ""
        for name, score in zip(_names(labels, names), scores.tolist(), strict=True)
    ]
    return overlay(image, boxes, texts, masks, _colours(labels, names), scale)


def draw_target(
    image: Tensor, target: dict[str, Tensor], names: Sequence[str], scale: int = 1
) -> Image.Image:
    """Paint the ground truth of an image.

    Args:
        image: uint8 [3, H, W].
        target: its boxes, labels, and masks if it has any.
        names: of the classes.
        scale: how many times as large it is drawn.
    """
    texts = _names(target["labels"], names)
    colours = _colours(target["labels"], names)
    nothing = torch.zeros(image.shape[1:], dtype=torch.uint8)  # [H, W]
    masks = target.get("masks", [nothing] * len(texts))
    return overlay(image, target["boxes"], texts, masks, colours, scale)


def save_comparison(
    path: Path,
    rows: Sequence[tuple[Image.Image, Image.Image]],
    columns: int = 3,
) -> None:
    """Save pairs of pictures as one picture.

    Args:
        path: the file to write.
        rows: pairs (ground truth, detections).
        columns: pairs a row.
    """
    from matplotlib.figure import Figure

    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(4.4 * columns, 2.35 * lines), layout="constrained", dpi=150)
    axes = figure.subplots(lines, 2 * columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for i, (truth, found) in enumerate(rows):
        line, column = divmod(i, columns)
        for axis, picture, title in (
            (axes[line, 2 * column], truth, "ground truth"),
            (axes[line, 2 * column + 1], found, "detected"),
        ):
            axis.imshow(np.asarray(picture))
            axis.set_title(title, fontsize=9)
    figure.savefig(path)


def to_image(array: NDArray[np.uint8]) -> Tensor:
    """Turn an RGB array [H, W, 3] into the tensor [3, H, W] that this module draws on."""
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


def _names(labels: Tensor, names: Sequence[str]) -> list[str]:
    """The name of each label; none where there is but one class: it would only hide objects."""
    return [names[label - 1] if len(names) > 1 else "" for label in labels.tolist()]


def _colours(labels: Tensor, names: Sequence[str]) -> list[int]:
    """A colour for each class; for each object where there is but one class."""
    return (labels - 1).tolist() if len(names) > 1 else list(range(len(labels)))


def _window(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The rows and columns that hold all of a mask [H, W]; empty slices for an empty mask."""
    ranges = []
    for axis in (1, 0):
        used = np.flatnonzero(mask.any(axis=axis))
        ranges.append(slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 0))
    return ranges[0], ranges[1]


def _outline(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Pixels of the mask [H, W] that are within `width` of its edge."""
    inner = mask.copy()
    for _ in range(width):
        padded = np.pad(inner, 1)
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _label(
    draw: ImageDraw.ImageDraw,
    corner: tuple[float, float],
    text: str,
    colour: tuple[int, int, int],
    font: Any,
    size: tuple[int, int],
) -> None:
    """Write a text on its colour, above the box's corner where there is room, else inside."""
    text = _drawable(text, font)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right - left + 4, bottom - top + 4
    x = min(max(0, corner[0]), max(0, size[0] - width))
    y = corner[1] - height if corner[1] >= height else corner[1]
    y = min(max(0, y), max(0, size[1] - height))
    draw.rectangle([x, y, x + width, y + height], fill=colour)
    dark = sum(c * w for c, w in zip(colour, (0.3, 0.59, 0.11), strict=True)) < 120
    draw.text((x + 2 - left, y + 2 - top), text, fill=(255,) * 3 if dark else (0,) * 3, font=font)


def _drawable(text: str, font: Any) -> str:
    """The text with what the font cannot draw written otherwise, e for é, U+74F6 for 瓶.

    It would draw the same empty box for each of them, and two names would look alike.
    """
    nothing = _shape(font, chr(0x10FFFF))  # no font has this one
    drawn = []
    for c in text:
        plain = unicodedata.normalize("NFKD", c)[0]
        lacks = not c.isascii() and _shape(font, c) == nothing
        drawn.append(c if not lacks else plain if plain.isascii() else f"U+{ord(c):04X} ")
    return "".join(drawn)


def _shape(font: Any, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)
