"""Checks of Chapter 01: boxes of masks, flips, IoU, decoding, non-maximum suppression."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.checks.common import check, numbers, require, require_equal
from mrcnn_edu.masks import to_boxes


def _boxes(n: int, seed: int, size: float = 100.0) -> Tensor:
    """`n` boxes of 1 to 60 pixels a side: [n, 4]."""
    generator = torch.Generator().manual_seed(seed)
    corner = size * torch.rand(n, 2, generator=generator)
    return torch.cat((corner, corner + 1 + 59 * torch.rand(n, 2, generator=generator)), dim=1)


@check("1.1")
def check_mask_to_box(answer: Callable) -> None:
    """`answer(mask)` is the tightest box of a mask [H, W], as float32 [4]."""
    mask = torch.zeros(4, 6, dtype=torch.int64)
    mask[1:3, 2:5] = 1
    want = torch.tensor([2.0, 1, 5, 3])
    got = numbers(answer(mask.clone())).float()
    if got.shape == want.shape:
        require(
            not torch.equal(got, torch.tensor([2.0, 1, 4, 2])),
            "Your box stops where the last pixel begins: the last column is 4, and it ends at 5.",
        )
        require(
            not torch.equal(got, torch.tensor([1.0, 2, 3, 5])),
            "x and y have changed places: x counts columns, and a mask is indexed [row, column].",
        )
        require(
            not torch.equal(got, torch.tensor([2.0, 1, 3, 2])),
            "These are x, y, width and height; a box here is (x1, y1, x2, y2).",
        )
    require_equal(got, want, "The mask has rows 1 and 2 and columns 2 to 4.")
    kind = numbers(answer(mask.clone())).dtype
    require(kind == torch.float32, f"Boxes are float32, because places have fractions; not {kind}.")
    single = torch.zeros(4, 6, dtype=torch.uint8)
    single[3, 5] = 1
    require_equal(answer(single), [5.0, 3, 6, 4], "A mask of the last pixel of a 4×6 image alone.")
    try:
        empty = answer(torch.zeros(4, 6))
    except (RuntimeError, ValueError, IndexError) as error:
        require(False, f"A mask without pixels has the box (0, 0, 0, 0); yours raised: {error}")
    require_equal(empty, [0.0, 0, 0, 0], "A mask without pixels has the box (0, 0, 0, 0).")
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        random = (torch.rand(9, 7, generator=generator) < 0.1).to(torch.uint8)
        require_equal(
            answer(random),
            to_boxes(random[None])[0],
            f"A random mask, seed {seed}. (Is the first pixel of `nonzero` also the leftmost?)",
        )


@check("1.2")
def check_hflip(answer: Callable) -> None:
    """`answer(boxes, width)` mirrors boxes [.., 4] left to right."""
    boxes = torch.tensor([[1.0, 2, 4, 6]])
    got = numbers(answer(boxes.clone(), 10))
    if got.shape == boxes.shape:
        require(
            bool((got[..., 0] <= got[..., 2]).all()),
            "x1 is larger than x2: after a mirror the old right side is the new left side.",
        )
        require(
            not torch.equal(got, torch.tensor([[5.0, 2, 8, 6]])),
            "Off by one: W − 1 − x is for pixel numbers. A place x goes to W − x.",
        )
        require(
            not torch.equal(got, boxes),
            "Nothing has moved. Does the width of the image, 10, come into it?",
        )
    require_equal(got, [[6.0, 2, 9, 6]], "The box (1, 2, 4, 6) in an image 10 pixels wide.")
    require_equal(answer(torch.zeros(0, 4), 10), torch.zeros(0, 4), "No boxes, [0, 4].")
    kept = boxes.clone()
    answer(kept, 10)
    require(torch.equal(kept, boxes), "Your function writes into its input; return new values.")
    many = _boxes(60, 0).reshape(3, 20, 4)
    want = box_ops.hflip(many, 170.5)
    require_equal(
        answer(many, 170.5),
        want,
        "Boxes [3, 20, 4] in an image 170.5 wide: of [.., 4] index the last dimension.",
    )


@check("1.3")
def check_iou(answer: Callable) -> None:
    """`answer(a, b)` is the IoU of every pair, [A, B]."""
    a = torch.tensor([[0.0, 0, 4, 4]])
    got = numbers(answer(a, torch.tensor([[2.0, 1, 6, 5]]))).float()
    if got.numel() == 1:
        value = float(got)
        require(
            abs(value - 12 / 38) > 1e-4,
            "12 / 38 is what you get when 1 is added to each side; nothing here adds 1.",
        )
        require(
            abs(value - 6 / 32) > 1e-4,
            "6 / 32: the shared area is in both boxes, so in the sum of areas it counts twice.",
        )
        require(
            abs(value - 6 / 16) > 1e-4,
            "6 / 16 is the share of one box alone; divide by what at least one of them covers.",
        )
    require_equal(got, [[6 / 26]], "Two boxes of 4×4 that share 2×3 = 6 of 26 pixels.")
    apart = torch.tensor([[8.0, 8, 10, 9], [5, 0, 6, 4], [4, 0, 8, 4]])
    found = numbers(answer(a, apart))
    require(
        found.shape != (1, 3) or float(found[0, 0]) == 0,
        "Boxes that lie diagonally apart have IoU 0. Two negative sides have a positive product: "
        "clamp the sides before you multiply.",
    )
    require_equal(found, torch.zeros(1, 3), "Boxes that are apart, or only touch, have IoU 0.")
    point = torch.tensor([[3.0, 3, 3, 3]])
    require(
        not torch.isnan(numbers(answer(point, point))).any(),
        "Two boxes without area gave NaN, 0 / 0. Where the union is empty the answer is 0.",
    )
    require_equal(answer(point, point), [[0.0]], "Two boxes without area have IoU 0.")
    left, right = _boxes(30, 1), _boxes(50, 2)
    require_equal(answer(left, right), box_ops.iou(left, right), "30 random boxes with 50 others.")
    require_equal(answer(left[:0], right), torch.zeros(0, 50), "No box against 50: shape [0, 50].")


@check("1.4")
def check_decode(answer: Callable) -> None:
    """`answer(deltas, anchors, weights)` is the inverse of encode, clamped."""
    anchor = torch.tensor([[10.0, 10, 30, 20]])
    ones = (1.0, 1.0, 1.0, 1.0)
    still = numbers(answer(torch.zeros(1, 4), anchor, ones)).float()
    if still.shape == anchor.shape:
        require(
            not any(torch.equal(still[0, 2:], s) for s in torch.tensor([[20.0, 10], [10, 20]])),
            "Your last two numbers are a width and a height; a box here is (x1, y1, x2, y2).",
        )
    require_equal(still, anchor, "Deltas of 0 leave the anchor as it is.")
    moved = numbers(answer(torch.tensor([[0.25, 0.0, 0.0, 0.0]]), anchor, ones))
    require_equal(
        moved,
        [[15.0, 10, 35, 20]],
        "dx = 0.25 moves an anchor 20 wide by a quarter of its width, and by nothing else.",
    )
    taller = numbers(answer(torch.tensor([[0.0, 0.0, 0.0, math.log(2)]]), anchor, ones))
    require(
        taller.shape != (1, 4) or not torch.allclose(taller, torch.tensor([[10.0, 10, 30, 30]])),
        "The box grew downwards only: its centre stays, so half of the growth goes up.",
    )
    require_equal(
        taller, [[10.0, 5, 30, 25]], "dh = log 2 doubles the height about the centre (20, 15)."
    )
    both = answer(torch.tensor([[0.25, 0.0, math.log(2), 0.0]]), anchor, ones)
    require_equal(
        both,
        [[5.0, 10, 45, 20]],
        "dx = 0.25 with dw = log 2: dx counts in widths of the anchor, 20, not in new widths, 40.",
    )
    weights = (10.0, 10.0, 5.0, 5.0)
    weighted = numbers(answer(torch.tensor([[2.5, 0.0, 0.0, 0.0]]), anchor, weights))
    require(
        weighted.shape != (1, 4) or float(weighted[0, 0]) < 100,
        "With weight 10 the encoder multiplied dx by 10, so decoding divides by it.",
    )
    require_equal(weighted, [[15.0, 10, 35, 20]], "dx = 2.5 with weight 10 is dx = 0.25.")
    wild = numbers(answer(torch.tensor([[0.0, 0.0, 200.0, 0.0]]), anchor, ones)).float()
    require(
        bool(torch.isfinite(wild).all()),
        "dw = 200 gives an infinite box. Cut dw and dh at log(1000 / 16).",
    )
    limit = torch.tensor([[20 - 625.0, 10, 20 + 625, 20]])
    require_equal(wild, limit, "dw = 200 is cut: the box is 62.5 times as wide as its anchor.")
    late = numbers(answer(torch.tensor([[0.0, 0.0, 10.0, 0.0]]), anchor, weights)).float()
    want_late = box_ops.decode(torch.tensor([[0.0, 0.0, 10.0, 0.0]]), anchor, weights)
    require_equal(
        late,
        want_late,
        "dw = 10 with weight 5 is log-scale 2, under the limit: cut after the weight is divided "
        "out, not before.",
    )
    high = answer(torch.tensor([[0.0, 0.0, 0.0, 200.0]]), anchor, ones)
    require_equal(high, [[10, 15 - 312.5, 30, 15 + 312.5]], "dh = 200 is cut as dw is.")
    shrunk = torch.tensor([[0.0, 0.0, -6.0, -7.0]])
    require_equal(
        answer(shrunk, anchor, ones),
        box_ops.decode(shrunk, anchor),
        "dw = −6 makes a box 400 times as narrow. Cut from above only: small is not infinite.",
    )
    far = answer(torch.tensor([[6.0, -6.0, 0.0, 0.0]]), anchor, ones)
    require_equal(
        far, [[130.0, -50, 150, -40]], "dx = 6 is six widths away. Only dw and dh are logarithms."
    )
    generator = torch.Generator().manual_seed(0)
    anchors, deltas = _boxes(40, 3), torch.randn(40, 4, generator=generator)
    for each in (ones, weights, (2.0, 3.0, 4.0, 0.5)):
        want = box_ops.decode(deltas, anchors, each)
        require_equal(answer(deltas, anchors, each), want, f"Random deltas, weights {each}.")


@check("1.5")
def check_nms(answer: Callable) -> None:
    """`answer(boxes, scores, threshold)` is greedy NMS: indices, best score first."""
    row = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [5, 0, 15, 10], [20, 0, 30, 10]])
    boxes = torch.cat((row, torch.tensor([[8.0, 0, 18, 10]])))
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    got = _indices(answer(boxes, scores, 0.4))
    require(
        got != [0, 3],
        "Box 2 overlaps only box 1 by more than 0.4, and box 1 is gone: a box that has been "
        "thrown away suppresses nobody.",
    )
    require(
        got != [0, 2, 3, 4],
        "Box 4 overlaps box 2, which is kept. Compare with every kept box, not with the last.",
    )
    require_equal(got, [0, 2, 3], "The five boxes of the text, threshold 0.4.")
    got = _indices(answer(boxes, scores, 0.3))
    require_equal(got, [0, 3, 4], "The five boxes of the text, threshold 0.3.")
    shuffled = torch.tensor([4, 2, 0, 3, 1])
    got = _indices(answer(boxes[shuffled], scores[shuffled], 0.4))
    require(
        sorted(got) == [1, 2, 3],
        "Given in another order the same boxes gave another answer: go by score, not by place.",
    )
    require(got == [2, 1, 3], "The right boxes, but not with the best score first.")
    half = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])
    require(
        _indices(answer(half, scores[:2], 0.5)) == [0, 1],
        "An IoU of exactly 0.5 is not greater than the threshold 0.5: both boxes stay.",
    )
    require_equal(_indices(answer(torch.zeros(0, 4), torch.zeros(0), 0.5)), [], "No boxes at all.")
    for seed in range(12):
        many = _boxes(60, seed)
        ties = (10 * torch.rand(60, generator=torch.Generator().manual_seed(seed))).round() / 10
        want = box_ops.nms_reference(many, ties, 0.3)
        message = "60 random boxes, many of equal score; of equals the first in the input is first."
        require_equal(_indices(answer(many, ties, 0.3)), want, message)


def _indices(result: Any) -> list[int]:
    """A list of indices, from a list, a tensor or an array."""
    return [int(i) for i in numbers(result).flatten().tolist()]
