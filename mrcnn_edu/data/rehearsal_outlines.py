"""Outlines and textures of the rehearsal set: polygons of a given area, pictures of a given weight.

In: a size, a number of corners, a generator. Out: polygons like those of an annotator, and uint8
images that cost a JPEG decoder what a photograph does. Chapter 12.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Array = NDArray[np.float64]


def star(corners: int, rng: np.random.Generator) -> Array:
    """A closed outline without crossings around its middle, scaled to the unit square: [V, 2]."""
    turns = (np.arange(corners) + rng.uniform(0, 0.8, corners)) * (2 * np.pi / corners)
    waves = rng.normal(0, 0.22, 2)
    shape = 1 + waves[0] * np.cos(2 * turns + rng.uniform(0, 6)) + waves[1] * np.cos(3 * turns)
    radius = np.clip(shape * rng.uniform(0.75, 1.25, corners), 0.25, None)
    points = np.stack([radius * np.cos(turns), radius * np.sin(turns)], axis=1)
    low, high = points.min(axis=0), points.max(axis=0)
    return (points - low) / (high - low)


def area(points: Array) -> float:
    """The area inside an outline: half the sum of cross products, Gauss's shoelace."""
    x, y = points.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def outline(
    pieces: list[int],
    root_area: float,
    aspect: float,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> list[Array]:
    """Polygons side by side in one box, of `root_area`² pixels together, inside the image.

    Args:
        pieces: corners of each.
        root_area: the square root of the wanted area. An object that would not fit is cut down.
        aspect: height by width of the box, where the image has room for it.
        size: (width, height) of the image.
        rng: draws shape and place.

    Returns:
        each [V, 2], x and y in pixels.
    """
    shapes = [star(corners, rng) for corners in pieces]
    fill = sum(map(area, shapes)) / len(shapes)  # each in its own part of the box
    limit = np.array(size, dtype=np.float64)
    box_area = root_area**2 / fill
    width = min(math.sqrt(box_area / aspect), limit[0])
    height = min(box_area / width, limit[1])
    width = min(box_area / height, limit[0])
    extent = np.array([width, height])
    corner = rng.uniform(0, 1, 2) * (limit - extent)
    step = width / len(shapes)
    polygons = []
    for i, shape in enumerate(shapes):
        place = corner + np.array([i * step, 0])
        polygons.append(np.clip(shape * [step, height] + place, 0, limit))
    return polygons


def background(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Clouds, mostly grey: noise on grids of 4 to 64 cells a side, the finer the weaker."""
    width, height = size
    total = np.zeros((height, width, 3), dtype=np.float32)
    for octave in range(5):
        cells = 4 << octave
        grey, colour = rng.uniform(-1, 1, (cells, cells, 1)), rng.uniform(-1, 1, (cells, cells, 3))
        grid = (0.8 * grey + 0.3 * colour) * 96 * 0.6**octave + 128
        small = Image.fromarray(grid.clip(0, 255).astype(np.uint8))
        total += np.asarray(small.resize(size, Image.Resampling.BICUBIC), dtype=np.float32) - 128
    return Image.fromarray((total + 118).clip(0, 255).astype(np.uint8))


def paint(
    size: tuple[int, int],
    objects: list[tuple[int, list[Array]]],
    grain: float,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """An image uint8 [H, W, 3]: clouds, objects in their class's colour, and film grain over all.

    Args:
        size: (width, height).
        objects: (class from 0, polygons), from the back to the front.
        grain: standard deviation of the grain in grey levels. It decides how heavy the JPEG is.
        rng: draws clouds and grain.
    """
    image = background(size, rng)
    brush = ImageDraw.Draw(image)
    for label, polygons in objects:
        colour = np.random.default_rng(label).integers(20, 236, 3)  # the class's own
        tint = tuple(int(v) for v in (colour + rng.integers(-20, 21, 3)).clip(0, 255))
        for points in polygons:
            brush.polygon([tuple(p) for p in points], fill=tint, outline=(20, 20, 20))
    pixels = np.asarray(image, dtype=np.float32)
    noise = rng.standard_normal(pixels.shape[:2], dtype=np.float32)[:, :, None] * grain
    return (pixels + noise).clip(0, 255).astype(np.uint8)
