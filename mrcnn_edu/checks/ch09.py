"""Checks of chapter 09, in training: mask targets and the mask loss.

Those of pasting stand in `mrcnn_edu.checks.ch09_paste`.
"""

from collections.abc import Callable

import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F

from mrcnn_edu.checks.ch09_paste import check_masks, check_paste, check_two_views, random_boxes
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

__all__ = ["check_mask_loss", "check_masks", "check_paste", "check_targets", "check_two_views"]


# ---------------------------------------------------------------- 9.1


def _aligned(masks: Tensor, boxes: Tensor, matched: Tensor, cells: int, move: float = 0) -> Tensor:
    rois = torch.cat([matched[:, None].float(), boxes + move], dim=1)  # [R, 5]
    return torchvision.ops.roi_align(masks[:, None].float(), rois, cells, aligned=True)[:, 0]


@check("9.1")
def check_targets(answer: Callable[[Tensor, Tensor, Tensor, int], Tensor]) -> None:
    """Check mask targets: each RoI's part of its own object's mask."""
    answer = inputs_kept(answer)
    case("a square of four pixels")
    masks = torch.zeros(2, 6, 8, dtype=torch.uint8)
    masks[0, 2:4, 3:5] = 1
    masks[1, :, 6:] = 1
    boxes, matched = torch.tensor([[2.0, 1, 6, 5]]), torch.tensor([0])
    want = F.pad(torch.ones(1, 2, 2), (1, 1, 1, 1))
    got = tensor(answer(masks, boxes, matched, 4))
    require(
        got.is_floating_point(),
        f"Targets are shares from 0 to 1, float32; yours are {got.dtype}.",
    )
    require_not(
        got,
        _aligned(masks, boxes, matched, 4, 0.5),
        "Your cells read the mask half a pixel too far down and right: RoIAlign works with "
        "indices, so half a pixel is subtracted (aligned=True, chapter 05).",
    )
    require_not(
        got,
        _aligned(masks, torch.tensor([[3.0, 2, 5, 4]]), matched, 4),
        "All ones: you cut the object's own box. The head reads the RoI, so the RoI is cut.",
    )
    require_not(
        got,
        F.interpolate(masks[:1, None].float(), (4, 4), mode="bilinear")[:, 0],
        "That is the whole image, resized. Only the part in the box belongs to the target.",
    )
    require_not(
        got,
        _aligned(masks, boxes[:, [1, 0, 3, 2]], matched, 4),
        "x and y are swapped: a box is (x1, y1, x2, y2), a mask is [row, column].",
    )
    require_equal(
        got, want, "A 2 × 2 square in a box of 4 × 4 pixels, 4 × 4 cells: pixel for cell."
    )

    case("each RoI has its own object")
    boxes, matched = torch.tensor([[4.0, 0, 8, 4], [2.0, 1, 6, 5]]), torch.tensor([1, 0])
    want = _aligned(masks, boxes, matched, 4)
    got = answer(masks, boxes, matched, 4)
    require_not(
        got,
        _aligned(masks, boxes, torch.tensor([0, 1]), 4),
        "RoI r was cut from mask r: its object is `matched[r]`.",
    )
    both = (masks[0] | masks[1])[None]
    require_not(
        got,
        _aligned(both, boxes, torch.zeros(2), 4),
        "Your target holds all objects in the box: only the RoI's own object belongs to it.",
    )
    require_equal(got, want, "Two RoIs, matched to objects 1 and 0.")

    case("more pixels than cells")
    stripes = (torch.arange(8) % 2).to(torch.uint8).expand(1, 8, 8)
    boxes, matched = torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([0])
    got = answer(stripes, boxes, matched, 2)
    require_not(
        got,
        torch.ones(1, 2, 2),
        "Stripes of one pixel: each cell is half full. A share of ½ is not rounded.",
    )
    require_not(got, torch.zeros(1, 2, 2), "Stripes of one pixel: half of a cell is no empty cell.")
    fine = (torch.arange(16) == 3).to(torch.uint8).expand(1, 16, 16)
    boxes = torch.tensor([[0.0, 0, 16, 16]])
    got = answer(fine, boxes, matched, 2)
    for samples in (1, 2):
        rois = torch.tensor([[0.0, 0, 0, 16, 16]])
        few = torchvision.ops.roi_align(fine[:, None].float(), rois, 2, 1.0, samples, aligned=True)
        require_not(
            got,
            few[:, 0],
            "A line one pixel wide is missed by too few samples: take as many as the cell has "
            "pixels, rounded up (sampling ratio 0).",
        )
    require_equal(
        got, [[[0.125, 0], [0.125, 0]]], "One column of eight in the left-hand cells is an eighth."
    )

    case("fractional corners")
    boxes = torch.tensor([[2.3, 1.6, 5.7, 4.1], [-1.5, 2.2, 3.8, 7.9]])
    matched = torch.tensor([0, 0])
    got = answer(masks, boxes, matched, 5)
    require_not(
        got,
        _aligned(masks, boxes.round(), matched, 5),
        "The box was rounded first. Chapter 05 was about not doing that.",
    )
    require_equal(got, _aligned(masks, boxes, matched, 5), "Boxes between the pixels, one outside.")

    case("no RoI")
    none = answer(masks, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 7)
    require_equal(none, torch.zeros(0, 7, 7), "No positive RoI: [0, 7, 7], no error.")

    generator = torch.Generator().manual_seed(0)
    for number in range(3):
        case(f"random {number}")
        masks = (torch.rand(3, 30, 41, generator=generator) > 0.6).to(torch.uint8)
        boxes = random_boxes(20, (30, 41), generator)
        matched = torch.randint(3, (20,), generator=generator)
        require_equal(
            answer(masks, boxes, matched, 14),
            _aligned(masks, boxes, matched, 14),
            "20 random RoIs on random masks.",
            tolerance=1e-3,
        )


# ---------------------------------------------------------------- 9.2


@check("9.2")
def check_mask_loss(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check the mask loss: the mean cross-entropy of the true class's mask."""
    answer = inputs_kept(answer)
    bce = F.binary_cross_entropy_with_logits
    case("one RoI, two cells a side, three classes")
    logits = torch.tensor(
        [[[[9.0, 9], [9, 9]], [[2.0, -1], [-2, 1]], [[-3.0, 4], [1, 5]]]]
    )  # [R, K, M, M]
    labels, targets = torch.tensor([2]), torch.tensor([[[1.0, 0], [0.25, 1]]])
    want = bce(logits[:, 1], targets)
    got = answer(logits, labels, targets)
    require_not(
        got,
        bce(logits[:, 2], targets),
        "That is the mask of class 3. Labels run from 1 to K, masks from 0 to K − 1.",
    )
    full = torch.zeros_like(logits)
    full[:, 1] = targets
    require_not(
        got,
        bce(logits, full),
        "Every class's mask has entered. Only the true class's does: the others get no target.",
    )
    require_not(
        got,
        bce(logits, targets[:, None].expand_as(logits)),
        "Every class's mask was held against the target; only the true class's is.",
    )
    require_not(got, want * 4, "That is the sum over the cells. The loss is their mean.")
    require_not(
        got,
        bce(logits[:, 1], (targets >= 0.5).float()),
        "A target of 0.25 was rounded to 0. Shares enter as they are.",
    )
    require_not(
        got,
        F.cross_entropy(logits, (labels[:, None, None] - 1).expand(1, 2, 2)),
        "That is a softmax: here the classes do not compete, each cell has its own sigmoid.",
    )
    require_not(
        got,
        bce(logits[:, 1].sigmoid(), targets),
        "The sigmoid was taken twice: binary_cross_entropy_with_logits has one inside.",
    )
    require_equal(got, want, "Class 2, targets 1, 0, 0.25, 1.")

    case("the gradient")
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, 3, 3, generator=generator, requires_grad=True)
    labels, targets = torch.tensor([5, 1, 3, 3]), torch.rand(4, 3, 3, generator=generator)
    loss = tensor(answer(logits, labels, targets))
    require(
        loss.requires_grad,
        "Your loss has no gradient: .item(), .detach() or torch.no_grad() cut it off.",
    )
    loss.backward()
    rows = torch.arange(4)
    wanted = torch.zeros(4, 5, 3, 3)
    wanted[rows, labels - 1] = (logits.detach()[rows, labels - 1].sigmoid() - targets) / 36
    gradient = torch.zeros_like(wanted) if logits.grad is None else logits.grad
    others = gradient.clone()
    others[rows, labels - 1] = 0
    require(not others.any(), "Masks of other classes get a gradient: the true class alone must.")
    require_equal(
        gradient, wanted, "The gradient of each cell is (σ − target) / (R · M²), here over 4 · 9."
    )

    case("large logits")
    large = torch.tensor([[[[200.0]], [[-200.0]]]])
    got = numbers(answer(large, torch.tensor([2]), torch.ones(1, 1, 1)))
    require(
        bool(torch.isfinite(got).all()),
        "A logit of −200 for a cell of the object gives infinity: log(sigmoid(x)) underflows. "
        "Use the function that takes logits.",
    )
    require_equal(got, 200.0, "A logit of −200 for a cell of the object.")

    case("no positive RoI")
    logits = torch.zeros(0, 5, 3, 3, requires_grad=True)
    got = tensor(answer(logits, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3, 3)))
    require(
        not torch.isnan(got.detach()).any(),
        "Without a positive RoI the loss is NaN: a mean over nothing. Sum, then divide.",
    )
    require_equal(got, 0.0, "No positive RoI in the batch: the loss is 0.")
    require(
        got.requires_grad,
        "Without a positive RoI your loss is a plain 0: keep it connected to the logits, or "
        "`backward` fails on a batch without objects.",
    )

    case("random")
    logits = torch.randn(12, 10, 14, 14, generator=generator)
    labels = torch.randint(1, 11, (12,), generator=generator)
    targets = torch.rand(12, 14, 14, generator=generator)
    want = bce(logits[torch.arange(12), labels - 1], targets)
    require_equal(answer(logits, labels, targets), want, "12 random RoIs of ten classes.", 1e-5)
