"""Checks of chapter 04: softmax and sigmoid, sampling, the box loss, merging levels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mrcnn_edu.boxes import batched_nms
from mrcnn_edu.checks.common import (
    case,
    check,
    inputs_kept,
    numbers,
    parts,
    require,
    require_equal,
    require_not,
    tensor,
)
from mrcnn_edu.matching import BELOW, BETWEEN


@check("4.1")
def check_to_sigmoid(answer: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    """Check the conversion of a two-class head [2a, C, 1, 1] to a sigmoid head [a, C, 1, 1]."""
    answer = inputs_kept(answer)
    case("two anchors")
    weight = torch.tensor([1.0, 10.0, 4.0, 50.0]).reshape(4, 1, 1, 1)  # background 1, 10
    bias = torch.tensor([0.0, 1.0, 2.0, 5.0])
    got = parts(answer(weight, bias), "weight", "bias")
    first = tensor(got[0]).flatten()
    require_not(first, [-3, -40], "The signs are turned: the logit is object minus background.")
    require_not(
        first,
        [9, 46],
        "Background of all anchors comes first, then object of all anchors: they do not alternate.",
    )
    require_not(
        first,
        [4, 50],
        "The background output counts too: only the difference of the two decides.",
    )
    require_equal(got[0], torch.tensor([3.0, 40]).reshape(2, 1, 1, 1), "Weights of two anchors.")
    require_not(got[1], [2, 5], "The bias is a difference as well.")
    require_equal(got[1], [2, 4], "The biases of two anchors.")
    case("a random head of three anchors")
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 8, 1, 1, generator=generator)
    bias = torch.randn(6, generator=generator)
    x = torch.randn(2, 8, 4, 5, generator=generator)
    one_weight, one_bias = parts(answer(weight, bias), "weight", "bias")
    require(tensor(one_weight).shape == (3, 8, 1, 1), "Three anchors have weights [3, 8, 1, 1].")
    require(tensor(one_bias).shape == (3,), "Three anchors have biases [3].")
    two = F.conv2d(x, weight, bias).unflatten(1, (2, 3))  # [N, 2, a, H, W]
    require_equal(
        F.conv2d(x, one_weight, one_bias).sigmoid(),
        two.softmax(dim=1)[:, 1],
        "A random head of three anchors: the probabilities must not change.",
    )


@check("4.2")
def check_sample(answer: Callable[[Tensor, int, torch.Generator], tuple[Tensor, Tensor]]) -> None:
    """Check a balanced sample of matches: ≥ 0 positive, −1 negative, −2 ignored."""
    answer = inputs_kept(answer)

    def draw(matches: Tensor, count: int, seed: int = 0) -> tuple[list[int], list[int]]:
        before = torch.get_rng_state()
        got = answer(matches, count, torch.Generator().manual_seed(seed))
        require(
            torch.equal(before, torch.get_rng_state()),
            "You drew from PyTorch's global generator, or seeded it, which changes the randomness "
            "of the rest of the program: use the generator that is passed in.",
        )
        positive, negative = (
            numbers(x).flatten().tolist()
            for x in parts(got, "positive indices", "negative indices")
        )
        kinds = [int(matches[i]) for i in positive], [int(matches[i]) for i in negative]
        own_positives = list(range(len(positive)))
        require(
            min(kinds[0], default=0) >= 0
            or not positive
            or sorted(positive) != own_positives
            or matches[0] >= 0,
            "Your indices count among the positives, and those of the negatives among the "
            "negatives; asked are indices into all anchors.",
        )
        ignored = [i for i in positive + negative if matches[i] == BETWEEN]
        require(not ignored, f"Anchor {ignored[:1]} is ignored (match −2) but was drawn.")
        require(
            all(kind >= 0 for kind in kinds[0]) and all(kind == BELOW for kind in kinds[1]),
            "First the indices of positives, then those of negatives; indices into all anchors.",
        )
        drawn = positive + negative
        require(len(set(drawn)) == len(drawn), "An anchor was drawn twice.")
        return positive, negative

    case("one positive, seven negatives")
    few = torch.tensor([-1, 0, -1, -2, -1, -1, -1, -2, -1, -1])
    positive, negative = draw(few, 6)
    require(
        positive == [1],
        "There is one positive, anchor 1, and room for three: take it. It belongs to object 0, "
        "and 0 is a match as good as any.",
    )
    require(
        len(negative) == 5,
        f"One positive was there, so five negatives fill the sample of six; yours has "
        f"{len(negative)}: room for negatives depends on the positives you got.",
    )
    case("fifty of each")
    many = torch.cat([torch.arange(50) % 3, torch.full((50,), BELOW)])
    positive, negative = draw(many, 20)
    require(len(positive) == 10, f"At most half of 20 are positive; yours has {len(positive)}.")
    require(len(negative) == 10, f"Ten negatives fill the sample; yours has {len(negative)}.")
    require(
        sorted(positive) != list(range(10)) and draw(many, 20, seed=1)[0] != positive,
        "Always the first ones? Draw at random, with the generator.",
    )
    require(
        sorted(negative) != list(range(50, 60)) and draw(many, 20, seed=1)[1] != negative,
        "The positives are drawn at random, the negatives always the same: draw both.",
    )
    require(
        draw(many, 20) == draw(many, 20),
        "The same seed gave two different samples: use the generator that is passed in.",
    )
    case("an odd sample")
    positive, negative = draw(many, 7)
    require(
        (len(positive), len(negative)) == (3, 4),
        f"Half of 7 is 3.5: at most 3 positives, then 4 negatives; yours has {len(positive)} and "
        f"{len(negative)}.",
    )
    case("100 seeds")
    _is_fair([draw(many, 20, seed) for seed in range(100)])
    for name, kind in (("no anchors", []), ("negatives only", [BELOW] * 4),
                       ("positives only", [2] * 4), ("ignored only", [BETWEEN] * 4)):  # fmt: skip
        case(name)
        matches = torch.tensor(kind, dtype=torch.int64)
        positive, negative = draw(matches, 6)
        wanted = min(3, int((matches >= 0).sum())), int((matches == BELOW).sum())
        require(
            (len(positive), len(negative)) == wanted,
            f"Matches {kind}, a sample of 6: {wanted[0]} positives and {wanted[1]} negatives.",
        )


def _is_fair(draws: list[tuple[list[int], list[int]]]) -> None:
    """Fail unless in 100 samples of ten from fifty each was drawn about twenty times."""
    for kind, low in ((0, 0), (1, 50)):
        runs = [max(d[kind]) - min(d[kind]) == 9 for d in draws]
        require(
            not all(runs),
            "Your sample is always ten neighbours in a row. Neighbours are near copies: every "
            "subset must be possible (torch.randperm).",
        )
        times = torch.bincount(torch.tensor([d[kind] for d in draws]).flatten() - low, minlength=50)
        rare, often = int(times.min()), int(times.max())
        require(
            rare >= 4 and often <= 42,  # four standard deviations of 4
            f"In 100 samples of 10 from 50 each should come about 20 times; anchor "
            f"{low + int(times.argmin())} came {rare} times, {low + int(times.argmax())} {often}.",
        )


@check("4.3")
def check_box_loss(answer: Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]) -> None:
    """Check the box loss of the RPN over a sample of anchors."""
    answer = inputs_kept(answer)

    def loss(*given: Any) -> Tensor:
        got = tensor(answer(*given))
        require(got.numel() == 1, f"A loss is one number; yours has shape {list(got.shape)}.")
        return got

    case("one positive, one negative")
    deltas = torch.zeros(5, 4)
    deltas[1, 0], deltas[2], deltas[3, 2] = 2.0, 9.0, 0.5
    wanted = torch.zeros(5, 4)
    positive, sampled = torch.tensor([1]), torch.tensor([1, 2])
    got = loss(deltas, wanted, positive, sampled, 1.0)
    require_not(
        got,
        1.5,
        "1.5 is the loss of the one positive: divide by the number of sampled anchors, here two, "
        "not by that of positives.",
    )
    for mean in (1.5 / 8, 1.5 / 4):
        require_not(got, mean, "The four deltas of an anchor add up; the loss is not their mean.")
    require_not(got, 1.5 / 5, "Five anchors are there, two were sampled: divide by two.")
    for negatives in (17.75, 35.5):
        require_not(
            got, negatives, "Anchor 2 is negative: nobody knows where a background box should go."
        )
    require_equal(got, 0.75, "One positive whose first delta is off by 2, β = 1: (2 − ½) / 2.")
    case("an error below β")
    got = loss(deltas, wanted, torch.tensor([3]), torch.tensor([0, 3]), 1.0)
    require_not(got, 0.125, "An error of ½ below β = 1 is squared, ½²/2, not |½| − ½ or ½².")
    require_equal(got, 0.0625, "An error of ½ with β = 1 lies on the parabola: ½²/2, over two.")
    case("one anchor sampled")
    require_equal(loss(deltas, wanted, positive, positive, 1.0), 1.5, "One anchor, one positive.")
    case("no positives")
    none = torch.zeros(0, dtype=torch.long)
    nothing = loss(deltas, wanted, none, torch.tensor([0, 2]), 1.0)
    require(
        not torch.isnan(nothing).any(),
        "An image without positives gives NaN: a mean over nothing. Sum, then divide.",
    )
    require_equal(nothing, 0.0, "An image without positives has no box loss.")
    case("nothing sampled")
    require_equal(loss(deltas, wanted, none, none, 1.0), 0.0, "Nothing was sampled at all.")
    case("random deltas, β = 1/9")
    generator = torch.Generator().manual_seed(0)
    deltas, wanted = torch.randn(2, 50, 4, generator=generator)
    positive, sampled = torch.arange(0, 20, 2), torch.arange(0, 40)

    def theirs(beta: float) -> Tensor:
        found, true = deltas[positive], wanted[positive]
        return F.smooth_l1_loss(found, true, beta=beta, reduction="sum") / 40

    got = loss(deltas, wanted, positive, sampled, 1 / 9)
    require_not(got, theirs(1.0), "Your loss is that of β = 1: it does not use β, here 1/9.")
    require_equal(got, theirs(1 / 9), "Random deltas, β = 1/9.")
    case("the gradient")
    deltas.requires_grad_()
    got = loss(deltas, wanted, positive, sampled, 1 / 9)
    require(
        got.requires_grad,
        "The number is right, but no gradient goes through it: a loss that was detached or turned "
        "into a Python number (`item`, `detach`, `torch.tensor(…)`) trains nothing.",
    )
    (gradient,) = torch.autograd.grad(got, deltas)
    (want,) = torch.autograd.grad(theirs(1 / 9), deltas)
    require_equal(gradient, want, "The gradient of random deltas.", 1e-6)


@check("4.4")
def check_merge(answer: Callable[[Tensor, Tensor, Tensor, float, int], Tensor]) -> None:
    """Check non-maximum suppression within levels, and the best of all levels."""
    answer = inputs_kept(answer)

    def kept(*given: Any) -> list[int]:
        got = numbers(answer(*given))
        require(got.dim() == 1, f"Return a list of indices; yours has shape {list(got.shape)}.")
        return got.tolist()

    case("four boxes on two levels")
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 9], [50.0, 0, 60, 10], [0.0, 0, 10, 10]])
    scores = torch.tensor([0.5, 0.9, 0.8, 0.7])
    levels = torch.tensor([0, 0, 0, 1])
    got = kept(boxes, scores, levels, 0.7, 10)
    require_not(
        got,
        [1, 2],
        "Box 3 is gone: it overlaps box 1, but lies on another level. NMS is within a level.",
    )
    for places in ([1, 2, 0], [0, 1, 2], [0, 1, 0]):
        require_not(got, places, "Your indices count within a level; return those of all boxes.")
    require_not(got, [1, 2, 3, 0], "Box 0 stays, though it is nearly box 1, which scores higher.")
    if sorted(got) == [1, 2, 3]:
        require(got == [1, 2, 3], "Best first: the levels are merged by score.")
    require_equal(got, [1, 2, 3], "Boxes 1, 2 and 3 stay; box 0 is nearly box 1.")
    case("count = 2")
    require_not(
        kept(boxes, scores, levels, 0.7, 2),
        [1, 2, 3],
        "With count = 2 the best two of all levels stay, not two of each.",
    )
    require_equal(kept(boxes, scores, levels, 0.7, 2), [1, 2], "The same with count = 2.")
    case("near copies and count = 2")
    cut = kept(boxes[[1, 0, 2]], torch.tensor([0.9, 0.85, 0.3]), levels[:3], 0.7, 2)
    require_not(
        cut,
        [0],
        "Cut to count last. Boxes 0 and 1 score best and are near copies: after NMS one of them is "
        "left, and box 2 has room.",
    )
    require_equal(cut, [0, 2], "Two near copies and a third box, count = 2.")
    case("equal scores")
    equal = torch.full((4,), 0.5)
    apart = boxes + 100 * torch.arange(4.0)[:, None]
    got = kept(apart, equal, torch.tensor([0, 1, 0, 1]), 0.7, 4)
    require_equal(sorted(got), [0, 1, 2, 3], "Four boxes apart, all of score ½: all stay.")
    case("no boxes")
    empty = kept(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), 0.7, 5)
    require(empty == [], "No boxes: return no indices.")
    generator = torch.Generator().manual_seed(0)
    for threshold in (0.3, 0.5, 0.7):
        case(f"random boxes, threshold {threshold}")
        centre = 500 * torch.rand(12, 2, generator=generator) - 250
        corners = (centre[:, None] + 12 * torch.rand(12, 20, 2, generator=generator)).flatten(0, 1)
        side = 25 + 10 * torch.rand(240, 2, generator=generator)
        boxes = torch.cat([corners, corners + side], dim=1)
        scores = torch.rand(240, generator=generator)
        levels = torch.randint(2, 8, (240,), generator=generator)  # 2 to 7
        require_equal(
            kept(boxes, scores, levels, threshold, 60),
            batched_nms(boxes, scores, levels, threshold)[:60],
            f"240 random boxes in twelve heaps, on levels 2 to 7, threshold {threshold}.",
        )
