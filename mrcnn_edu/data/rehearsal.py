"""A generated set with COCO's own statistics: to rehearse training at full size, without COCO.

In: a number of images and a seed. Out: real JPEG files and a COCO JSON. Image sizes, objects an
image, classes, sizes and corners of polygons, crowd regions and the weight of the files are drawn
from the figures in `data.coco_facts`, so loader, rasteriser and network have the work that COCO
gives them. What it is not: pictures of things. Nothing learned on it is worth anything.

Every image follows from (seed, index) alone. Chapters 12 and 14.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle_ops

from mrcnn_edu.data import coco_facts as facts
from mrcnn_edu.data.rehearsal_outlines import Array, outline, paint, star
from mrcnn_edu.data.write import write_split

QUALITY, GRAIN = 92, 16.0  # together JPEG_BYTES, as photographs of COCO have

# √area of objects is log-normal: two of the three published shares fix it.
_SMALL = NormalDist().inv_cdf(facts.SMALL_MEDIUM_LARGE[0])
_LARGE = NormalDist().inv_cdf(1 - facts.SMALL_MEDIUM_LARGE[2])
SIZE_SIGMA = math.log(96 / 32) / (_LARGE - _SMALL)
SIZE_MU = math.log(32) - _SMALL * SIZE_SIGMA
VERTICES_SIGMA = math.log(facts.VERTICES_90 / facts.VERTICES_MEDIAN) / NormalDist().inv_cdf(0.9)

_TRAIN = facts.SPLITS["train2017"]
EMPTY = facts.EMPTY_IMAGES / _TRAIN.images
OBJECTS_A_FULL_IMAGE = _TRAIN.objects / (_TRAIN.images - facts.EMPTY_IMAGES)  # 7.25
CROWDS_AN_IMAGE = (_TRAIN.annotations - _TRAIN.objects) / _TRAIN.images  # 0.085
# How often an object repeats a class that its image has already: gives CLASSES_AN_IMAGE.
REPEAT = 0.45
_COUNTS = np.array([count for _, _, count in facts.CLASSES], dtype=np.float64)
_CLASS_SHARES = _COUNTS / _COUNTS.sum()  # [80]
_WIDE_NAMED = sum(share for (w, h), share in facts.IMAGE_SIZES.items() if w > h)
_SIZE_SHARES = np.array([*facts.IMAGE_SIZES.values(), 1 - sum(facts.IMAGE_SIZES.values())])


def write_rehearsal(
    folder: str | os.PathLike[str], count: int, seed: int, split: str = "train"
) -> Path:
    """Write images and their JSON, whole or not at all.

    Args:
        folder: of the data set.
        count: how many images.
        seed: of everything that is drawn.
        split: the name of the split.

    Returns:
        the JSON's path.

    Raises:
        ValueError: `count` is less than 1.
        FileExistsError: the split exists already.
    """
    if count < 1:
        raise ValueError(f"{count} images: ask for at least one")
    truth = ground_truth(count, seed)
    return write_split(folder, split, truth, _images(truth, seed), quality=QUALITY)


def ground_truth(count: int, seed: int) -> dict[str, Any]:
    """The COCO dictionary of the set, without its images."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        rng = np.random.default_rng([seed, index, 0])
        width, height = image_size(rng)
        images.append(
            {
                "id": index + 1,
                "file_name": f"{index + 1:012d}.jpg",
                "width": width,
                "height": height,
            }
        )
        for annotation in _annotations((width, height), rng):
            annotations.append({"id": len(annotations) + 1, "image_id": index + 1, **annotation})
    return {
        "info": {"description": f"Generated with COCO's statistics, seed {seed}: no photographs"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name, _ in facts.CLASSES],
    }


def image_size(rng: np.random.Generator) -> tuple[int, int]:
    """(width, height): one of the frequent sizes, or a longer side of 640 and any shorter one."""
    sizes = list(facts.IMAGE_SIZES)
    drawn = int(rng.choice(len(_SIZE_SHARES), p=_SIZE_SHARES))
    if drawn < len(sizes):
        return sizes[drawn]
    short = int(rng.integers(360, 640))
    wide = (facts.WIDE_IMAGES - _WIDE_NAMED) / _SIZE_SHARES[-1]
    return (640, short) if rng.random() < wide else (short, 640)


def _annotations(size: tuple[int, int], rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """All objects of one image, then its crowd regions."""
    count = 0 if rng.random() < EMPTY else int(rng.geometric(1 / OBJECTS_A_FULL_IMAGE))
    labels: list[int] = []
    for _ in range(count):
        again = bool(labels) and rng.random() < REPEAT
        chosen = int(rng.choice(labels)) if again else int(rng.choice(80, p=_CLASS_SHARES))
        labels.append(chosen)
        polygons = _polygons(size, rng)
        yield _annotation(chosen, [p.round(2).ravel().tolist() for p in polygons], 0, size)
    for _ in range(int(rng.poisson(CROWDS_AN_IMAGE))):
        yield _annotation(int(rng.choice(80, p=_CLASS_SHARES)), _crowd(size, rng), 1, size)


def _polygons(size: tuple[int, int], rng: np.random.Generator) -> list[Array]:
    """The outline of one object: most often one polygon, larger ones with more corners."""
    first, second = rng.standard_normal(2)
    rho = facts.SIZE_VERTICES_CORRELATION
    root_area = max(math.exp(SIZE_MU + SIZE_SIGMA * first), 3.0)
    together = rho * first + math.sqrt(1 - rho**2) * second
    corners = max(4, round(facts.VERTICES_MEDIAN * math.exp(VERTICES_SIGMA * together)))
    pieces = 1
    if rng.random() < facts.IN_PIECES:
        pieces = 2 if rng.random() < 0.7 else 3
    aspect = math.exp(rng.normal(0.1, facts.ASPECT_SIGMA))
    return outline([corners] * pieces, root_area, aspect, size, rng)


def _crowd(size: tuple[int, int], rng: np.random.Generator) -> dict[str, Any]:
    """A crowd region: uncompressed run-lengths of a band with a ragged edge, as COCO has."""
    width, height = size
    extent = rng.uniform(0.1, 0.7, 2) * (width, height)
    points = star(60, rng) * extent + rng.uniform(0, 1, 2) * ((width, height) - extent)
    bits = rle_ops.decode(rle_ops.frPyObjects([points.ravel().tolist()], height, width))[:, :, 0]
    flat = bits.ravel(order="F")  # column by column
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *changes, len(flat)]).tolist()
    return {"size": [height, width], "counts": [0, *runs] if flat[0] else runs}


def _annotation(label: int, segmentation: Any, crowd: int, size: tuple[int, int]) -> dict[str, Any]:
    """One annotation, its area and box those of its mask."""
    width, height = size
    rle = rle_ops.frPyObjects(segmentation, height, width)
    rle = rle_ops.merge(rle) if isinstance(rle, list) else rle
    return {
        "category_id": facts.CLASSES[label][0],
        "segmentation": segmentation,
        "area": float(rle_ops.area(rle)),
        "bbox": [float(v) for v in rle_ops.toBbox(rle)],
        "iscrowd": crowd,
    }


def _images(truth: dict[str, Any], seed: int) -> Iterator[NDArray[np.uint8]]:
    """The pictures, one after the other; large objects lie behind small ones."""
    label_of = {category: label for label, (category, _, _) in enumerate(facts.CLASSES)}
    by_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in truth["images"]}
    for a in truth["annotations"]:
        if not a["iscrowd"]:
            by_image[a["image_id"]].append(a)
    for image in truth["images"]:
        found = sorted(by_image[image["id"]], key=lambda a: -a["area"])
        objects = [
            (
                label_of[a["category_id"]],
                [np.reshape(polygon, (-1, 2)) for polygon in a["segmentation"]],
            )
            for a in found
        ]
        rng = np.random.default_rng([seed, image["id"], 1])
        yield paint((image["width"], image["height"]), objects, GRAIN, rng)
