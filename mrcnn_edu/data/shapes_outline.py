"""Outlines of the Shapes classes, and the rasteriser that turns them into exact masks.

In: a class name, a size in pixels, a NumPy generator. Out: closed contours in continuous image
coordinates on a grid of 1/64 pixel, and from them an integer coverage map [h, w] of 0 to 16.

A pixel belongs to a shape when at least half of its 4×4 sub-samples do. Points are rounded to the
grid once, and everything after that is integer arithmetic, so a mask does not depend on the
platform. The fill rule is non-zero winding: contours that run the same way are united, one that
runs the other way cuts a hole. Chapter 12 uses the set; nothing here comes from the paper.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Contour = NDArray[np.float64]  # [V, 2] as (x, y), y down
Point = Sequence[float] | NDArray[np.float64]
UNIT = 64  # grid steps a pixel
SUB = 4  # sub-samples a pixel side

# COCO's order. Left is the figure's own left: every figure faces us, so it is on our right.
KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
    "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
SKELETON = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9),
    (8, 10), (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip
_HEAD_RADIUS = 0.11  # of the figure's height


@dataclass(frozen=True)
class Outline:
    """One placed shape.

    contours: [V, 2] int64 each, in 1/64 pixel, image coordinates.
    joints: [17, 2] int64 in the same units for a person, otherwise [0, 2].
    """

    contours: list[NDArray[np.int64]]
    joints: NDArray[np.int64]


def _arc(radius: float, start: float, stop: float, cx: float = 0.0) -> Contour:
    angle = np.linspace(start, stop, 49)
    return np.stack([cx + radius * np.cos(angle), radius * np.sin(angle)], axis=1)  # [49, 2]


def _capsule(p: Point, q: Point, radius: float) -> Contour:
    """A stroke from p to q with round ends. It always turns the same way, so strokes unite."""
    heading = math.atan2(q[1] - p[1], q[0] - p[0])
    half_turn = np.linspace(-math.pi / 2, math.pi / 2, 7)
    ends = [(q, heading + half_turn), (p, heading + math.pi + half_turn)]
    return np.concatenate(
        [np.stack([e[0] + radius * np.cos(a), e[1] + radius * np.sin(a)], 1) for e, a in ends]
    )  # [14, 2]


def _disc(rng: np.random.Generator, size: float) -> list[Contour]:
    return [_arc(1.0, 0.0, 2 * math.pi)]


def _square(rng: np.random.Generator, size: float) -> list[Contour]:
    return [np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])]


def _triangle(rng: np.random.Generator, size: float) -> list[Contour]:
    return [np.array([[0.0, -1.0], [0.866, 0.5], [-0.866, 0.5]])]


def _star(rng: np.random.Generator, size: float) -> list[Contour]:
    angle = np.arange(10) * (math.pi / 5)
    radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
    return [np.stack([radius * np.sin(angle), -radius * np.cos(angle)], axis=1)]  # [10, 2]


def _ring(rng: np.random.Generator, size: float) -> list[Contour]:
    hole = rng.uniform(0.48, 0.68)
    return [_arc(1.0, 0.0, 2 * math.pi), _arc(hole, 2 * math.pi, 0.0)]


def _cross(rng: np.random.Generator, size: float) -> list[Contour]:
    a = rng.uniform(0.26, 0.36)
    corner = np.array([[a, -1.0], [a, -a], [1.0, -a]])
    quarter = np.array([[0.0, 1.0], [-1.0, 0.0]])  # right-multiplied: turns by 90°
    arms = [corner]
    for _ in range(3):
        arms.append(arms[-1] @ quarter)
    return [np.concatenate(arms)]  # [12, 2]


def _crescent(rng: np.random.Generator, size: float) -> list[Contour]:
    d, r = rng.uniform(0.5, 0.62), 0.82  # a disc of radius 1 less one of radius r at (d, 0)
    x = (1 - r * r + d * d) / (2 * d)  # where the two circles meet
    outer, inner = math.acos(x), math.atan2(math.sqrt(1 - x * x), x - d)
    bite = _arc(r, 2 * math.pi - inner, inner, cx=d)
    return [np.concatenate([_arc(1.0, outer, 2 * math.pi - outer), bite])]


def _bar(rng: np.random.Generator, size: float) -> list[Contour]:
    half = max(rng.uniform(0.07, 0.13), 1.1 / size) * 2  # never thinner than 2.2 px
    return [np.array([[-1.0, -half], [1.0, -half], [1.0, half], [-1.0, half]])]


def _zigzag(rng: np.random.Generator, size: float) -> list[Contour]:
    half = max(rng.uniform(0.05, 0.08), 1.0 / size) * 2
    rise = rng.uniform(0.4, 0.6)
    knees = [(-1.0, rise), (-0.33, -rise), (0.33, rise), (1.0, -rise)]
    return [_capsule(p, q, half) for p, q in itertools.pairwise(knees)]


def _joints(rng: np.random.Generator) -> Contour:
    """A random pose, [17, 2], in units of about one body height, facing us."""
    joints = {"nose": (0.0, -0.38)}
    for side, s in (("left", 1.0), ("right", -1.0)):
        shoulder, hip = (0.13 * s, -0.22), (0.085 * s, 0.08)
        joints |= {f"{side}_eye": (0.04 * s, -0.415), f"{side}_ear": (0.088 * s, -0.395)}
        joints |= {f"{side}_shoulder": shoulder, f"{side}_hip": hip}
        # (parent, child, grandchild), length of a bone, angle from straight down, bend
        arm = ("elbow", "wrist", shoulder, 0.17, rng.uniform(0.35, 2.5), rng.uniform(-0.9, 0.9))
        leg = ("knee", "ankle", hip, 0.21, rng.uniform(0.05, 0.65), rng.uniform(-0.5, 0.3))
        for middle, end, (x, y), length, angle, bend in (arm, leg):
            for name, turn in ((middle, angle), (end, angle + bend)):
                x, y = x + s * length * math.sin(turn), y + length * math.cos(turn)
                joints[f"{side}_{name}"] = (x, y)
    return np.array([joints[name] for name in KEYPOINTS])


def _person(joints: Contour, size: float) -> list[Contour]:
    """Head, neck, trunk and limbs around the 17 joints."""
    limb = max(0.04, 0.8 / size)  # half the width of a limb: at least 1.6 px wide
    j = dict(zip(KEYPOINTS, joints, strict=True))
    neck = (j["left_shoulder"] + j["right_shoulder"]) / 2
    head = np.array([0.0, -0.40])
    strokes = [_capsule(head, neck, limb)]
    chains = ("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle"), ("shoulder", "hip")
    for side in ("left", "right"):
        for chain in chains:
            for a, b in itertools.pairwise(chain):
                strokes.append(_capsule(j[f"{side}_{a}"], j[f"{side}_{b}"], limb))
    for a in ("shoulder", "hip"):
        strokes.append(_capsule(j[f"left_{a}"], j[f"right_{a}"], limb))
    names = ("left_shoulder", "left_hip", "right_hip", "right_shoulder")
    trunk = np.stack([j[name] for name in names])
    return [head + _arc(_HEAD_RADIUS, 0.0, 2 * math.pi), trunk, *strokes]


_SHAPES: dict[str, Callable[[np.random.Generator, float], list[Contour]]] = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
    "crescent": _crescent,
    "bar": _bar,
    "zigzag": _zigzag,
}
CLASS_NAMES = (*_SHAPES, "person")


def _heart(rng: np.random.Generator, size: float) -> list[Contour]:
    t = np.linspace(0.0, 2 * math.pi, 49)
    up = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return [np.stack([16 * np.sin(t) ** 3, -up], axis=1) / 17]


def _arrow(rng: np.random.Generator, size: float) -> list[Contour]:
    half, neck = rng.uniform(0.14, 0.24), rng.uniform(-0.1, 0.3)
    upper = [(-1.0, -half), (neck, -half), (neck, -0.6), (1.0, 0.0)]
    return [np.array(upper + [(x, -y) for x, y in reversed(upper[:-1])])]


def _flower(rng: np.random.Generator, size: float) -> list[Contour]:
    angle = np.linspace(0.0, 2 * math.pi, 81)
    radius = 0.75 + 0.25 * np.cos(int(rng.integers(4, 7)) * angle)
    return [np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)]


def _horseshoe(rng: np.random.Generator, size: float) -> list[Contour]:
    inner = rng.uniform(0.45, 0.62)
    arms = np.array([[-1.0, 0.9], [-inner, 0.9]]), np.array([[inner, 0.9], [1.0, 0.9]])
    inside = _arc(inner, -math.pi, 0.0)
    outside = _arc(1.0, 0.0, -math.pi)
    return [np.concatenate([arms[0], inside, arms[1], outside])]


# Shapes that no set of the course has: what a trained model makes of them is a measurement.
_UNSEEN: dict[str, Callable[[np.random.Generator, float], list[Contour]]] = {
    "heart": _heart,
    "arrow": _arrow,
    "flower": _flower,
    "horseshoe": _horseshoe,
}
UNSEEN_NAMES = tuple(_UNSEEN)

# Smallest size of a class, as a multiple of the smallest size of all: a star of 8 px is a blob,
# and an object that nobody can name teaches nothing.
DETAIL = {"star": 1.5, "cross": 1.25, "crescent": 1.25, "zigzag": 1.5, "person": 2.0}
DETAIL |= dict.fromkeys(UNSEEN_NAMES, 1.5)


def place(
    name: str, size: float, cx: float, cy: float, max_turn: float, rng: np.random.Generator
) -> Outline:
    """A shape of a class, stretched by up to a quarter and turned.

    Bars stand or lie. A person leans by at most 35° in any case: left and right joints are told
    apart by standing upright.

    Args:
        name: the class.
        size: the longer side of its box, in pixels.
        cx, cy: the centre of its box, in pixels.
        max_turn: it is turned by up to so many degrees either way.
        rng: what is drawn from.

    Returns:
        contours and joints, in the units of the grid.
    """
    limit = math.radians(max_turn)
    if name == "person":
        joints = _joints(rng)
        contours = _person(joints, size)
        limit = min(limit, 0.6)
        turn = rng.uniform(-limit, limit)
    else:
        joints = np.zeros((0, 2))
        contours = (_SHAPES | _UNSEEN)[name](rng, size)
        turn = rng.uniform(-limit, limit)
        if name == "bar" and rng.random() < 0.5:
            turn += math.pi / 2
    stretch = rng.uniform(0.78, 1.0)
    c, s = math.cos(turn), math.sin(turn)
    affine = np.array([[c * stretch, s * stretch], [-s, c]])  # right-multiplied: stretch x, turn
    turned = [contour @ affine for contour in contours]
    points = np.concatenate(turned)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = size / (high - low).max()
    offset = np.array([cx, cy]) - scale * (low + high) / 2

    def to_grid(xy: Contour) -> NDArray[np.int64]:
        return np.rint((xy * scale + offset) * UNIT).astype(np.int64)

    return Outline([to_grid(contour) for contour in turned], to_grid(joints @ affine))


def coverage(contours: list[NDArray[np.int64]]) -> tuple[int, int, NDArray[np.uint8]]:
    """Counts the sub-samples of each pixel that lie inside the contours.

    Returns (y0, x0, counts): counts [h, w] in 0..16 for the pixels y0.. and x0.. of the whole
    shape, also outside the image. On each line of sub-samples every edge that crosses it adds +1
    or −1 to all samples to its right; their sum is the winding number.
    """
    points = np.concatenate(contours)
    x0, y0 = (int(v) for v in points.min(axis=0) // UNIT)
    x1, y1 = (int(v) for v in -(-points.max(axis=0) // UNIT))
    w, h, step = (x1 - x0) * SUB, (y1 - y0) * SUB, UNIT // SUB
    start = points - np.array([x0, y0]) * UNIT  # [E, 2]
    stop = np.concatenate([np.roll(c, -1, axis=0) for c in contours])
    stop = stop - np.array([x0, y0]) * UNIT  # [E, 2]
    rows = np.arange(h) * step + step // 2  # [h]
    ya, yb = start[:, 1:], stop[:, 1:]
    rising = ((ya <= rows) & (rows < yb)).astype(np.int64)  # [E, h]
    falling = ((yb <= rows) & (rows < ya)).astype(np.int64)
    edge, row = np.nonzero(rising - falling)
    (xa, ya), (xb, yb) = start[edge].T, stop[edge].T
    x = xa - (-(rows[row] - ya) * (xb - xa)) // (yb - ya)  # the crossing, rounded up
    column = np.clip(-((step // 2 - x) // step), 0, w)  # first sample at or right of it
    sign = (rising - falling)[edge, row]
    jumps = np.bincount(row * (w + 1) + column, weights=sign, minlength=h * (w + 1))
    turns = np.cumsum(jumps.astype(np.int8).reshape(h, w + 1), axis=1, dtype=np.int8)
    inside = (turns[:, :w] != 0).reshape(h // SUB, SUB, w)  # lines of sub-samples by pixel row
    counts = inside.sum(axis=1, dtype=np.uint8).reshape(h // SUB, w // SUB, SUB)
    return y0, x0, counts.sum(axis=2, dtype=np.uint8)  # [h, w] pixels
