"""Shapes: the course's own data set, generated in seconds, hard where COCO is hard.

In: a config, a number of images, a seed. Out: images uint8 [H, W, 3] and a ground truth in COCO
format: ten classes, one to eight objects, painted one over the other, so that a mask is the
*visible* part of its object, exactly; sizes from 8 pixels to most of the image; thin and concave
shapes and one with a hole; textures on objects and ground; and a stick figure with COCO's 17
keypoints. `default_sets` gives the two sets every number in the course refers to; a test freezes
them. Everything that makes the set hard is a field of `ShapesConfig`. Chapter 12.
"""

import hashlib
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle_ops
from torch import Tensor

from mrcnn_edu.data import shapes_paint as paint
from mrcnn_edu.data.coco import CocoFormatDataset
from mrcnn_edu.data.shapes_config import ShapesConfig
from mrcnn_edu.data.shapes_outline import (
    DETAIL,
    KEYPOINTS,
    SKELETON,
    SUB,
    UNIT,
    Outline,
    coverage,
    place,
)
from mrcnn_edu.data.write import write_split

_MIN_VISIBLE_PIXELS = 12
_LEAN_TO_LARGE = 0.85  # 1 draws sizes evenly in their logarithm
_ATTEMPTS = 30  # placements tried before an object is given up

RUNNING = 81  # the running picture, see `running_picture`


@dataclass(frozen=True)
class ShapesSet:
    """Generated images [N, H, W, 3] uint8 with their ground truth, a COCO dictionary.

    Beside COCO's fields an annotation has `full_area`: the pixels in the image before others were
    painted over it, so `area / full_area` is the share that can be seen.
    """

    config: ShapesConfig
    seed: int
    images: NDArray[np.uint8]
    ground_truth: dict[str, Any] = field(repr=False)

    def digest(self) -> str:
        """SHA-256 of the annotations: masks, classes and keypoints; two sets are equal or not."""
        lines = [
            f"{a['image_id']} {a['category_id']} {a['segmentation']['counts']} "
            f"{[round(100 * v) for v in a.get('keypoints', [])]}"
            for a in self.ground_truth["annotations"]
        ]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def default_sets() -> tuple[ShapesSet, ShapesSet]:
    """The course's 1,500 training and 200 validation images, in 5 to 10 seconds."""
    return default_set("train"), default_set("val")


def default_set(split: Literal["train", "val"]) -> ShapesSet:
    """One of the two default sets: 1,500 images of seed 1, or 200 of seed 2."""
    if split == "train":
        return generate(ShapesConfig(), 1500, seed=1)
    return generate(ShapesConfig(), 200, seed=2)


def generate(config: ShapesConfig, num_images: int, seed: int) -> ShapesSet:
    """Generate a set. Image i depends on the config, the seed and i, not on num_images.

    Only `random`, `uniform` and `integers` of NumPy's generator are used, whose streams have not
    changed since they exist. Chapter 12.

    Args:
        config: size of the images, classes and what lies in them.
        num_images: how many.
        seed: of all that is drawn.

    Returns:
        images [num_images, size, size, 3] with their ground truth in COCO's form.

    Raises:
        ValueError: a negative number or seed.
    """
    if num_images < 0 or seed < 0:
        raise ValueError(f"num_images ({num_images}) and seed ({seed}) must not be negative")
    size = config.image_size
    images = np.zeros((num_images, size, size, 3), np.uint8)
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i in range(num_images):
        images[i], found = _scene(config, np.random.default_rng([seed, i]))
        records.append(
            {"id": i + 1, "file_name": f"{i + 1:06d}.png", "width": size, "height": size}
        )
        for a in found:
            annotations.append({"id": len(annotations) + 1, "image_id": i + 1, **a})
    categories: list[dict[str, Any]] = [
        {"id": k, "name": name, "supercategory": "shape"}
        for k, name in enumerate(config.classes, start=1)
    ]
    for category in categories:
        if category["name"] == "person":
            category |= {"keypoints": list(KEYPOINTS), "skeleton": [list(s) for s in SKELETON]}
    info = {"description": "mrcnn_edu Shapes", "seed": seed, "config": asdict(config)}
    ground_truth = {
        "info": info,
        "licenses": [{"id": 1, "name": "CC BY 4.0"}],
        "images": records,
        "annotations": annotations,
        "categories": categories,
    }
    return ShapesSet(config, seed, images, ground_truth)


def _scene(
    config: ShapesConfig, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
    """Paints one image, from back to front, and returns it with its annotations."""
    size = config.image_size
    colours = [paint.ground_colour(rng)]
    canvas = paint.background(rng, size, colours[0], config.texture, config.lines)  # [H, W, 3]
    owner = np.full((size, size), -1, np.int64)  # the front object of a pixel: [H, W]
    objects: list[_Object] = []
    for _ in range(int(rng.integers(1, config.max_objects + 1))):
        label = int(rng.integers(1, len(config.classes) + 1))
        for _ in range(_ATTEMPTS):
            candidate = _place(config, rng, label, objects)
            if _fits(config, candidate, objects, owner):
                break
        else:
            continue
        y0, x0, y1, x1 = candidate.window
        colours.append(paint.colour(rng, colours, config.min_contrast))
        patch = paint.fill(rng, y1 - y0, x1 - x0, colours[-1], config.texture)  # [h, w, 3]
        alpha = (candidate.counts / np.float32(SUB * SUB))[:, :, None].astype(np.float32)
        canvas[y0:y1, x0:x1] += alpha * (patch - canvas[y0:y1, x0:x1])
        owner[y0:y1, x0:x1][candidate.mask] = len(objects)
        objects.append(candidate)
    canvas += np.float32(config.noise) * (2 * rng.random((size, size, 3), np.float32) - 1)
    image = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return image, [_annotate(i, o, owner) for i, o in enumerate(objects)]


@dataclass(frozen=True)
class _Object:
    """A placed shape. window: (y0, x0, y1, x1) inside the image; counts and mask: its pixels."""

    label: int
    size: float
    centre: tuple[float, float]
    outline: Outline
    window: tuple[int, int, int, int]
    counts: NDArray[np.uint8]  # [h, w]
    mask: NDArray[np.bool_]  # [h, w]
    whole_area: int  # pixels, those outside the image too


def _place(
    config: ShapesConfig, rng: np.random.Generator, label: int, objects: list[_Object]
) -> _Object:
    name, limit = config.classes[label - 1], config.image_size
    smallest = config.min_object_size * DETAIL.get(name, 1.0)
    largest = config.max_object_share * limit
    size = smallest * (largest / smallest) ** rng.random() ** _LEAN_TO_LARGE
    cx, cy = rng.uniform(0, limit, 2)
    if objects and rng.random() < config.overlap:
        other = objects[int(rng.integers(0, len(objects)))]
        reach = (size + other.size) / 2 * rng.uniform(0.4, 0.8)
        angle = rng.uniform(0, 2 * np.pi)
        cx, cy = other.centre[0] + reach * np.cos(angle), other.centre[1] + reach * np.sin(angle)
    outline = place(name, size, cx, cy, config.max_turn, rng)
    top, left, counts = coverage(outline.contours)
    y0, x0 = (min(max(v, 0), limit) for v in (top, left))
    y1 = max(y0, min(top + counts.shape[0], limit))
    x1 = max(x0, min(left + counts.shape[1], limit))
    whole_area = int((counts >= SUB * SUB // 2).sum())
    counts = counts[y0 - top : y1 - top, x0 - left : x1 - left]
    mask = counts >= SUB * SUB // 2
    return _Object(label, size, (cx, cy), outline, (y0, x0, y1, x1), counts, mask, whole_area)


def _fits(
    config: ShapesConfig, new: _Object, objects: list[_Object], owner: NDArray[np.int64]
) -> bool:
    """Whether the new object, and each one that it partly hides, still shows enough of itself."""

    def enough(visible: int, whole: int) -> bool:
        return visible >= max(_MIN_VISIBLE_PIXELS, config.min_visible * whole)

    if not enough(int(new.mask.sum()), new.whole_area):
        return False
    y0, x0, y1, x1 = new.window
    before = np.bincount(owner.ravel() + 1, minlength=len(objects) + 1)[1:]
    hidden = np.bincount(owner[y0:y1, x0:x1][new.mask] + 1, minlength=len(objects) + 1)[1:]
    return all(
        hidden[i] == 0 or enough(int(before[i] - hidden[i]), o.whole_area)
        for i, o in enumerate(objects)
    )


def _annotate(index: int, shape: _Object, owner: NDArray[np.int64]) -> dict[str, Any]:
    visible = np.asfortranarray(owner == index, dtype=np.uint8)  # [H, W]
    rle = rle_ops.encode(visible)
    annotation: dict[str, Any] = {
        "category_id": shape.label,
        "iscrowd": 0,
        "area": int(rle_ops.area(rle)),
        "full_area": int(shape.mask.sum()),
        "bbox": [float(v) for v in rle_ops.toBbox(rle)],
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
    }
    if len(shape.outline.joints):
        size = owner.shape[0]
        points: list[float] = []
        for x, y in shape.outline.joints.tolist():
            column, row = x // UNIT, y // UNIT
            if not (0 <= column < size and 0 <= row < size):
                points += [0, 0, 0]
            else:  # hidden only by an object in front, never by the figure's own thin edge
                seen = 1 if owner[row, column] > index else 2
                points += [x / UNIT - 0.5, y / UNIT - 0.5, seen]  # as COCO: pixel indices
        annotation["keypoints"] = points
        annotation["num_keypoints"] = sum(v > 0 for v in points[2::3])
    return annotation


class ShapesDataset(CocoFormatDataset):
    """A ShapesSet as a data set, in memory."""

    def __init__(self, shapes: ShapesSet) -> None:
        super().__init__(shapes.ground_truth, f"Shapes with seed {shapes.seed}")
        self.shapes = shapes

    def load_image(self, index: int) -> NDArray[np.uint8]:
        """RGB uint8 [H, W, 3]."""
        return self.shapes.images[index]


def write_coco(shapes: ShapesSet, folder: str | os.PathLike[str], split: str) -> Path:
    """Write a set as PNG images and a COCO JSON; see `write_split`.

    Args:
        shapes: what `generate` made.
        folder: of the data set.
        split: the name of the split.

    Returns:
        the JSON's path.
    """
    return write_split(folder, split, shapes.ground_truth, shapes.images)


def running_picture() -> tuple[Tensor, dict[str, Tensor]]:
    """The picture that goes through all chapters, with its target: number 81 of the validation set.

    It has what a detector is hard put to: a large object and small ones, a star before a ring,
    a zigzag half hidden by the star, and two rings that touch, so that a map of classes cannot
    count them. Its size is 128 × 128; the running model enlarges it to 192 × 192.
    """
    return ShapesDataset(default_set("val"))[RUNNING]
