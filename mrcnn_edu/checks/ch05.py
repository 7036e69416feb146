"""Checks of chapter 05: RoIPool's rounding, bilinear reading, RoIAlign, its exact weights."""

import math
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor

from mrcnn_edu.checks.common import CheckFailedError, check, require, require_equal
from mrcnn_edu.roi import roi_align

SLOPE = torch.arange(25.0).reshape(1, 5, 5)
SQUARE = torch.tensor([[[0.0, 10.0], [20.0, 30.0]]])


@check("5.1")
def check_pool_iou(answer: Callable) -> None:
    """Exercise 5.1: IoU of a box and of what RoIPool reads."""
    require_equal(
        answer([0, 0, 33, 33], 16),
        33**2 / 48**2,
        "Box (0, 0, 33, 33) at stride 16: its corners round to 0 and 2. RoIPool's last pixel "
        "belongs to the box, so it reads pixels 0, 1 and 2: up to 48 in the image.",
    )
    require_equal(
        answer([0, 0, 31, 31], 16),
        31**2 / 48**2,
        "Box (0, 0, 31, 31) at stride 16: 31 / 16 = 1.94 rounds to the nearest pixel, 2, "
        "not down to 1, and pixel 2 is read whole: up to 48.",
    )
    require_equal(
        answer([8, 8, 40, 40], 16),
        24**2 / (32**2 + 48**2 - 24**2),
        "Box (8, 8, 40, 40) at stride 16: 0.5 rounds to 1 and 2.5 to 3, halves away from zero. "
        "Python's round() takes the even neighbour.",
    )
    require_equal(
        answer([16, 0, 40, 70], 8),
        24 * 70 / (32 * 80),
        "Box (16, 0, 40, 70) at stride 8 is not a square: x and y have sides of their own.",
    )
    generator = torch.Generator().manual_seed(5)
    for _ in range(50):
        corner, side = torch.rand(2, 2, generator=generator).mul(200).tolist()
        box = [*corner, corner[0] + side[0] + 1, corner[1] + side[1] + 1]
        stride = (4, 8, 16, 32)[int(torch.randint(4, (1,), generator=generator))]
        want = _iou(box, _pool_region(box, stride))
        require_equal(answer(box, stride), want, f"Box {box} at stride {stride}.")


@check("5.2")
def check_bilinear(answer: Callable) -> None:
    """Exercise 5.2: bilinear reading anywhere, with the rule for the border."""
    require_equal(
        answer(SQUARE, 0.25, 0.25),
        [7.5],
        "[[0, 10], [20, 30]] at (0.25, 0.25), near the pixel with 0: the nearer a pixel, the "
        "larger its weight, 0.75 · 0.75 for this one.",
    )
    require_equal(
        answer(SQUARE, 0.25, 0.5),
        [10.0],
        "[[0, 10], [20, 30]] at row 0.25, column 0.5: the row comes first.",
    )
    try:
        corner = answer(SQUARE, 1.0, 1.0)
    except IndexError as error:
        raise CheckFailedError(
            "The last pixel, (1, 1), has no neighbour to the right or below: keep indices on "
            "the map."
        ) from error
    require_equal(corner, [30.0], "The last pixel, (1, 1), is 30.")
    message = (
        "outside by less than a pixel, so the border's value continues: it is not mixed with 0."
    )
    for place, value in (((-0.5, 1.0), 10.0), ((1.5, 0.5), 25.0)):
        require_equal(answer(SQUARE, *place), [value], f"{place} is {message}")
    message = (
        "outside by exactly a pixel: the rule includes both ends, so the border's value counts."
    )
    for place, value in (((-1.0, 1.0), 10.0), ((1.0, -1.0), 20.0), ((2.0, 0.5), 25.0)):
        require_equal(answer(SQUARE, *place), [value], f"{place} is {message}")
    for place in ((-1.01, 1.0), (1.0, 2.01), (9.0, 0.0)):
        require_equal(
            answer(SQUARE, *place), [0.0], f"{place} is more than a pixel outside: nothing to read."
        )
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(3, 6, 9, generator=generator)
    for _ in range(100):
        row, column = (torch.rand(2, generator=generator) * torch.tensor([9, 12]) - 1.5).tolist()
        box = torch.tensor([[column - 0.5, row - 0.5, column + 0.5, row + 0.5]])
        want = torchvision.ops.roi_align(x[None], [box], 1, 1.0, 1)[0, :, 0, 0]  # [C]
        require_equal(answer(x, row, column), want, f"A random map at ({row:.3f}, {column:.3f}).")


@check("5.3")
def check_roi_align(answer: Callable) -> None:
    """Exercise 5.3: aligned RoIAlign with grid_sample."""
    got = answer(SLOPE, [1, 1, 3, 3], 4, 1.0, 2)
    want = _theirs(SLOPE, [1, 1, 3, 3], 4, 1.0, 2)
    if isinstance(got, Tensor) and got.shape == want.shape:
        require(
            not torch.allclose(got, want + 3, atol=1e-3),
            "The 5 × 5 slope: every value is 3 too large. That is the output that is not aligned: "
            "half a pixel further down (2.5) and to the right (0.5). An index treated as a "
            "continuous coordinate does that.",
        )
        require(
            not torch.allclose(got, want.transpose(1, 2), atol=1e-3),
            "The 5 × 5 slope: rows and columns are exchanged. grid_sample takes x first.",
        )
    require_equal(
        got,
        want,
        "The 5 × 5 slope. With align_corners=False −1 is the left edge of the first pixel, so a "
        "continuous coordinate c is 2c / L − 1; and a sample lies in the middle of its part.",
    )
    require_equal(
        answer(torch.full((1, 2, 2), 7.0), [0, 0, 2, 2], 2, 1.0, 2),
        torch.full((1, 2, 2), 7.0),
        "A map of sevens, and a box as large as the map: its first sample lies left of the first "
        "pixel's centre, where the border's value continues.",
    )
    wide = torch.arange(32.0).reshape(1, 4, 8)
    require_equal(
        answer(wide, [1, 1, 6, 3], 2, 1.0, 2),
        _theirs(wide, [1, 1, 6, 3], 2, 1.0, 2),
        "A slope of 4 rows and 8 columns: rows are divided by H, columns by W.",
    )
    require_equal(
        answer(SLOPE, [2, 2, 6, 6], 4, 0.5, 2),
        want,
        "The 5 × 5 slope at scale 0.5: box (2, 2, 6, 6) of the image is (1, 1, 3, 3) on the map.",
    )
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(3, 12, 20, generator=generator)
    require_equal(
        answer(x, [20.0, 10.0, 70.0, 42.0], 3, 0.25, 4),
        _theirs(x, [20.0, 10.0, 70.0, 42.0], 3, 0.25, 4),
        "A random map at stride 4, 3 × 3 bins of 4 × 4 samples. Each bin is the mean of all its "
        "samples; a smooth slope could not tell.",
    )
    for _ in range(20):
        corner = torch.rand(2, generator=generator) * torch.tensor([60.0, 30.0])
        far = (
            corner + 1 + torch.rand(2, generator=generator) * (torch.tensor([79.0, 47.0]) - corner)
        )
        box = [*corner.tolist(), *far.tolist()]
        bins, samples = torch.randint(1, 6, (2,), generator=generator).tolist()
        want = _theirs(x, box, bins, 0.25, samples)
        require_equal(answer(x, box, bins, 0.25, samples), want, f"Box {box} at stride 4.")


@check("5.4")
def check_exact_weights(answer: Callable) -> None:
    """Exercise 5.4: the weights of RoIAlign with infinitely many samples."""
    got = torch.as_tensor(answer(0.0, 2.0, 1, 4))
    require(got.shape == (1, 4), f"One bin on four pixels: a matrix [1, 4], got {list(got.shape)}.")
    require(
        abs(float(got.sum()) - 1) < 1e-4,
        f"The weights of a bin sum to 1, yours to {float(got.sum()):.3f}: the integral is divided "
        "by the width of the bin.",
    )
    require_equal(
        answer(0.0, 0.5, 1, 2),
        [[0.75, 0.25]],
        "From 0 to 0.5 on two pixels. The map is interpolated between its pixels, not flat "
        "inside each: pixel 1 counts from index 0 on.",
    )
    require_equal(
        answer(0.0, 1.5, 1, 4),
        [[0.5 / 1.5, 0.875 / 1.5, 0.125 / 1.5, 0.0]],
        "From 0 to 1.5 in one bin: half of the first hat, seven eighths of the second, one "
        "eighth of the third, all divided by 1.5. A few samples come near; the integral is exact.",
    )
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(1, 2, 9, 9, generator=generator)
    for bins in (1, 2, 3, 7):
        start = 0.1 + 3 * float(torch.rand(1, generator=generator))
        side = 0.3 + 4.5 * float(torch.rand(1, generator=generator))
        box = torch.tensor([[start + 0.5, start + 0.5, start + side + 0.5, start + side + 0.5]])
        weights = torch.as_tensor(answer(start, side, bins, 9)).float()  # [P, L]
        require_equal(
            weights @ x[0] @ weights.T,
            roi_align(x, [box], bins, 1.0, 128, True)[0],
            f"From {start:.2f}, {side:.2f} long, {bins} bins: 128 × 128 samples come to this.",
            tolerance=2e-3,
        )


def _theirs(x: Tensor, box: list[float], bins: int, scale: float, samples: int) -> Tensor:
    """torchvision's aligned RoIAlign of one box. [C, P, P]"""
    rois = [torch.tensor([box], dtype=torch.float32)]
    return torchvision.ops.roi_align(x[None], rois, bins, scale, samples, True)[0]


def _pool_region(box: list[float], stride: int) -> list[float]:
    """What RoIPool reads of a box with coordinates of at least 0, in image pixels."""
    x1, y1, x2, y2 = (math.floor(v / stride + 0.5) for v in box)
    return [x1 * stride, y1 * stride, (x2 + 1) * stride, (y2 + 1) * stride]


def _iou(a: list[float], b: list[float]) -> float:
    boxes = torch.tensor([a, b], dtype=torch.float64)
    return float(torchvision.ops.box_iou(boxes[:1], boxes[1:]))
