"""Checks of chapter 18, on MNC: RoIWarp and the vote on masks. Those of FCIS are in `ch18`."""

from collections.abc import Callable

import torch
from torch import Tensor

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.checks.common import (
    case,
    check,
    inputs_kept,
    require,
    require_equal,
    require_not,
    tensor,
)

# ---------------------------------------------------------------- 18.1


def _warped(features: Tensor, box: Tensor, size: int, half: float = 0.5) -> Tensor:
    fraction = (torch.arange(size, dtype=box.dtype) + 0.5) / size
    x = box[0] * (1 - fraction) + box[2] * fraction - half
    y = box[1] * (1 - fraction) + box[3] * fraction - half
    left, top = x.detach().floor().long(), y.detach().floor().long()
    u, v = x - left, (y - top)[:, None]
    rows = features[:, top] * (1 - v)[..., None].reshape(1, -1, 1)
    rows = rows + features[:, top + 1] * v[..., None].reshape(1, -1, 1)
    return rows[:, :, left] * (1 - u) + rows[:, :, left + 1] * u


@check("18.1")
def check_warp(answer: Callable[[Tensor, Tensor, int], Tensor]) -> None:
    """Check RoIWarp: values, and the gradient for the box."""
    answer = inputs_kept(answer)
    case("one bin on x²")
    squares = (torch.arange(6.0) ** 2).expand(1, 6, 6).contiguous()
    box = torch.tensor([1.0, 1, 3, 3])
    got = tensor(answer(squares, box, 1))
    require_not(
        got,
        [[[4.0]]],
        "You read at x = 2. The box's middle is the coordinate 2, and the centre of pixel j lies "
        "at j + ½: the index is 1.5 (chapter 05).",
    )
    require_equal(got, [[[2.5]]], "The middle of the box, between pixels 1 and 2: (1 + 4) / 2.")
    case("two bins, rows and columns")
    plane = (torch.arange(6.0)[:, None] * 10 + torch.arange(6.0))[None].contiguous()
    box = torch.tensor([1.0, 2, 3, 5])
    got = answer(plane, box, 2)
    want = _warped(plane, box, 2)
    require_not(got, want.mT, "Rows and columns are swapped: y belongs to rows.")
    corner = torch.stack([box[0], box[1], box[0] + 2, box[1] + 3]) - torch.tensor(
        [0.5, 0.75, 0.5, 0.75]
    )
    require_not(
        got,
        _warped(plane, corner, 2),
        "You read at the upper left corner of each bin, as MNC's code does; the formula reads in "
        "the middle of the bin.",
    )
    require_equal(got, want, "The middles of 2 × 2 bins.")
    for seed in range(5):
        case(f"random {seed}")
        generator = torch.Generator().manual_seed(seed)
        features = torch.randn(3, 9, 11, generator=generator)
        start = 1 + 2 * torch.rand(2, generator=generator)
        box = torch.cat([start, start + 1 + 4.5 * torch.rand(2, generator=generator)])
        size = 1 + seed
        require_equal(answer(features, box, size), _warped(features, box, size), f"{size} bins.")
        leaf, other = box.clone().requires_grad_(), box.clone().requires_grad_()
        got = answer(features, leaf, size)
        require(
            got.requires_grad,
            "Your result does not depend on the box: rounding, int() and detach() cut the "
            "gradient. The weights 1 − u and u must keep it.",
        )
        got.square().sum().backward()
        _warped(features, other, size).square().sum().backward()
        require(leaf.grad is not None, "No gradient arrived at the box.")
        require_equal(leaf.grad, other.grad, "The gradient for x₁, y₁, x₂, y₂.", 1e-3)
    case("the gradient for the features")
    leaf, other = (features.clone().requires_grad_() for _ in range(2))
    answer(leaf, box, size).square().sum().backward()
    _warped(other, box, size).square().sum().backward()
    require_equal(leaf.grad, other.grad, "The gradient for the features.")


# ---------------------------------------------------------------- 18.2


def _vote(
    kept: int, boxes: Tensor, scores: Tensor, masks: Tensor, iou: float = 0.5, binary: bool = True,
    normalised: bool = True, everybody: bool = False,
) -> Tensor:  # fmt: skip
    near = box_ops.iou(boxes[[kept]], boxes)[0] >= iou
    weight = scores * (near | everybody)
    weight = weight / (weight.sum() if normalised else scores.sum())
    opinions = (masks >= 0.4).float() if binary else masks
    return torch.tensordot(weight, opinions, dims=1) >= 0.4


@check("18.2")
def check_vote(answer: Callable[[int, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check a vote on the mask of one kept box."""
    answer = inputs_kept(answer)
    case("three RoIs, four pixels")
    boxes = torch.tensor([[0.0, 0, 8, 8], [0.0, 0, 8, 9], [20.0, 0, 28, 8]])
    scores = torch.tensor([0.6, 0.3, 0.9])
    masks = torch.tensor([[[0.9, 0.45, 0.2, 0.1]], [[0.9, 0.1, 0.95, 0.1]], [[0.0, 0, 0, 0.9]]])
    got = tensor(answer(0, boxes, scores, masks))
    require(
        got.dtype == torch.bool, f"A mask of true and false is asked for, yours is {got.dtype}."
    )
    # Weights 2/3 and 1/3: pixel 1 has 2/3, pixel 2 has 1/3.
    for wrong, message in (
        ({"everybody": True}, "All RoIs vote, also one that does not overlap the kept box: only "
         "those with IoU ½ or more have a say."),
        ({"binary": False}, "You average probabilities and cut the mean. Each mask is first cut at "
         "0.4 by itself; then the votes are counted."),
        ({"normalised": False}, "The weights of those that vote must sum to 1: you divide by the "
         "scores of all RoIs, or before the far ones are dropped."),
    ):  # fmt: skip
        require_not(got, _vote(0, boxes, scores, masks, **wrong), message)
    require_equal(got, [[True, True, False, False]], "Weights 2/3, 1/3 and 0.")
    case("a vote of exactly 0.4, and an overlap of exactly ½")
    even = torch.tensor([[0.0, 0, 8, 8], [0.0, 0, 8, 4], [0.0, 4, 8, 8]])
    shares = torch.tensor([0.4, 0.4, 0.2])
    opinions = torch.tensor([[[0.4, 0.0]], [[0.0, 0.4]], [[0.0, 0.0]]])
    require_equal(
        answer(0, even, shares, opinions),
        [[True, True]],
        "All three overlap by ½ or more, and 0.4 is enough for a pixel and for the vote.",
    )
    case("a lone RoI")
    require_equal(
        answer(2, boxes, scores, masks),
        [[False, False, False, True]],
        "Nobody else overlaps RoI 2.",
    )
    for seed in range(6):
        case(f"random {seed}")
        generator = torch.Generator().manual_seed(seed)
        corner = 6 * torch.rand(12, 2, generator=generator)
        boxes = torch.cat([corner, corner + 8 + 4 * torch.rand(12, 2, generator=generator)], dim=1)
        scores = torch.rand(12, generator=generator)
        masks = torch.rand(12, 7, 8, generator=generator)
        kept = 2 * seed
        require_equal(
            answer(kept, boxes, scores, masks).float(),
            _vote(kept, boxes, scores, masks).float(),
            "Twelve RoIs.",
        )
