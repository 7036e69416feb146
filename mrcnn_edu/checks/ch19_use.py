"""Checks of chapter 19, in use: which masks of a grid of clicks survive, and the next click."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

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

# ---------------------------------------------------------------- 19.3


def _survivors(
    logits: Tensor, scores: Tensor, least_score: float = 0.88, least_stability: float = 0.95
) -> Tensor:
    inner, outer = (logits > 1).sum(dim=(2, 3)), (logits > -1).sum(dim=(2, 3))
    stable = inner / outer.clamp(min=1)
    good = (scores > least_score) & (stable >= least_stability)
    good[:, 0] = False
    pairs = good.nonzero()
    return pairs[scores[good].argsort(descending=True)]


def _bars(*lengths: tuple[int, int]) -> Tensor:
    """Masks of 1 × 40: so many cells at +3, then so many at 0, the rest at −3: [masks, 1, 40]."""
    cells = torch.arange(40)
    return torch.stack(
        [torch.where(cells < a, 3.0, torch.where(cells < a + b, 0.0, -3.0)) for a, b in lengths]
    )[:, None]


@check("19.3")
def check_survivors(answer: Callable[..., Tensor]) -> None:
    """Check which answers to a grid of clicks are kept, and in which order."""
    answer = inputs_kept(answer)
    case("two clicks")
    sharp, soft = (20, 0), (10, 10)
    logits = torch.stack([_bars(sharp, sharp, soft, sharp), _bars(sharp, sharp, sharp, sharp)])
    scores = torch.tensor([[0.99, 0.95, 0.97, 0.5], [0.98, 0.90, 0.96, 0.2]])
    want = torch.tensor([[1, 2], [0, 1], [1, 1]])
    got = tensor(answer(logits, scores))
    with_first = torch.tensor([[0, 0], [1, 0], [1, 2], [0, 1], [1, 1]])
    require_not(
        got,
        with_first,
        "Mask 0 is among them: it answers prompts of several points, and these are single clicks.",
    )
    require_not(got, want.flip(0), "The worst comes first: sort by score, the best first.")
    require_not(
        got,
        torch.tensor([[0, 1], [1, 1], [1, 2]]),
        "Right ones, in the order of the clicks: they are wanted best first.",
    )
    require_not(
        got,
        torch.tensor([[0, 2], [1, 2], [0, 1], [1, 1]]),
        "A mask that loses half of its cells when the threshold rises from −1 to +1 was kept: "
        "stability was not asked for, or was measured too close to the threshold.",
    )
    require_equal(
        got,
        want,
        "Two clicks. Mask 2 of the first is blurred; masks 3 have low scores: [[1, 2], [0, 1], "
        "[1, 1]] (click, mask).",
    )

    case("on the threshold")
    logits = torch.stack([_bars((20, 0), (19, 1), (18, 2), (20, 0))])
    scores = torch.tensor([[0.0, 0.9, 0.95, 0.88]])
    require_equal(
        answer(logits, scores),
        [[0, 1]],
        "Stability 19 / 20 is enough, 18 / 20 is not; a score of 0.88 is not *over* 0.88.",
    )

    case("one cell")
    one = _bars((1, 0), (1, 0), (0, 1), (0, 0))[None]
    require_equal(
        answer(one, torch.tensor([[0.9, 0.91, 0.92, 0.93]])),
        [[0, 1]],
        "A mask of one sure cell stays; one unsure cell, or no cell at all, does not.",
    )

    case("exact logits")
    edge = torch.full((1, 4, 1, 4), 3.0)
    edge[0, 1, 0, 0] = 1.0
    edge[0, 2, 0, 0] = -1.0
    require_equal(
        answer(edge, torch.tensor([[0.9, 0.91, 0.92, 0.93]])),
        [[0, 3], [0, 2]],
        "A logit of just 1 is not over 1, so mask 1 has stability 3 / 4; one of just −1 is not "
        "over −1, so mask 2 has 3 / 3.",
    )

    case("nothing good")
    none = tensor(answer(one, torch.zeros(1, 4)))
    require_equal(none, torch.zeros(0, 2, dtype=torch.int64), "No survivor: [0, 2], no error.")

    generator = torch.Generator().manual_seed(0)
    for number in range(3):
        case(f"random {number}")
        logits = 1.0 + 3 * torch.randn(30, 4, 3, 3, generator=generator)
        scores = torch.rand(30, 4, generator=generator)
        got = answer(logits, scores, 0.4, 0.6)
        require_equal(
            got,
            _survivors(logits, scores, 0.4, 0.6),
            "30 clicks, least_score 0.4, least_stability 0.6.",
        )


# ---------------------------------------------------------------- 19.4


def _depths(region: Tensor) -> Tensor:
    """How many layers lie over each cell of a region [H, W], by looking at every square."""
    height, width = region.shape
    depth = torch.zeros(height, width, dtype=torch.int64)
    for y in range(height):
        for x in range(width):
            reach = min(x, y, width - 1 - x, height - 1 - y)
            for d in range(reach + 1):
                if not region[y - d : y + d + 1, x - d : x + d + 1].all():
                    break
                depth[y, x] = d + 1
    return depth


def _require_click(got: Any, mask: Tensor, target: Tensor, story: str) -> None:
    require(
        isinstance(got, tuple | list) and len(got) == 3,
        f"(x, y, label) is wanted, three numbers; you return {got!r}.",
    )
    x, y, label = (float(v) for v in got)
    height, width = mask.shape
    wrong = mask != target
    region = wrong if wrong.any() else target
    column, row = int(x), int(y)
    if not (row < height and column < width and region[row, column]):
        swapped = 0 <= column < height and 0 <= row < width and bool(region[column, row])
        require(
            not swapped,
            f"{story} x and y are exchanged: a mask is [row, column], a click is (x, y).",
        )
    require(
        0 <= x < width and 0 <= y < height,
        f"{story} Your click ({x:g}, {y:g}) is outside of the image, {width} wide, {height} high.",
    )
    require(
        x % 1 == 0.5 and y % 1 == 0.5,
        f"{story} Your click ({x:g}, {y:g}) is not the centre of a pixel: pixel j of a row has its "
        "centre at j + ½ (chapter 01).",
    )
    depth = _depths(region)
    require(bool(region[row, column]), f"{story} There is no mistake at your click ({x:g}, {y:g}).")
    require(
        int(depth[row, column]) == int(depth.max()),
        f"{story} Your click ({x:g}, {y:g}) lies under {int(depth[row, column])} layers of "
        f"mistakes; the deepest pixel lies under {int(depth.max())}.",
    )
    require(
        label == float(target[row, column]),
        f"{story} The label says what is true at the click, 1 on the object and 0 beside it: here "
        f"{int(target[row, column])}, not {label:g}.",
    )


@check("19.4")
def check_next_click(answer: Callable[[Tensor, Tensor], tuple[float, float, int]]) -> None:
    """Check the next click: in the middle of the largest mistake, with its label."""
    answer = inputs_kept(answer)
    case("a missing half")
    target = torch.zeros(9, 14, dtype=torch.bool)
    target[2:7, 3:13] = True
    mask = target.clone()
    mask[:, 8:] = False
    _require_click(answer(mask, target), mask, target, "Half of a bar is missing.")

    case("too much")
    mask = target.clone()
    mask[0:9, 0:3] = True
    _require_click(answer(mask, target), mask, target, "The mask sticks out on the left.")

    case("two mistakes")
    mask = target.clone()
    mask[3:6, 4:7] = False
    mask[7:, :] = True
    _require_click(answer(mask, target), mask, target, "A hole of 3 × 3, and a strip of 2 × 14.")

    case("at the border")
    mask, target = torch.zeros(2, 6, 7, dtype=torch.bool)
    target[:, :3] = True
    _require_click(answer(mask, target), mask, target, "An object cut by the border of the image.")
    whole = torch.ones(5, 9, dtype=torch.bool)
    nothing = torch.zeros(5, 9, dtype=torch.bool)
    _require_click(answer(nothing, whole), nothing, whole, "The object is the whole image.")

    case("a single pixel")
    for row, column in ((5, 8), (0, 0), (5, 0), (0, 8)):
        mask, target = torch.zeros(2, 6, 9, dtype=torch.bool)
        target[row, column] = True
        _require_click(answer(mask, target), mask, target, "One pixel in a corner is missing.")

    case("nothing wrong")
    target = torch.zeros(8, 6, dtype=torch.bool)
    target[1:6, 2:5] = True
    _require_click(
        answer(target.clone(), target), target, target, "No mistake: click in the object's middle."
    )

    generator = torch.Generator().manual_seed(0)
    for number in range(6):
        case(f"random {number}")
        cells = torch.rand(2, 4, 5, generator=generator) < 0.5
        mask, target = cells.repeat_interleave(3, dim=1).repeat_interleave(4, dim=2)
        got = answer(mask, target)
        _require_click(got, mask, target, "Random blocks of 3 × 4 pixels.")
        require(len(numbers(list(got))) == 3, "Three plain numbers are wanted: (x, y, label).")
