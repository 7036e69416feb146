"""Checks of chapter 04: softmax and sigmoid, sampling, the box loss, merging levels."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from mrcnn_edu.boxes import batched_nms
from mrcnn_edu.checks.common import check, numbers, require, require_equal
from mrcnn_edu.matching import BELOW, BETWEEN


@check("4.1")
def check_to_sigmoid(answer: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    """Check the conversion of a two-class head [2a, C, 1, 1] to a sigmoid head [a, C, 1, 1]."""
    weight = torch.tensor([1.0, 10.0, 4.0, 50.0]).reshape(4, 1, 1, 1)  # background 1, 10
    bias = torch.tensor([0.0, 1.0, 2.0, 5.0])
    before = weight.clone()
    got = answer(weight, bias)
    require(isinstance(got, tuple) and len(got) == 2, "Return two tensors: weight and bias.")
    flipped = got[0].shape == (2, 1, 1, 1) and torch.equal(
        got[0].flatten(), torch.tensor([-3.0, -40])
    )
    require(not flipped, "The signs are turned: the logit is object minus background.")
    interleaved = got[0].shape == (2, 1, 1, 1) and torch.equal(
        got[0].flatten(), torch.tensor([9.0, 46])
    )
    require(
        not interleaved,
        "Background of all anchors comes first, then object of all anchors: they do not alternate.",
    )
    objects_only = got[0].shape == (2, 1, 1, 1) and torch.equal(got[0], weight[2:])
    require(
        not objects_only,
        "The background output counts too: only the difference of the two decides.",
    )
    require_equal(got[0], torch.tensor([3.0, 40]).reshape(2, 1, 1, 1), "Weights of two anchors.")
    require_equal(got[1], torch.tensor([2.0, 4]), "The bias is a difference as well.")
    require(torch.equal(weight, before), "The checkpoint's weights were changed in place.")
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 8, 1, 1, generator=generator)
    bias = torch.randn(6, generator=generator)
    x = torch.randn(2, 8, 4, 5, generator=generator)
    one_weight, one_bias = answer(weight, bias)
    two = F.conv2d(x, weight, bias).unflatten(1, (2, 3))  # [N, 2, a, H, W]
    require_equal(
        F.conv2d(x, one_weight, one_bias).sigmoid(),
        two.softmax(dim=1)[:, 1],
        "A random head of three anchors: the probabilities must not change.",
    )


@check("4.2")
def check_sample(answer: Callable[[Tensor, int, torch.Generator], tuple[Tensor, Tensor]]) -> None:
    """Check a balanced sample of matches: ≥ 0 positive, −1 negative, −2 ignored."""

    def draw(matches: Tensor, count: int, seed: int = 0) -> tuple[list[int], list[int]]:
        got = answer(matches, count, torch.Generator().manual_seed(seed))
        require(isinstance(got, tuple) and len(got) == 2, "Return positive and negative indices.")
        positive, negative = (numbers(x).flatten().tolist() for x in got)
        ignored = [i for i in positive + negative if matches[i] == BETWEEN]
        require(not ignored, f"Anchor {ignored[:1]} is ignored (match −2) but was drawn.")
        require(
            all(matches[i] >= 0 for i in positive) and all(matches[i] == BELOW for i in negative),
            "First the indices of positives, then those of negatives; indices into all anchors.",
        )
        drawn = positive + negative
        require(len(set(drawn)) == len(drawn), "An anchor was drawn twice.")
        return positive, negative

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
    for kind in ([], [BELOW] * 4, [2] * 4, [BETWEEN] * 4):
        matches = torch.tensor(kind, dtype=torch.int64)
        positive, negative = draw(matches, 6)
        require(len(positive) == min(3, int((matches >= 0).sum())), "Only one kind of anchor.")
        require(len(negative) == int((matches == BELOW).sum()), "Only one kind of anchor.")


@check("4.3")
def check_box_loss(answer: Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]) -> None:
    """Check the box loss of the RPN over a sample of anchors."""
    deltas = torch.tensor([[0.0, 0, 0, 0], [2.0, 0, 0, 0], [9.0, 9, 9, 9], [0.0, 0, 0.5, 0]])
    wanted = torch.zeros(4, 4)
    positive, sampled = torch.tensor([1]), torch.tensor([1, 2])
    got = answer(deltas, wanted, positive, sampled, 1.0)
    value = float(got)
    require(
        abs(value - 1.5) > 1e-4,
        "1.5 is the loss of the one positive: divide by the number of sampled anchors, here two, "
        "not by that of positives.",
    )
    require(
        abs(value - 1.5 / 8) > 1e-4 and abs(value - 1.5 / 4) > 1e-4,
        "The four deltas of an anchor add up; the loss is not their mean.",
    )
    require(
        abs(value - 17.75) > 1e-3 and abs(value - 35.5) > 1e-3,
        "Anchor 2 is negative: nobody knows where a background box should go.",
    )
    require_equal(got, 0.75, "One positive whose first delta is off by 2, β = 1: (2 − ½) / 2.")
    require_equal(
        answer(deltas, wanted, torch.tensor([3]), torch.tensor([0, 3]), 1.0),
        0.0625,
        "An error of ½ below β = 1 lies on the parabola: ½²/2, over two anchors.",
    )
    none = torch.zeros(0, dtype=torch.long)
    nothing = answer(deltas, wanted, none, torch.tensor([0, 2]), 1.0)
    require(
        not torch.isnan(torch.as_tensor(nothing)).any(),
        "An image without positives gives NaN: a mean over nothing. Sum, then divide.",
    )
    require_equal(nothing, 0.0, "An image without positives has no box loss.")
    require_equal(answer(deltas, wanted, none, none, 1.0), 0.0, "Nothing was sampled at all.")
    generator = torch.Generator().manual_seed(0)
    deltas, wanted = torch.randn(2, 50, 4, generator=generator)
    positive, sampled = torch.arange(0, 20, 2), torch.arange(0, 40)
    total = F.smooth_l1_loss(deltas[positive], wanted[positive], beta=1 / 9, reduction="sum")
    require_equal(
        answer(deltas, wanted, positive, sampled, 1 / 9), total / 40, "Random deltas, β = 1/9."
    )


@check("4.4")
def check_merge(answer: Callable[[Tensor, Tensor, Tensor, float, int], Tensor]) -> None:
    """Check non-maximum suppression within levels, and the best of all levels."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 9], [50.0, 0, 60, 10], [0.0, 0, 10, 10]])
    scores = torch.tensor([0.5, 0.9, 0.8, 0.7])
    levels = torch.tensor([0, 0, 0, 1])
    got = answer(boxes, scores, levels, 0.7, 10)
    require(
        got.tolist() != [1, 2],
        "Box 3 is gone: it overlaps box 1, but lies on another level. NMS is within a level.",
    )
    require(
        sorted(got.tolist()) == [1, 2, 3],
        f"Boxes 1, 2 and 3 stay (box 0 is nearly box 1, which scores higher); yours: "
        f"{got.tolist()}. Are your indices those of all boxes, not of one level's?",
    )
    require(got.tolist() == [1, 2, 3], "Best first: the levels are merged by score.")
    require(
        answer(boxes, scores, levels, 0.7, 2).tolist() == [1, 2],
        "With count = 2 the best two of all levels stay, not two of each.",
    )
    cut = answer(boxes[[1, 0, 2]], torch.tensor([0.9, 0.85, 0.3]), levels[:3], 0.7, 2)
    require(
        cut.tolist() != [0],
        "Cut to count last. Boxes 0 and 1 score best and are near copies: after NMS one of them is "
        "left, and box 2 has room.",
    )
    require_equal(cut, [0, 2], "Two near copies and a third box, count = 2.")
    empty = answer(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), 0.7, 5)
    require(empty.tolist() == [], "No boxes: return no indices.")
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(200, 2, generator=generator) * 50
    boxes = torch.cat([corners, corners + torch.rand(200, 2, generator=generator) * 40], dim=1)
    scores = torch.rand(200, generator=generator)
    levels = torch.randint(4, (200,), generator=generator)
    require_equal(
        answer(boxes, scores, levels, 0.5, 60),
        batched_nms(boxes, scores, levels, 0.5)[:60],
        "200 random boxes on four levels.",
    )
