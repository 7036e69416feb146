"""Checks of Chapter 03: anchors of a cell, the grid, coverage, sizes for a set, matching."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.anchors import cell_anchors, grid_anchors, pyramid_anchors
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
from mrcnn_edu.data.shapes import ShapesConfig, ShapesDataset, generate
from mrcnn_edu.matching import BELOW, BETWEEN, match

RATIOS = (0.5, 1.0, 2.0)
STRIDES = (4, 8, 16, 32, 64)
INPUT = 192  # side of the network's input, for Shapes images of 128


def _boxes(n: int, seed: int) -> Tensor:
    """`n` boxes on quarter pixels, so that equal overlaps are common: [n, 4]."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 60, (n, 2), generator=generator)
    side = torch.randint(4, 60, (n, 2), generator=generator)
    return torch.cat((corner, corner + side), dim=1) / 4


@check("3.1")
def check_cell_anchors(answer: Callable) -> None:
    """`answer(sizes, ratios)` is the unrounded anchors of a cell about (0, 0): [n, 4]."""
    answer = inputs_kept(answer)
    case("size 32, ratio 1")
    square = tensor(answer((32.0,), (1.0,)))
    require_not(square, [[0, 0, 32, 32]], "Your anchor begins at (0, 0); its centre belongs there.")
    require_equal(square, [[-16, -16, 16, 16]], "Size 32, ratio 1: a square about (0, 0).")
    case("size 32, ratio 4")
    tall = tensor(answer((32.0,), (4.0,)))
    wide = "Ratio 4 gave a wide box of 64 × 16; a ratio is height over width."
    require_not(tall, [[-32, -8, 32, 8]], wide)
    for w, h in ((32, 128), (8, 32), (128, 32), (32, 8), (16, 128), (128, 16)):
        why = f"Size 32 and ratio 4 gave {w} × {h}, an area of {w * h}; every ratio keeps 32²."
        require_not(tall, [[-w / 2, -h / 2, w / 2, h / 2]], why)
    require_equal(tall, [[-8, -32, 8, 32]], "Size 32, ratio 4: 16 wide and 64 high.")
    case("two sizes, two ratios")
    two = tensor(answer((16.0, 32.0), (1.0, 4.0)))
    require_not(
        two,
        cell_anchors((16.0, 32.0), (1.0, 4.0), rounding="none")[[0, 2, 1, 3]],
        "The order: sizes of the first ratio first, then of the next, as in the library.",
    )
    want = cell_anchors((16.0, 32.0), (1.0, 4.0), rounding="none")
    require_equal(two, want, "Sizes 16 and 32, ratios 1 and 4.")
    for sizes in ((32.0,), (128.0, 256.0, 512.0), (18.0, 36.0), (13.3,)):
        case(f"sizes {sizes}")
        want = cell_anchors(sizes, RATIOS, rounding="none")
        message = f"Sizes {sizes}, ratios 0.5, 1, 2, without rounding."
        got = answer(sizes, RATIOS)
        require_not(got, want.round(), f"{message} Yours are rounded to whole pixels.")
        require_equal(got, want, message)


@check("3.2")
def check_grid(answer: Callable) -> None:
    """`answer(cell, feature_size, stride)` repeats a cell's anchors: [H · W · n, 4]."""
    answer = inputs_kept(answer)
    case("2 rows, 3 columns")
    cell = torch.tensor([[-1.5, -2.0, 1.5, 2.0], [-4.0, -4.25, 4.0, 4.25]])
    got = tensor(answer(cell, (2, 3), (10, 100)))
    require(
        got.shape == (12, 4),
        f"2 rows · 3 columns · 2 anchors are 12 boxes, [12, 4]; yours is {list(got.shape)}.",
    )

    def at(x: float, y: float, anchor: int = 0) -> Tensor:
        return cell[anchor] + torch.tensor([x, y, x, y])

    require_not(
        got[0],
        at(50, 5),
        "Your first cell is centred half a stride inside the image. That is another convention; "
        "here the first cell's anchors are centred on (0, 0).",
    )
    require_not(
        got, grid_anchors(cell.trunc(), (2, 3), (10, 100)), "The anchors lost their halves."
    )
    order = "The two anchors of one cell come one after the other, before the next cell."
    require_not(got[1], at(100, 0), order)
    require_not(
        got[2],
        at(10, 0),
        "One step to the right is 100 pixels here: the stride is (y, x), as sizes are (H, W).",
    )
    require_not(
        got[2],
        at(0, 10),
        "The second cell lies to the right of the first, not below it: rows first, then columns, "
        "as the feature map lies in memory.",
    )
    require_not(
        got[4],
        at(0, 10),
        "Your second row begins after two cells, but a row has three: feature_size is (H, W).",
    )
    want = grid_anchors(cell, (2, 3), (10, 100))
    require_equal(got, want, "2 rows, 3 columns, strides 10 down and 100 to the right.")
    case("the anchors of Faster R-CNN")
    nine = cell_anchors((128, 256, 512), RATIOS)
    want = grid_anchors(nine, (40, 60), (16, 16))
    require_equal(answer(nine, (40, 60), (16, 16)), want, "The 21,600 anchors of Faster R-CNN.")


@check("3.3")
def check_coverage(answer: Callable) -> None:
    """`answer(gt_boxes, anchors, threshold)` is the share of objects that an anchor covers."""
    answer = inputs_kept(answer)

    def share(*given: Any) -> float:
        got = numbers(answer(*given))
        require(
            got.numel() == 1,
            f"The share is one number; yours has shape {list(got.shape)}: one for each object is "
            "not yet a share.",
        )
        return float(got)

    gt = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60], [100, 0, 110, 10], [0, 100, 20, 110]])
    anchors = torch.tensor(
        [[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 8], [50, 50, 60, 55], [0, 100, 10, 110]]
    )
    case("four objects, threshold 0.6")
    got = share(gt, anchors, 0.6)  # best overlaps: 1, 0.5, 0 and 0.5
    require_not(
        got,
        3 / 5,
        "3 of 5 is the share of anchors that lie well. Ask it of the objects: 1 of 4 has an "
        "anchor of IoU 0.6 or more.",
    )
    require_not(
        got,
        3 / 20,
        "3 of 20 is the share of all pairs. An object needs one good anchor, not all.",
    )
    require_not(
        got,
        0.5,
        "0.5 is the mean of the best overlaps; count those that reach the threshold.",
    )
    require_not(got, 1, "1 is the number of covered objects; the share is 1 of 4.")
    require_equal(got, 0.25, "Four objects whose best overlaps are 1, 0.5, 0 and 0.5, at 0.6.")
    case("an overlap equal to the threshold")
    at = share(gt, anchors, 0.5)
    require_not(
        at,
        0.25,
        "An overlap of exactly 0.5 counts at threshold 0.5: the matcher takes IoU ≥ threshold.",
    )
    require_equal(at, 0.75, "The same four objects at threshold 0.5.")
    for seed in range(5):
        case(f"random {seed}")
        left, right = _boxes(30, seed), _boxes(80, seed + 50)
        want = (box_ops.iou(left, right).amax(1) >= 0.5).float().mean()
        require_equal(share(left, right, 0.5), want, "30 random objects, 80 random anchors.")


@cache
def _shapes_boxes() -> list[Tensor]:
    """The objects of 60 images that the chapter does not show, in the network's input."""
    shapes = ShapesDataset(generate(ShapesConfig(), 60, seed=30))
    scale = INPUT / shapes.shapes.config.image_size
    return [scale * shapes.target(i)["boxes"] for i in range(len(shapes))]


def _coverage(sizes: Sequence[float]) -> float:
    maps = [(INPUT // s, INPUT // s) for s in STRIDES]
    levels = pyramid_anchors([(s,) for s in sizes], RATIOS, maps, (INPUT, INPUT))
    anchors = torch.cat(levels)
    best = torch.cat([box_ops.iou(gt, anchors).amax(1) for gt in _shapes_boxes()])
    return float((best >= 0.5).float().mean())


@check("3.4")
def check_anchor_sizes(answer: Callable) -> None:
    """`answer()` is five anchor sizes that cover 96 % of Shapes' objects at IoU 0.5."""
    case("five sizes")
    sizes = numbers(answer()).flatten().tolist()
    require(len(sizes) == 5, f"One size for each of the levels P2 to P6 are 5; yours are {sizes}.")
    require(min(sizes) > 0, f"A size is a length in pixels, above 0; yours are {sizes}.")
    case("coverage")
    covered = _coverage(sizes)
    if covered >= 0.96:
        return
    said = f"Your sizes {[round(s, 1) for s in sizes]} cover {100 * covered:.1f} % of the objects."
    require(
        sizes == sorted(sizes),
        f"{said} The finest level has the most cells, so it takes the smallest size: P2 first.",
    )
    side = torch.cat(_shapes_boxes())
    side = ((side[:, 2] - side[:, 0]) * (side[:, 3] - side[:, 1])).sqrt()  # [G]
    under = 100 * float((side < sizes[0] / math.sqrt(2)).float().mean())
    over = 100 * float((side > sizes[-1] * math.sqrt(2)).float().mean())
    require(
        under < 8,
        f"{said} {under:.0f} % of them have less than half of your smallest anchor's area, so no "
        "anchor can reach an IoU of 0.5: begin smaller.",
    )
    require(
        over < 8,
        f"{said} {over:.0f} % of them have more than twice your largest anchor's area: end larger.",
    )
    require(
        False,
        f"{said} 96 % are asked. Look for a gap: a factor of 2 between neighbours is the most.",
    )


@check("3.5")
def check_match(answer: Callable) -> None:
    """`answer(gt_boxes, boxes, fg_iou, bg_iou)` matches, with the low-quality rule."""
    answer = inputs_kept(answer)
    case("two objects, five boxes")
    gt = torch.tensor([[0.0, 0, 4, 4], [10, 0, 14, 4]])
    boxes = torch.tensor(
        [
            [0.0, 0, 4, 3],  # 0.75 with object 0
            [0.0, 0, 4, 2],  # 0.5: between
            [0.0, 0, 4, 1],  # 0.25: below
            [10.0, 0, 11, 4],  # 0.25 with object 1, and its best
            [30.0, 0, 31, 4],  # nothing
        ]
    )
    got = tensor(answer(gt, boxes, 0.7, 0.3))
    require_not(
        got,
        [0, BETWEEN, BELOW, BELOW, BELOW],
        "Object 1 has no box at all. The low-quality rule gives it its best one, box 3, "
        "though their IoU is 0.25.",
    )
    require_not(
        got,
        [0, BELOW, BELOW, 1, BELOW],
        "Box 1 has IoU 0.5, between the thresholds: neither positive nor negative, −2.",
    )
    require_equal(got, [0, BETWEEN, BELOW, 1, BELOW], "The five boxes of the text.")
    case("overlaps equal to the thresholds")
    edge = numbers(answer(gt[:1], boxes[:3], 0.5, 0.25))
    require_equal(edge, [0, 0, BETWEEN], "IoU 0.5 at fg 0.5 is positive, 0.25 at bg 0.25 between.")
    case("two boxes that tie")
    tied = torch.tensor([[0.0, 0, 4, 2], [0, 2, 4, 4], [9, 9, 10, 10]])
    got = numbers(answer(gt[:1], tied, 0.7, 0.3))
    require_not(
        got,
        [0, BETWEEN, BELOW],
        "Two boxes tie for the object's best IoU, 0.5. Both become positive, not only the first.",
    )
    require_equal(got, [0, 0, BELOW], "Two boxes that tie for the best IoU of one object.")
    case("a box that is the best of two objects")
    # Box 0 is the best of both objects; it belongs to object 1, with which it overlaps more.
    near = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 10]])
    got = numbers(answer(near, torch.tensor([[0.0, 0, 4, 7]]), 0.8, 0.3))
    require_not(
        got,
        [0],
        "The box is the best of object 0 (0.571) and of object 1 (0.7). It stays with *its own* "
        "best object, 1.",
    )
    require_equal(got, [1], "One box, the best of two objects.")
    case("an object that no box overlaps")
    lost = torch.tensor([[0.0, 0, 4, 4], [90, 90, 94, 94]])
    got = numbers(answer(lost, boxes, 0.7, 0.3))
    why = (
        "Object 1 overlaps no box, so its best IoU is 0. That is no match: pass over it, or every "
        "box of IoU 0 becomes a positive."
    )
    require(got.shape != (5,) or got[4] < 0, why)
    require_equal(got, [0, BETWEEN, BELOW, BELOW, BELOW], "An object that no box overlaps.")
    case("no objects")
    none = numbers(answer(torch.zeros(0, 4), boxes, 0.7, 0.3))
    require_equal(none, [BELOW] * 5, "Without objects every box is a negative, −1.")
    for seed in range(20):
        case(f"random {seed}")
        gt, boxes = _boxes(5, seed), _boxes(60, seed + 100)
        want = match(gt, boxes, 0.7, 0.3, allow_low_quality=True)
        require_equal(answer(gt, boxes, 0.7, 0.3), want, f"5 objects, 60 boxes, seed {seed}.")
