"""Colours and textures of the Shapes set.

In: a NumPy generator, sizes in pixels, the strength of textures. Out: float32 RGB patches
[h, w, 3] in 0..255. Colours are drawn without regard to the class, so colour alone tells nothing;
what is told apart is outline and texture edges. Every object keeps a distance in colour to the
background and to the objects placed before it.
"""

import math

import numpy as np
from numpy.typing import NDArray

Patch = NDArray[np.float32]


def _smooth(rng: np.random.Generator, h: int, w: int, cell: float) -> Patch:
    """Random heights on a coarse grid, interpolated: clouds of about `cell` pixels."""

    def weights(n: int) -> tuple[int, Patch]:
        knots = int(n / cell) + 2
        at = (np.arange(n, dtype=np.float32) + 0.5) / cell
        knot = np.arange(knots, dtype=np.float32)
        return knots, np.maximum(0, 1 - np.abs(at[:, None] - knot)).astype(np.float32)

    (rows, wy), (columns, wx) = weights(h), weights(w)
    heights = (2 * rng.random((rows, columns)) - 1).astype(np.float32)
    return (wy @ heights @ wx.T).astype(np.float32)  # [h, w]


def texture(rng: np.random.Generator, h: int, w: int, period: float) -> Patch:
    """A pattern: plain, gradient, stripes, checks, dots or clouds.

    Args:
        rng: what is drawn from.
        h, w: size in pixels.
        period: pixels from stripe to stripe.

    Returns:
        [h, w] in −1..1.
    """
    kind = rng.integers(0, 6)
    if kind == 0:
        return np.zeros((h, w), np.float32)
    if kind == 5:
        return np.clip(1.6 * _smooth(rng, h, w, period), -1, 1)
    angle = rng.uniform(0, 2 * math.pi)
    c, s = math.cos(angle), math.sin(angle)
    x = np.arange(w, dtype=np.float32)[None, :] - w / 2
    y = np.arange(h, dtype=np.float32)[:, None] - h / 2
    u = (c * x + s * y).astype(np.float32)  # [h, w]
    if kind == 1:
        return u * np.float32(2 / max(h, w))
    k = np.float32(2 * math.pi / period)
    if kind == 2:
        return np.clip(1.5 * np.sin(k * u), -1, 1)
    v = (c * y - s * x).astype(np.float32)  # [h, w]
    product = np.sin(k * u) * np.sin(k * v)
    if kind == 3:
        return np.clip(3 * product, -1, 1)
    return np.clip(4 * (np.abs(product) - 0.5), -1, 1)


def colour(rng: np.random.Generator, others: list[Patch], min_contrast: float) -> Patch:
    """A colour [3] whose Euclidean distance to each of `others` is at least `min_contrast`.

    With many others there may be none: then the candidate farthest from its nearest other.

    Args:
        rng: what is drawn from.
        others: colours [3], 0..255.
        min_contrast: the least distance.
    """
    best, best_gap = np.zeros(3, np.float32), -1.0
    for _ in range(24):
        candidate = rng.uniform(20, 235, 3).astype(np.float32)
        gap = min((float(np.sqrt(((candidate - o) ** 2).sum())) for o in others), default=1e9)
        if gap > best_gap:
            best, best_gap = candidate, gap
        if gap >= min_contrast:
            break
    return best


def ground_colour(rng: np.random.Generator) -> Patch:
    """A colour [3] for the ground, half as vivid as an object's, to rest the eye."""
    vivid = colour(rng, [], 0.0)
    return ((vivid + vivid.mean()) / 2).astype(np.float32)


def fill(rng: np.random.Generator, h: int, w: int, base: Patch, strength: float) -> Patch:
    """A patch [h, w, 3] around the colour `base`, textured.

    Args:
        rng: what is drawn from.
        h, w: size in pixels.
        base: colour [3], 0..255.
        strength: amplitude of the texture, 0..255.
    """
    swing = rng.uniform(-1, 1, 3).astype(np.float32)
    swing *= np.float32(strength * rng.uniform(0.5, 1.0)) / np.abs(swing).max()
    period = rng.uniform(3.0, max(5.0, max(h, w) / 3))
    pattern = texture(rng, h, w, period)  # [h, w]
    return base + pattern[:, :, None] * swing  # [h, w, 3]


def background(
    rng: np.random.Generator, size: int, base: Patch, strength: float, lines: int
) -> Patch:
    """The ground [size, size, 3]: a texture, soft clouds, and straight lines.

    The lines are what keeps a detector honest: edges that are not objects. Each runs from border to
    border and is fainter than any object, so none can be taken for an unlabelled bar.

    Args:
        rng: what is drawn from.
        size: side in pixels.
        base: colour [3], 0..255.
        strength: amplitude of texture, clouds and lines, 0..255.
        lines: how many lines.
    """
    canvas = fill(rng, size, size, base, strength)
    clouds = _smooth(rng, size, size, size / 4)[:, :, None]  # [size, size, 1]
    canvas += clouds * rng.uniform(-1, 1, 3).astype(np.float32) * np.float32(strength)
    x = np.arange(size, dtype=np.float32)[None, :]
    y = np.arange(size, dtype=np.float32)[:, None]
    for _ in range(lines):
        angle, half = rng.uniform(0, math.pi), rng.uniform(0.5, 2.0)
        c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        px, py = rng.uniform(0, size, 2).astype(np.float32)
        distance = np.abs(c * (x - px) + s * (y - py))  # [size, size]
        ink = np.clip(half + 0.5 - distance, 0, 1)[:, :, None]
        canvas += ink * rng.uniform(-1, 1, 3).astype(np.float32) * np.float32(strength)
    return canvas
