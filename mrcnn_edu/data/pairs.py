"""Two shapes of one class and colour, one lying over the other, shifted by any amount.

A set for one question: can a detector tell two objects apart that differ by little but where they
are? Crosses lie upright or turned by 45°, triangles point up or down, so that of two at the same
place both can be seen. A dark edge is all that separates them. Boxes go around the whole shape,
what is hidden included; masks are the visible part. Chapter 18.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrcnn_edu import masks as mask_ops
from mrcnn_edu.data.dataset import Categories, Dataset, Target
from mrcnn_edu.data.shapes_outline import SUB, UNIT, coverage

NAMES = ("triangle", "cross")
SIZE = 128  # of a picture
_SIDES = (38.0, 48.0, 58.0)  # of the shapes in `scenes`, in pixels
_OTHER_WAY = {"triangle": 180.0, "cross": 45.0}  # degrees
_TRIANGLE = np.array([[0.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
_CROSS = np.array(
    [[-1, -3], [1, -3], [1, -1], [3, -1], [3, 1], [1, 1], [1, 3], [-1, 3], [-1, 1], [-3, 1],
     [-3, -1], [-1, -1]], float,
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """One of a pair."""

    name: str
    turned: bool  # the other way up
    box: tuple[float, float, float, float]  # which it fills from side to side


def outline_mask(shape: Shape, size: int) -> NDArray[np.bool_]:
    """The pixels of a shape that nothing hides, in a square picture: [size, size]."""
    points = {"triangle": _TRIANGLE, "cross": _CROSS}[shape.name]
    angle = np.deg2rad(_OTHER_WAY[shape.name] * shape.turned)
    c, s = np.cos(angle), np.sin(angle)
    points = points @ np.array([[c, s], [-s, c]])
    low, high = points.min(axis=0), points.max(axis=0)
    x1, y1, x2, y2 = shape.box
    points = (points - low) / (high - low) * [x2 - x1, y2 - y1] + [x1, y1]
    top, left, counts = coverage([np.rint(points * UNIT).astype(np.int64)])
    mask = np.zeros((size, size), bool)
    y0, x0 = max(top, 0), max(left, 0)
    part = counts[y0 - top : size - top, x0 - left : size - left] >= SUB * SUB // 2
    mask[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]] = part
    return mask


def paint_pair(
    shapes: list[Shape], size: int, rng: np.random.Generator, label: int | None = None
) -> tuple[Tensor, Target]:
    """Paint shapes from back to front in one colour.

    Args:
        shapes: the last lies in front.
        size: side of the picture.
        rng: draws ground, colour and noise.
        label: of all; None: each has that of its name.

    Returns:
        image uint8 [3, size, size] and target; one that is wholly hidden keeps its box and an
        empty mask.
    """
    ground = rng.uniform(40, 215, 3)
    while np.abs((colour := rng.uniform(60, 235, 3)) - ground).sum() < 150:
        pass
    canvas = np.broadcast_to(ground, (size, size, 3)).copy()
    masks = np.zeros((len(shapes), size, size), np.uint8)
    for i, shape in enumerate(shapes):
        whole = outline_mask(shape, size)
        masks[:, whole] = 0
        masks[i, whole] = 1
        canvas[whole] = colour
        canvas[whole & ~_eroded(whole)] = 0.35 * colour
    canvas += 6 * rng.standard_normal((size, size, 1))
    image = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    labels = [NAMES.index(s.name) + 1 if label is None else label for s in shapes]
    target = {
        "boxes": torch.tensor([s.box for s in shapes], dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": torch.from_numpy(masks),
        "area": torch.from_numpy(masks.sum(axis=(1, 2)).astype(np.float32)),
        "iscrowd": torch.zeros(len(shapes), dtype=torch.int64),
    }
    return torch.from_numpy(image).permute(2, 0, 1).contiguous(), target


def scenes(shift: float, names: tuple[str, str]) -> list[tuple[Tensor, Target]]:
    """Pictures of A and B at one shift: three sizes, either way up, either in front.

    Args:
        shift: of B to the right, in widths.
        names: class of A and of B; B is turned the other way.

    Returns:
        twelve images and targets, A first in each.
    """
    made = []
    for i, side in enumerate(_SIDES):
        for turned in (False, True):
            for front in (0, 1):
                rng = np.random.default_rng([7, i, int(turned), front, round(1000 * shift)])
                x, y = (SIZE - side * (1 + shift)) / 2, (SIZE - side) / 2
                places = (x, x + shift * side)
                pair = [
                    Shape(names[j], turned ^ (j == 1), (places[j], y, places[j] + side, y + side))
                    for j in (0, 1)
                ]
                order = pair if front == 1 else pair[::-1]
                image, target = paint_pair(order, SIZE, rng)
                a_first = [0, 1] if front == 1 else [1, 0]
                made.append((image, {key: value[a_first] for key, value in target.items()}))
    return made


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(mask, 1)
    sides = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return mask & np.logical_and.reduce(sides)


def _sides(boxes: Tensor) -> Tensor:
    return boxes[:, 2:] - boxes[:, :2]


class PairsDataset(Dataset):
    """Pictures of two shapes, most of them of one class, at random shifts.

    Of each enough can be seen to tell where it ends: its visible part is at least 0.6 times as wide
    and as high as the whole.

    Args:
        count: how many.
        seed: of all that is drawn; picture i depends on it and on i alone.
        size: side of a picture.
    """

    def __init__(self, count: int, seed: int, size: int = SIZE) -> None:
        self.seed, self.size = seed, size
        self.categories = Categories((1, 2), NAMES)
        self.image_ids = list(range(1, count + 1))

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """(image uint8 [3, H, W], target)."""
        rng = np.random.default_rng([self.seed, index])
        while True:
            image, target = self._draw(rng)
            seen, whole = _sides(mask_ops.to_boxes(target["masks"])), _sides(target["boxes"])
            if (seen >= 0.6 * whole).all():
                return image, target | {"image_id": torch.tensor(self.image_ids[index])}

    def _draw(self, rng: np.random.Generator) -> tuple[Tensor, Target]:
        names = [NAMES[rng.integers(2)]] * 2
        if rng.random() < 0.2:
            names[1] = NAMES[1 - NAMES.index(names[0])]
        side = rng.uniform(0.28, 0.5) * self.size
        shift = rng.uniform(-1.1, 1.1, 2) * rng.uniform(0, 1) * side
        low, high = np.minimum(0, shift), np.maximum(0, shift) + side
        start = rng.uniform(-low, np.maximum(-low, self.size - high))
        boxes = [(*at, *(at + side)) for at in (start, start + shift)]
        turned = rng.random(2) < 0.5
        shapes = [Shape(n, bool(t), b) for n, t, b in zip(names, turned, boxes, strict=True)]
        return paint_pair(shapes, self.size, rng)

    def ground_truth(self) -> dict[str, Any]:
        """The set as a COCO dictionary."""
        annotations: list[dict[str, Any]] = []
        for index, image_id in enumerate(self.image_ids):
            target = self.target(index)
            for box, label, mask in zip(
                target["boxes"].tolist(), target["labels"].tolist(), target["masks"], strict=True
            ):
                rle = mask_ops.encode(mask)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": label,
                        "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                        "area": int(mask.sum()),
                        "iscrowd": 0,
                        "segmentation": {**rle, "counts": rle["counts"].decode()},
                    }
                )
        images = [
            {"id": i, "file_name": f"{i:06d}.png", "height": self.size, "width": self.size}
            for i in self.image_ids
        ]
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(NAMES)]
        return {"images": images, "annotations": annotations, "categories": categories}
