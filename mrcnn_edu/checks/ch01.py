"""Checks of Chapter 01: boxes of masks, flips, IoU, decoding, non-maximum suppression."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mrcnn_edu import boxes as box_ops
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
from mrcnn_edu.masks import to_boxes

LIMIT = math.log(1000 / 16)  # of dw and dh


def _boxes(n: int, seed: int, size: float = 100.0) -> Tensor:
    """`n` boxes of 1 to 60 pixels a side: [n, 4]."""
    generator = torch.Generator().manual_seed(seed)
    corner = size * torch.rand(n, 2, generator=generator)
    return torch.cat((corner, corner + 1 + 59 * torch.rand(n, 2, generator=generator)), dim=1)


@check("1.1")
def check_mask_to_box(answer: Callable) -> None:
    """`answer(mask)` is the tightest box of a mask [H, W], as float32 [4]."""
    answer = inputs_kept(answer)
    case("two rows, three columns")
    mask = torch.zeros(4, 6, dtype=torch.int64)
    mask[1:3, 2:5] = 1
    got = tensor(answer(mask))
    require_not(
        got,
        [2, 1, 4, 2],
        "Your box stops where the last pixel begins: the last column is 4, and it ends at 5.",
    )
    require_not(
        got,
        [1, 2, 3, 5],
        "x and y have changed places: x counts columns, and a mask is indexed [row, column].",
    )
    xywh = "These are x, y, width and height; a box here is (x1, y1, x2, y2)."
    require_not(got, [2, 1, 3, 2], xywh)
    require_equal(got, [2, 1, 5, 3], "The mask has rows 1 and 2 and columns 2 to 4.")
    require(
        got.dtype == torch.float32,
        f"Boxes are float32, because places have fractions; not {got.dtype}.",
    )
    case("the last pixel alone")
    single = torch.zeros(4, 6, dtype=torch.uint8)
    single[3, 5] = 1
    require_equal(answer(single), [5, 3, 6, 4], "A mask of the last pixel of a 4×6 image alone.")
    case("no pixel")
    for kind in (torch.float32, torch.bool):
        empty = tensor(answer(torch.zeros(4, 6, dtype=kind)), torch.float32)
        require_equal(empty, torch.zeros(4), "A mask without pixels has the box (0, 0, 0, 0).")
    for seed in range(20):
        case(f"random {seed}")
        generator = torch.Generator().manual_seed(seed)
        random = torch.rand(9, 7, generator=generator) < 0.1
        got = answer(random)
        rows, columns = random.nonzero(as_tuple=True)
        want = to_boxes(random[None])[0]
        in_order = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        if in_order != want.tolist():
            require_not(
                got,
                in_order,
                f"A random mask, seed {seed}: the first pixel of `nonzero` is in the top row, but "
                "it need not be the leftmost.",
            )
        require_equal(got, want, f"A random mask, seed {seed}.")


@check("1.2")
def check_hflip(answer: Callable) -> None:
    """`answer(boxes, width)` mirrors boxes [.., 4] left to right."""
    answer = inputs_kept(answer)
    case("one box")
    boxes = torch.tensor([[1.0, 2, 4, 6]])
    got = tensor(answer(boxes, 10))
    require_not(
        got,
        [[9, 2, 6, 6]],
        "x1 is larger than x2: after a mirror the old right side is the new left side.",
    )
    require_not(
        got,
        [[6, 2, 4, 6]],
        "x2 was computed from the new x1: compute both from the old box, then put them together.",
    )
    off_by_one = "Off by one: W − 1 − x is for pixel numbers. A place x goes to W − x."
    require_not(got, [[5, 2, 8, 6]], off_by_one)
    require_not(got, boxes, "Nothing has moved. Does the width of the image, 10, come into it?")
    require_equal(got, [[6, 2, 9, 6]], "The box (1, 2, 4, 6) in an image 10 pixels wide.")
    case("a box that leaves the image on both sides")
    wide = answer(torch.tensor([[-2.5, 1, 11, 3]]), 10)
    require_equal(
        wide,
        [[-1, 1, 12.5, 3]],
        "The box (−2.5, 1, 11, 3) in an image 10 wide leaves it on both sides, and mirrored it "
        "still does: this is no place to clip or to take absolute values.",
    )
    case("no boxes")
    require_equal(answer(torch.zeros(0, 4), 10), torch.zeros(0, 4), "No boxes, [0, 4].")
    case("a width with a fraction")
    some = _boxes(20, 1)
    got = answer(some, 170.5)
    require_not(got, box_ops.hflip(some, 170), "The image is 170.5 wide, and the half counts.")
    require_equal(got, box_ops.hflip(some, 170.5), "20 boxes in an image 170.5 wide.")
    case("boxes [3, 20, 4]")
    many = _boxes(60, 0).reshape(3, 20, 4)
    got = answer(many, 200)
    second = many.clone()
    second[:, [0, 2]] = 200 - many[:, [2, 0]]
    require_not(got, second, "Of boxes [3, 20, 4] index the last dimension: `boxes[..., 0]`.")
    require_equal(got, box_ops.hflip(many, 200), "Boxes [3, 20, 4] in an image 200 wide.")


@check("1.3")
def check_iou(answer: Callable) -> None:
    """`answer(a, b)` is the IoU of every pair, [A, B]."""
    answer = inputs_kept(answer)
    case("two boxes")
    a = torch.tensor([[0.0, 0, 4, 4]])
    got = tensor(answer(a, torch.tensor([[2.0, 1, 6, 6]])))
    for value, why in (
        (12 / 43, "12 / 43 is what you get when 1 is added to each side; nothing here adds 1."),
        (6 / 36, "6 / 36: the shared area is in both boxes; in the sum of areas it counts twice."),
        (6 / 16, "6 / 16 is the share of one box alone; divide by what at least one covers."),
        (6 / 20, "6 / 20 is the share of the other box; divide by what at least one covers."),
        (12 / 36, "12 / 36 is Dice's measure, twice the shared area over the sum of the areas."),
    ):
        require_not(got, [[value]], why)
    require_equal(got, [[6 / 30]], "4×4 and 4×5 pixels that share 2×3 = 6 of 30.")
    case("boxes that are apart")
    apart = torch.tensor([[8.0, 8, 10, 9], [5, 0, 6, 4], [4, 0, 8, 4]])
    found = tensor(answer(a, apart))
    require(
        found.shape != (1, 3) or float(found[0, 0]) == 0,
        "Boxes that lie diagonally apart have IoU 0. Two negative sides have a positive product: "
        "clamp the sides before you multiply.",
    )
    require_equal(found, torch.zeros(1, 3), "Boxes that are apart, or only touch, have IoU 0.")
    case("boxes without area")
    point = torch.tensor([[3.0, 3, 3, 3]])
    found = tensor(answer(point, point))
    require(
        not torch.isnan(found).any(),
        "Two boxes without area gave NaN, 0 / 0. Where the union is empty the answer is 0.",
    )
    require_equal(found, [[0.0]], "Two boxes without area have IoU 0.")
    case("tiny boxes")
    tiny = torch.tensor([[0.0, 0, 0.1, 0.1]])
    require_equal(
        answer(tiny, torch.tensor([[0.0, 0, 0.1, 0.05]])),
        [[0.5]],
        "A box of a tenth of a pixel and its half: add nothing to a union that is small.",
    )
    case("random boxes")
    left, right = _boxes(30, 1), _boxes(50, 2)
    require_equal(answer(left, right), box_ops.iou(left, right), "30 random boxes with 50 others.")
    case("none against fifty")
    require_equal(answer(left[:0], right), torch.zeros(0, 50), "No box against 50: shape [0, 50].")


@check("1.4")
def check_decode(answer: Callable) -> None:
    """`answer(deltas, anchors, weights)` is the inverse of encode, clamped."""
    answer = inputs_kept(answer)
    anchor = torch.tensor([[10.0, 10, 30, 20]])
    ones = (1.0, 1.0, 1.0, 1.0)

    def of(*deltas: float, weights: tuple = ones) -> Tensor:
        return tensor(answer(torch.tensor([deltas]), anchor, weights))

    case("deltas of 0")
    still = of(0.0, 0.0, 0.0, 0.0)
    for sides in ([20, 10], [10, 20]):
        for corner in ([10, 10], [20, 15]):
            require_not(
                still,
                [[*corner, *sides]],
                "Your last two numbers are a width and a height; a box here is (x1, y1, x2, y2).",
            )
    require_equal(still, anchor, "Deltas of 0 leave the anchor as it is.")
    case("dx alone")
    moved = of(0.25, 0.0, 0.0, 0.0)
    require_not(
        moved,
        [[10.25, 10, 30.25, 20]],
        "dx = 0.25 moved the box by a quarter of a pixel; it counts in widths of the anchor, so by "
        "a quarter of its width.",
    )
    require_equal(moved, [[15, 10, 35, 20]], "dx = 0.25 with an anchor 20 wide.")
    case("dh alone")
    taller = of(0.0, 0.0, 0.0, math.log(2))
    require_not(
        taller,
        [[10, 10, 30, 30]],
        "The box grew downwards only: its centre stays, so half of the growth goes up.",
    )
    require_equal(taller, [[10, 5, 30, 25]], "dh = log 2 doubles the height about (20, 15).")
    case("dx and dw")
    both = of(0.25, 0.0, math.log(2), 0.0)
    require_not(
        both,
        [[10, 10, 50, 20]],
        "dx = 0.25 with dw = log 2: dx counts in widths of the anchor, 20, not in new widths, 40.",
    )
    require_equal(both, [[5, 10, 45, 20]], "dx = 0.25 with dw = log 2.")
    case("weights")
    weights = (10.0, 10.0, 5.0, 5.0)
    weighted = of(2.5, 0.0, 0.0, 0.0, weights=weights)
    require_not(
        weighted,
        [[510, 10, 530, 20]],
        "With weight 10 the encoder multiplied dx by 10, so decoding divides by it.",
    )
    require_equal(weighted, [[15, 10, 35, 20]], "dx = 2.5 with weight 10 is dx = 0.25.")
    case("no weights given")
    some = torch.tensor([[0.25, 0.5, 0.1, 0.2]])
    why = "Called without weights, all four are 1."
    require_equal(answer(some, anchor), box_ops.decode(some, anchor), why)
    case("dw = 200")
    wild = of(0.0, 0.0, 200.0, 0.0)
    require(
        bool(torch.isfinite(wild).all()),
        "dw = 200 gives an infinite box. Cut dw and dh at log(1000 / 16).",
    )
    why = "dw = 200 is cut: the box is 62.5 times as wide as its anchor."
    require_equal(wild, [[20 - 625, 10, 20 + 625, 20]], why)
    case("dw = 10 with weight 5")
    late, got = torch.tensor([[0.0, 0.0, 10.0, 0.0]]), of(0.0, 0.0, 10.0, 0.0, weights=weights)
    require_not(
        got,
        box_ops.decode(late.clamp(max=LIMIT), anchor, weights),
        "dw = 10 with weight 5 is log-scale 2, under the limit: cut after the weight is divided "
        "out, not before.",
    )
    require_equal(got, box_ops.decode(late, anchor, weights), "dw = 10 with weight 5.")
    case("dh = 200")
    high = of(0.0, 0.0, 0.0, 200.0)
    require_equal(high, [[10, 15 - 312.5, 30, 15 + 312.5]], "dh = 200 is cut as dw is.")
    case("dw = −6")
    small, got = torch.tensor([[0.0, 0.0, -6.0, -7.0]]), of(0.0, 0.0, -6.0, -7.0)
    require_not(
        got,
        box_ops.decode(small.clamp(min=-LIMIT), anchor),
        "dw = −6 makes a box 400 times as narrow. Cut from above only: small is not infinite.",
    )
    require_equal(got, box_ops.decode(small, anchor), "dw = −6, dh = −7.")
    case("dx = 6")
    far = of(6.0, -6.0, 0.0, 0.0)
    for low in (-6.0, -LIMIT):
        cut = box_ops.decode(torch.tensor([[LIMIT, low, 0.0, 0.0]]), anchor)
        why = "dx = 6 is six widths away, and was cut. Only dw and dh are logarithms."
        require_not(far, cut, why)
    require_equal(far, [[130, -50, 150, -40]], "dx = 6 is six widths away, dy = −6 six heights.")
    case("random deltas")
    generator = torch.Generator().manual_seed(0)
    anchors, deltas = _boxes(40, 3), torch.randn(40, 4, generator=generator)
    for each in (ones, weights, (2.0, 3.0, 4.0, 0.5)):
        want = box_ops.decode(deltas, anchors, each)
        require_equal(answer(deltas, anchors, each), want, f"Random deltas, weights {each}.")
    case("boxes [2, 20, 4]")
    many = box_ops.decode(deltas, anchors).reshape(2, 20, 4)
    got = answer(deltas.reshape(2, 20, 4), anchors.reshape(2, 20, 4), ones)
    require_equal(got, many, "Deltas and anchors [2, 20, 4]: split the last dimension.")
    case("the gradient of dw = 200")
    deltas = torch.tensor([[0.0, 0.0, 200.0, 0.0]], requires_grad=True)
    tensor(answer(deltas, anchor, ones)).sum().backward()
    gradient = tensor(deltas.grad)
    require(
        bool(torch.isfinite(gradient).all()),
        "The box of dw = 200 is right, its gradient is not a number: exp(200) is infinite, and "
        "infinity times 0 is NaN. Cut dw before exp, not what comes out of it.",
    )


@check("1.5")
def check_nms(answer: Callable) -> None:
    """`answer(boxes, scores, threshold)` is greedy NMS: indices, best score first."""
    answer = inputs_kept(answer)
    case("five boxes, threshold 0.4")
    row = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [5, 0, 15, 10], [20, 0, 30, 10]])
    boxes = torch.cat((row, torch.tensor([[8.0, 0, 18, 10]])))
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    got = _indices(answer(boxes, scores, 0.4))
    require_not(
        got,
        [0, 3],
        "Box 2 overlaps only box 1 by more than 0.4, and box 1 is gone: a box that has been "
        "thrown away suppresses nobody.",
    )
    require_not(
        got,
        [0, 2, 3, 4],
        "Box 4 overlaps box 2, which is kept. Compare with every kept box, not with the last.",
    )
    require_equal(got, [0, 2, 3], "The five boxes of the text, threshold 0.4.")
    case("five boxes, threshold 0.3")
    got = _indices(answer(boxes, scores, 0.3))
    require_equal(got, [0, 3, 4], "The five boxes of the text, threshold 0.3.")
    case("the boxes in another order")
    shuffled = torch.tensor([4, 2, 0, 1, 3])
    got = _indices(answer(boxes[shuffled], scores[shuffled], 0.4))
    require_not(
        got,
        box_ops.nms_reference(boxes[shuffled], -torch.arange(5).float(), 0.4),
        "Given in another order the same boxes gave another answer: go by score, not by place.",
    )
    require_not(
        got,
        [0, 2, 3],
        "These are places in the sorted list. Asked are indices of the boxes as they were given.",
    )
    require_not(got, [1, 2, 4], "The right boxes, but not with the best score first.")
    require_equal(got, [2, 1, 4], "The five boxes in the order 4, 2, 0, 1, 3.")
    case("an IoU equal to the threshold")
    half = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])
    require_not(
        _indices(answer(half, scores[:2], 0.5)),
        [0],
        "An IoU of exactly 0.5 is not greater than the threshold 0.5: both boxes stay.",
    )
    require_equal(_indices(answer(half, scores[:2], 0.5)), [0, 1], "Two boxes of IoU 0.5.")
    case("no boxes")
    require_equal(_indices(answer(torch.zeros(0, 4), torch.zeros(0), 0.5)), [], "No boxes at all.")
    for seed in range(12):
        case(f"random {seed}")
        many = _boxes(60, seed)
        ties = (10 * torch.rand(60, generator=torch.Generator().manual_seed(seed))).round() / 10
        want = box_ops.nms_reference(many, ties, 0.3)
        message = "60 random boxes, many of equal score; of equals the first in the input is first."
        require_equal(_indices(answer(many, ties, 0.3)), want, message)


def _indices(result: Any) -> list[int]:
    """A list of indices, from a list, a tensor or an array."""
    return [int(i) for i in numbers(result).flatten().tolist()]
