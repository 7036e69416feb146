"""Checks of chapter 05: RoIPool's rounding, bilinear reading, RoIAlign, its exact weights."""

import math
from collections.abc import Callable, Sequence

import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F

from mrcnn_edu.checks.common import (
    case,
    check,
    inputs_kept,
    numbers,
    require,
    require_equal,
    require_not,
    tensor,
)

SLOPE = torch.arange(25.0).reshape(1, 5, 5)
SQUARE = torch.tensor([[[0.0, 10.0], [20.0, 30.0]]])


@check("5.1")
def check_pool_iou(answer: Callable) -> None:
    """IoU of a box and of what RoIPool reads."""
    answer = inputs_kept(answer)
    case("box (0, 0, 33, 33)")
    got = answer([0, 0, 33, 33], 16)
    require_not(
        got,
        32**2 / 33**2,
        "Box (0, 0, 33, 33) at stride 16: its corners round to 0 and 2. RoIPool's last pixel "
        "belongs to the box, so it reads pixels 0, 1 and 2: up to 48 in the image.",
    )
    require_equal(got, 33**2 / 48**2, "Box (0, 0, 33, 33) at stride 16 reads up to 48.")
    case("box (0, 0, 31, 31)")
    got = answer([0, 0, 31, 31], 16)
    require_not(
        got,
        31**2 / 32**2,
        "Box (0, 0, 31, 31) at stride 16: 31 / 16 = 1.94 rounds to the nearest pixel, 2, "
        "not down to 1, and pixel 2 is read whole: up to 48.",
    )
    require_equal(got, 31**2 / 48**2, "Box (0, 0, 31, 31) at stride 16 reads up to 48.")
    case("box (8, 8, 40, 40)")
    got = answer([8, 8, 40, 40], 16)
    require_not(
        got,
        _iou([8, 8, 40, 40], [0, 0, 48, 48]),
        "Box (8, 8, 40, 40) at stride 16: 0.5 rounds to 1 and 2.5 to 3, halves away from zero. "
        "Python's round() takes the even neighbour.",
    )
    require_equal(
        got,
        24**2 / (32**2 + 48**2 - 24**2),
        "Box (8, 8, 40, 40) at stride 16: 0.5 rounds to 1 and 2.5 to 3.",
    )
    case("a box that is no square")
    got = answer([16, 0, 40, 70], 8)
    require_not(
        got,
        _iou([16, 0, 40, 70], [16, 16, 48, 48]),
        "Box (16, 0, 40, 70) at stride 8 is not a square: x and y have sides of their own.",
    )
    require_equal(got, 24 * 70 / (32 * 80), "Box (16, 0, 40, 70) at stride 8.")
    case("a box that RoIPool misses")
    got = answer([9, 9, 10, 10], 16)
    require(
        float(numbers(got)) == 0,
        "Box (9, 9, 10, 10) at stride 16: both corners round to 1, so pixel 1 is read, from 16 to "
        "32, and that does not touch the box at all: IoU 0. Sides of the overlap are at least 0.",
    )
    for box in ([9, 0, 10, 40], [0, 9, 40, 10]):
        why = f"Box {box} at stride 16 is missed by what is read, along one axis alone."
        require_equal(answer(box, 16), 0.0, why)
    case("a box that leaves the image")
    got = answer([-24, -8, 24, 40], 16)
    require_equal(
        got,
        _iou([-24, -8, 24, 40], [-32, -16, 48, 64]),
        "Box (−24, −8, 24, 40) at stride 16: −1.5 rounds to −2 and −0.5 to −1, halves away from "
        "zero on this side of it too.",
    )
    generator = torch.Generator().manual_seed(5)
    for number in range(50):
        case(f"random {number}")
        corner, side = torch.rand(2, 2, generator=generator).mul(200).tolist()
        corner, side = [v - 60 for v in corner], [v if number % 2 else v / 20 for v in side]
        box = [*corner, corner[0] + side[0] + 0.1, corner[1] + side[1] + 0.1]
        stride = (4, 8, 16, 32)[int(torch.randint(4, (1,), generator=generator))]
        want = _iou(box, _pool_region(box, stride))
        require_equal(answer(box, stride), want, f"Box {box} at stride {stride}.")


@check("5.2")
def check_bilinear(answer: Callable) -> None:
    """Bilinear reading anywhere, with the rule for the border."""
    answer = inputs_kept(answer)
    square = "[[0, 10], [20, 30]]"
    case("row 0.25, column 0.25")
    got = tensor(answer(SQUARE, 0.25, 0.25))
    nearer = "near the pixel with 0: the nearer a pixel, the larger its weight, 0.75 · 0.75 here."
    require_not(got, [22.5], f"{square} at (0.25, 0.25), {nearer}")
    require_not(got, [0.0], f"{square} at (0.25, 0.25): not the nearest pixel, a mean of four.")
    require_equal(got, [7.5], f"{square} at (0.25, 0.25).")
    case("row 0.25, column 0.5")
    got = answer(SQUARE, 0.25, 0.5)
    require_not(got, [12.5], f"{square} at row 0.25, column 0.5: the row comes first.")
    require_equal(got, [10.0], f"{square} at row 0.25, column 0.5.")
    case("the last pixel, which has no neighbour to the right or below")
    require_equal(answer(SQUARE, 1.0, 1.0), [30.0], "The last pixel, (1, 1), is 30.")
    case("outside by less than a pixel")
    for place, value, zeros in (
        ((-0.5, 1.0), 10.0, 5.0),
        ((1.5, 0.5), 25.0, 12.5),
        ((0.5, 1.5), 20.0, 10.0),
        ((0.5, -0.5), 10.0, 5.0),
    ):
        got = answer(SQUARE, *place)
        less = f"{place} is outside by less than a pixel: the border's value continues"
        require_not(got, [zeros], f"{less}; it is not mixed with 0.")
        require_not(got, [0.0], f"{less}; you read nothing there.")
        require_equal(got, [value], f"{less}.")
    case("outside by exactly a pixel")
    for place, value in (
        ((-1.0, 1.0), 10.0),
        ((1.0, -1.0), 20.0),
        ((2.0, 0.5), 25.0),
        ((0.5, 2.0), 20.0),
    ):
        exactly = f"{place} is outside by exactly a pixel: the rule includes both ends"
        got = answer(SQUARE, *place)
        require_not(got, [0.0], f"{exactly}, so the border's value counts.")
        require_equal(got, [value], f"{exactly}.")
    case("outside by more than a pixel")
    for place in ((-1.01, 1.0), (1.0, 2.01), (9.0, 0.0), (1.0, -1.5)):
        far = f"{place} is more than a pixel outside: nothing to read."
        require_equal(answer(SQUARE, *place), [0.0], far)
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(3, 6, 9, generator=generator)
    for number in range(100):
        case(f"random {number}")
        row, column = (torch.rand(2, generator=generator) * torch.tensor([9, 12]) - 1.5).tolist()
        box = torch.tensor([[column - 0.5, row - 0.5, column + 0.5, row + 0.5]])
        want = torchvision.ops.roi_align(x[None], [box], 1, 1.0, 1)[0, :, 0, 0]  # [C]
        require_equal(answer(x, row, column), want, f"A random map at ({row:.3f}, {column:.3f}).")


@check("5.3")
def check_roi_align(answer: Callable) -> None:
    """Aligned RoIAlign with grid_sample."""
    answer = inputs_kept(answer)
    case("the 5 × 5 slope")
    got = tensor(answer(SLOPE, [1, 1, 3, 3], 4, 1.0, 2))
    want = _theirs(SLOPE, [1, 1, 3, 3], 4, 1.0, 2)
    require_not(
        got,
        want + 3,
        "The 5 × 5 slope: every value is 3 too large. That is the output that is not aligned: "
        "half a pixel further down (2.5) and to the right (0.5). An index treated as a "
        "continuous coordinate does that.",
        1e-3,
    )
    require_not(
        got,
        want.transpose(1, 2),
        "The 5 × 5 slope: rows and columns are exchanged. grid_sample takes x first.",
        1e-3,
    )
    corners = F.grid_sample(
        SLOPE[None], _grid([1, 1, 3, 3], 8, 5, 0.5), padding_mode="border", align_corners=True
    )
    require_not(
        got,
        F.avg_pool2d(corners, 2)[0],
        "The 5 × 5 slope. With align_corners=True −1 is the centre of the first pixel; with False "
        "it is the left edge of the first pixel, so a continuous coordinate c is 2c / L − 1.",
        1e-3,
    )
    early = _theirs(SLOPE, [1 - 1 / 8, 1 - 1 / 8, 3 - 1 / 8, 3 - 1 / 8], 4, 1.0, 2)
    middle = "The 5 × 5 slope: your samples lie at the start of their parts, not in the middle."
    require_not(got, early, middle, 1e-3)
    require_equal(got, want, "The 5 × 5 slope, box (1, 1, 3, 3), 4 × 4 bins of 2 × 2 samples.")
    case("a box as large as the map")
    got = answer(torch.full((1, 2, 2), 7.0), [0, 0, 2, 2], 2, 1.0, 2)
    why = (
        "A map of sevens, and a box as large as the map: its first sample lies left of the first "
        "pixel's centre, where the border's value continues."
    )
    require_equal(got, torch.full((1, 2, 2), 7.0), why)
    case("4 rows, 8 columns")
    wide = torch.arange(32.0).reshape(1, 4, 8)
    require_equal(
        answer(wide, [1, 1, 6, 3], 2, 1.0, 2),
        _theirs(wide, [1, 1, 6, 3], 2, 1.0, 2),
        "A slope of 4 rows and 8 columns: rows are divided by H, columns by W.",
    )
    case("scale 0.5")
    require_equal(
        answer(SLOPE, [2, 2, 6, 6], 4, 0.5, 2),
        want,
        "The 5 × 5 slope at scale 0.5: box (2, 2, 6, 6) of the image is (1, 1, 3, 3) on the map.",
    )
    case("3 × 3 bins of 4 × 4 samples")
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(3, 12, 20, generator=generator)
    box = [20.0, 10.0, 70.0, 42.0]
    got, want = answer(x, box, 3, 0.25, 4), _theirs(x, box, 3, 0.25, 4)
    require_not(
        got,
        _theirs(x, box, 3, 0.25, 1),
        "A random map at stride 4, 3 × 3 bins of 4 × 4 samples. Each bin is the mean of all its "
        "samples, yours has one; a smooth slope could not tell.",
    )
    require_equal(got, want, "A random map at stride 4, 3 × 3 bins of 4 × 4 samples.")
    for number in range(20):
        case(f"random {number}")
        corner = torch.rand(2, generator=generator) * torch.tensor([60.0, 30.0])
        room = torch.tensor([79.0, 47.0]) - corner
        far = corner + 1 + torch.rand(2, generator=generator) * room
        box = [*corner.tolist(), *far.tolist()]
        bins, samples = torch.randint(1, 6, (2,), generator=generator).tolist()
        want = _theirs(x, box, bins, 0.25, samples)
        require_equal(answer(x, box, bins, 0.25, samples), want, f"Box {box} at stride 4.")
    case("the gradient")
    x.requires_grad_()
    got = tensor(answer(x, [20.0, 10.0, 70.0, 42.0], 3, 0.25, 2))
    require(got.requires_grad, "No gradient goes back to the map: keep to operations of PyTorch.")
    (gradient,) = torch.autograd.grad(got.sum(), x)
    (want,) = torch.autograd.grad(_theirs(x, [20.0, 10.0, 70.0, 42.0], 3, 0.25, 2).sum(), x)
    require_equal(gradient, want, "The gradient of the sum, on the map.")


@check("5.4")
def check_exact_weights(answer: Callable) -> None:
    """The weights of RoIAlign with infinitely many samples."""
    answer = inputs_kept(answer)
    case("from 0 to 2, one bin")
    got = tensor(answer(0.0, 2.0, 1, 4))
    require(got.shape == (1, 4), f"One bin on four pixels: a matrix [1, 4], got {list(got.shape)}.")
    want = _weights(0.0, 2.0, 1, 4)
    require_not(
        got,
        2 * want,
        "The weights of a bin sum to 1, yours to 2: the integral is divided by the width of the "
        "bin.",
    )
    for half in (-0.5, 0.5):
        why = "From 0 to 2 in indices: nothing is shifted by half a pixel any more."
        require_not(got, _weights(half, 2.0, 1, 4), why)
    require_equal(got, want, "From 0 to 2 in one bin, on four pixels.")
    case("from 0 to 0.5, one bin")
    got = answer(0.0, 0.5, 1, 2)
    require_not(
        got,
        [[1.0, 0.0]],
        "From 0 to 0.5 on two pixels. The map is interpolated between its pixels, not flat "
        "inside each: pixel 1 counts from index 0 on.",
    )
    require_equal(got, [[0.75, 0.25]], "From 0 to 0.5 on two pixels.")
    case("from 0 to 1.5, one bin")
    require_equal(
        answer(0.0, 1.5, 1, 4),
        [[0.5 / 1.5, 0.875 / 1.5, 0.125 / 1.5, 0.0]],
        "From 0 to 1.5 in one bin: half of the first hat, seven eighths of the second, one "
        "eighth of the third, all divided by 1.5. A few samples come near; the integral is exact.",
    )
    case("a bin 600 pixels wide")
    require_equal(
        tensor(answer(20.25, 600.0, 1, 700)) * 600,
        _weights(20.25, 600.0, 1, 700) * 600,
        "One bin of 600 pixels: every pixel inside counts alike, which samples that are further "
        "apart than pixels cannot see.",
        1e-3,
    )
    generator = torch.Generator().manual_seed(5)
    for bins in (1, 2, 3, 7):
        case(f"random, {bins} bins")
        start = 0.1 + 3 * float(torch.rand(1, generator=generator))
        side = 0.3 + 4.5 * float(torch.rand(1, generator=generator))
        why = f"From {start:.2f}, {side:.2f} long, {bins} bins, on nine pixels."
        require_equal(answer(start, side, bins, 9), _weights(start, side, bins, 9), why)


def _weights(start: float, side: float, bins: int, length: int) -> Tensor:
    """Means of hats over bins, exact: a hat is straight between whole numbers. [P, L]"""
    weights = torch.zeros(bins, length, dtype=torch.float64)
    for p in range(bins):
        low, high = start + side * p / bins, start + side * (p + 1) / bins
        kinks = [low, *range(math.floor(low) + 1, math.ceil(high)), high]
        at = torch.tensor(kinks, dtype=torch.float64)
        hats = (1 - (at[:, None] - torch.arange(length)).abs()).clamp(min=0)
        weights[p] = torch.trapezoid(hats, at, dim=0) / (high - low)
    return weights


def _grid(box: list[float], steps: int, length: int, middle: float) -> Tensor:
    """A grid for grid_sample over a box on a square map: [1, steps, steps, 2]."""
    part = (torch.arange(steps) + middle) / steps
    x, y = (2 * (box[k] + (box[k + 2] - box[k]) * part) / length - 1 for k in (0, 1))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]


def _theirs(x: Tensor, box: list[float], bins: int, scale: float, samples: int) -> Tensor:
    """torchvision's aligned RoIAlign of one box. [C, P, P]"""
    rois = [torch.tensor([box], dtype=torch.float32)]
    return torchvision.ops.roi_align(x[None], rois, bins, scale, samples, True)[0]


def _pool_region(box: Sequence[float], stride: int) -> list[float]:
    """What RoIPool reads of a box, in image pixels; halves round away from zero, as C's do."""
    places = [math.copysign(math.floor(abs(v) / stride + 0.5), v) for v in box]
    return [stride * (v + (k > 1)) for k, v in enumerate(places)]


def _iou(a: Sequence[float], b: Sequence[float]) -> float:
    boxes = torch.tensor([a, b], dtype=torch.float64)
    return float(torchvision.ops.box_iou(boxes[:1], boxes[1:]))
