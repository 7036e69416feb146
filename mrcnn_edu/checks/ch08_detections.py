"""Checks of chapter 08, second part: detections, a broken detector, Soft-NMS."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.checks.common import (
    case,
    check,
    inputs_kept,
    numbers,
    parts,
    require,
    require_equal,
    require_not,
)
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.nn.detections import select_detections

Found = tuple[Tensor, Tensor, Tensor]


def random_boxes(count: int, side: float, generator: torch.Generator) -> Tensor:
    """Boxes [count, 4] in a square, each side 5 to 35 percent of the square's."""
    corners = torch.rand(count, 2, generator=generator) * side * 0.7
    sizes = side * (0.05 + 0.3 * torch.rand(count, 2, generator=generator))
    return torch.cat([corners, corners + sizes], dim=1)


def _logits(*rows: list[float]) -> Tensor:
    """Logits whose softmax is these probabilities."""
    return torch.tensor(rows).log()


def _crowd(seed: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random logits and deltas of five classes, and proposals around twelve places."""
    generator = torch.Generator().manual_seed(seed)
    places = random_boxes(12, 150, generator)[torch.arange(count) % 12]
    proposals = places + 4 * torch.rand(count, 4, generator=generator)
    logits = 2 * torch.randn(count, 6, generator=generator)
    return logits, torch.randn(count, 5, 4, generator=generator), proposals


@check("8.3")
def check_detections(answer: Callable[..., Found]) -> None:
    """Check what a box head reports: threshold, a box for each class, NMS, the best."""
    answer = inputs_kept(answer)

    def found(*inputs: object) -> list[Tensor]:
        return list(map(numbers, parts(answer(*inputs), "boxes", "labels", "scores")))

    case("one proposal, two classes")
    box = torch.tensor([[10.0, 10, 30, 30]])
    logits, moved = _logits([0.2, 0.5, 0.3]), torch.zeros(1, 2, 4)
    moved[0, 0, 0] = 20  # class 1: two widths to the right, as the weight is 10
    moved[0, 1, 3] = 5 * math.log(2)  # class 2: twice as high
    right = torch.tensor([[50.0, 10, 70, 30], [10.0, 0, 30, 40]])
    boxes, labels, scores = found(logits, moved, box, (999, 999), 0.25, 0.5, 100)
    require(
        labels.tolist() != [1],
        "Background 0.2, class one 0.5, class two 0.3, threshold 0.25: both are reported, in two "
        "places. You report the best class of a proposal only.",
    )
    require(
        0 not in labels.tolist(),
        "A label is 0: that is background, which is never reported; the first class is 1.",
    )
    require_not(
        scores,
        [0.625, 0.375],
        "0.625 and 0.375 are scores without background: softmax first, then drop its column.",
    )
    require_equal(scores, [0.5, 0.3], "The scores of the two, best first.")
    require_equal(labels, [1, 2], "The labels of the two, best first.")
    swapped = box_ops.decode(moved[0].flip(0), box, (10, 10, 5, 5))
    require_not(boxes, swapped, "Each class got the other's box: column 0 of deltas is class 1's.")
    bare = box_ops.clip(box_ops.decode(moved[0], box, (1, 1, 1, 1)), (999, 999))
    require_not(
        boxes, bare, "These boxes come from weights of 1; a box head's deltas want (10, 10, 5, 5)."
    )
    require_equal(boxes, right, "Class 1 moved two widths to the right, class 2 twice as high.")

    case("the border")
    moved[0, 0, 0] = 5  # half a width
    right = torch.tensor([[20.0, 10, 40, 30], [10.0, 0, 30, 40]])
    boxes, _, _ = found(logits, moved, box, (25, 35), 0.25, 0.5, 100)
    require_not(boxes, right, "The boxes leave the image, of height 25 and width 35: clip them.")
    require_equal(
        boxes,
        [[20.0, 10, 35, 25], [10.0, 0, 30, 25]],
        "An image of height 25 and width 35: x is clipped to the width, y to the height.",
    )
    boxes, _, _ = found(logits, moved, box, (25, 21), 0.25, 0.5, 100)
    require_equal(
        boxes[:1], [[20.0, 10, 21, 25]], "Width 21: one pixel of a box is left, and it is reported."
    )
    gone = torch.zeros(1, 2, 4)
    gone[0, 0, 0] = 100.0  # ten widths to the right
    _, labels, _ = found(logits, gone, box, (100, 100), 0.25, 0.5, 100)
    require(
        labels.tolist() != [1, 2],
        "Class 1's box lies outside the image. Clipped it has no area, and is not reported.",
    )
    require_equal(labels, [2], "Class 1's box lies outside the image, class 2's inside: labels.")

    case("suppression")
    two = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 9]])
    logits, still = _logits([0.1, 0.8, 0.1], [0.1, 0.2, 0.7]), torch.zeros(2, 2, 4)
    _, labels, _ = found(logits, still, two, (50, 50), 0.5, 0.5, 100)
    require(
        labels.tolist() != [1],
        "Classes 1 and 2 at nearly the same place: both stay. NMS is within a class.",
    )
    require_equal(labels, [1, 2], "Two classes at nearly the same place: the labels.")
    logits = _logits([0.1, 0.8, 0.1], [0.05, 0.9, 0.05])
    boxes, _, _ = found(logits, still, two, (50, 50), 0.5, 0.5, 100)
    require(len(boxes) != 2, "Two copies of class 1: NMS leaves one of them.")
    require_equal(boxes, two[1:], "Two copies of class 1, the second one better: the boxes.")

    case("the best of the image")
    three, still = torch.cat([two, torch.tensor([[30.0, 0, 40, 10]])]), torch.zeros(3, 2, 4)
    logits = _logits([0.05, 0.9, 0.05], [0.1, 0.8, 0.1], [0.3, 0.6, 0.1])
    _, _, scores = found(logits, still, three, (50, 50), 0.5, 0.5, 2)
    require(
        len(scores) != 1, "count = 2, and one is left: you cut before NMS; a copy took the place."
    )
    require_equal(scores, [0.9, 0.6], "Two copies and a third box, count = 2: the scores.")
    logits = _logits([0.05, 0.9, 0.05], [0.1, 0.1, 0.8], [0.29, 0.7, 0.01])
    _, labels, _ = found(logits, still, three, (50, 50), 0.5, 0.5, 2)
    require(len(labels) != 3, "count is for all classes together, not for each.")
    require_not(labels, [1, 1], "Best first over all classes: sort by score before you cut.")
    require_equal(labels, [1, 2], "Class 1 with 0.9 and 0.7, class 2 with 0.8, count = 2: labels.")

    case("at the threshold")
    _, _, scores = found(torch.zeros(1, 4), torch.zeros(1, 3, 4), box, (99, 99), 0.25, 0.5, 100)
    require(
        len(scores) == 0,
        "Four equal logits, threshold 0.25: no score is *above* it.",
    )

    for rows, name in ((0, "No proposals"), (2, "Background only")):
        case(name.lower())
        logits = torch.tensor([9.0, 0, 0]).repeat(rows, 1)
        nothing = found(logits, torch.zeros(rows, 2, 4), two[:rows], (50, 50), 0.5, 0.5, 100)
        shapes = [list(x.shape) for x in nothing]
        require(
            shapes == [[0, 4], [0], [0]],
            f"{name}: boxes [0, 4], labels [0], scores [0]. Yours: {shapes}.",
        )
    settings = [(0.02, 0.3, 40), (0.1, 0.7, 300), (0.0, 0.5, 25), (0.05, 0.9, 300)]
    for seed, (threshold, iou, count) in enumerate(settings):
        case(f"random {seed}")
        inputs = _crowd(seed, 120)
        config = ModelConfig(
            num_classes=5,
            score_threshold=threshold,
            detection_nms_iou=iou,
            detections_per_image=count,
        )
        want = select_detections(*inputs, (120, 160), config)
        boxes, labels, scores = found(*inputs, (120, 160), threshold, iou, count)
        what = f"120 random proposals of five classes, threshold {threshold}, NMS {iou}, {count}"
        require_equal(scores, want.scores, f"{what}: scores.")
        require_equal(labels, want.labels, f"{what}: labels.")
        require_equal(boxes, want.boxes, f"{what}: boxes.", 1e-3)


@check("8.4")
def check_repaired(answer: Callable[[Tensor, Tensor, Tensor, tuple[int, int]], Found]) -> None:
    """Check a repaired detector, whose threshold is 0.05, NMS 0.5 and count 100."""
    answer = inputs_kept(answer)

    def found(*inputs: object) -> list[Tensor]:
        return list(map(numbers, parts(answer(*inputs), "boxes", "labels", "scores")))

    case("two proposals")
    apart = torch.tensor([[0.0, 0, 10, 10], [50.0, 50, 60, 60]])
    logits, still = _logits([0.06, 0.02, 0.92], [0.06, 0.92, 0.02]), torch.zeros(2, 2, 4)
    boxes, labels, _ = found(logits, still, apart, (100, 100))
    boxes = boxes[labels.argsort()]
    require_not(
        boxes,
        apart,
        "Two proposals, zero deltas. Class 2 is seen in the first, class 1 in the second; each "
        "comes out at the other's place: whose deltas meet which proposal?",
    )
    require_equal(
        boxes,
        apart[[1, 0]],
        "Two proposals, zero deltas; class 2 is seen in the first, class 1 in the second: the "
        "boxes of classes 1 and 2.",
    )

    case("150 copies")
    many = torch.zeros(151, 4) + torch.tensor([0.0, 0, 10, 10])
    many[150] = torch.tensor([50.0, 50, 60, 60])
    logits = _logits(*([[0.06, 0.92, 0.02]] * 150 + [[0.38, 0.6, 0.02]]))
    boxes, _, _ = found(logits, torch.zeros(151, 2, 4), many, (100, 100))
    require_not(
        boxes,
        many[:1],
        "One object has 150 proposals, another has one, with a lower score, and is lost. That is a "
        "second bug: in which order are copies removed and the best hundred taken?",
    )
    require_equal(boxes, many[[0, 150]], "150 copies of one object, then another object: boxes.")

    case("two classes")
    two = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 9]])
    _, labels, _ = found(_logits([0.06, 0.92, 0.02], [0.1, 0.02, 0.88]), still, two, (50, 50))
    require_equal(labels, [1, 2], "Two classes at nearly the same place, both stay: labels.")
    for seed in range(3):
        case(f"random {seed}")
        inputs = _crowd(seed, 90)
        want = select_detections(*inputs, (120, 160), ModelConfig(num_classes=5))
        boxes, labels, scores = found(*inputs, (120, 160))
        require_equal(scores, want.scores, "90 random proposals of five classes: scores.")
        require_equal(labels, want.labels, "90 random proposals of five classes: labels.")
        require_equal(boxes, want.boxes, "90 random proposals of five classes: boxes.", 1e-3)


# ---------------------------------------------------------------- 8.5


def _soft_nms(
    boxes: Tensor, scores: Tensor, sigma: float, minimum: float
) -> tuple[list[int], list[float]]:
    """Bodla et al. (2017), Gaussian, in plain Python."""
    overlap, left = box_ops.iou(boxes, boxes).tolist(), dict(enumerate(scores.tolist()))
    order: list[int] = []
    final: list[float] = []
    while left:
        best = max(left, key=lambda i: left[i])
        score = left.pop(best)
        if score < minimum:
            break
        order.append(best)
        final.append(score)
        for i in left:
            left[i] *= math.exp(-(overlap[best][i] ** 2) / sigma)
    return order, final


@check("8.5")
def check_soft_nms(
    answer: Callable[[Tensor, Tensor, float, float], tuple[Tensor, Tensor]],
) -> None:
    """Check Soft-NMS, Gaussian, of the boxes of one class."""
    answer = inputs_kept(answer)

    def soft(*inputs: object) -> list[Tensor]:
        return list(map(numbers, parts(answer(*inputs), "indices", "scores")))

    case("three boxes")
    # Boxes 0 and 1 overlap by 0.5; box 2 is alone.
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 5], [50.0, 0, 60, 10]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    index, found = soft(boxes, scores, 0.5, 0.01)
    require_not(
        index,
        [0, 2],
        "Box 1 is gone. Soft-NMS throws nothing away for its overlap; it lowers the score.",
    )
    require_not(
        index,
        [0, 1, 2],
        "Box 1 falls below box 2: each choice is the best of the scores as they are by then.",
    )
    require_equal(index, [0, 2, 1], "Three boxes, in the order of their choice.")
    require_not(found, scores[index], "These are the old scores; return the lowered ones.")
    low = {
        math.exp(-1): "The overlap is squared: exp(−IoU² / σ).",
        0.5: "1 − IoU is the linear rule; the Gaussian one is exp(−IoU² / σ).",
        1 - math.exp(-0.5): "1 − exp(−IoU² / σ) lowers what does not overlap.",
    }
    for factor, message in low.items():
        require_not(found, [0.9, 0.7, 0.8 * factor], message)
    require_equal(found, [0.9, 0.7, 0.8 * math.exp(-0.5)], "Box 1: 0.8 · exp(−0.5² / 0.5).")
    _, found = soft(boxes, scores, 0.1, 0.01)
    require_equal(found[-1], 0.8 * math.exp(-2.5), "The same with σ = 0.1: 0.8 · exp(−2.5).")

    case("three copies")
    row = torch.tensor([[0.0, 0, 10, 10]]).repeat(3, 1)
    scores = torch.tensor([0.5, 0.9, 0.8])
    index, found = soft(row, scores, 0.5, 0.0)
    require_equal(
        found,
        [0.9, 0.8 * math.exp(-2), 0.5 * math.exp(-4)],
        "Three copies: the third is lowered twice, once for each one chosen before it.",
    )
    require_equal(index, [1, 2, 0], "Three copies, in the order of their scores.")
    index, _ = soft(row, scores, 0.5, 0.05)
    require_equal(index, [1, 2], "The third copy has fallen to 0.009, below the minimum of 0.05.")

    index, _ = soft(boxes[[0, 2]], torch.tensor([0.5, 0.0]), 0.5, 0.0)
    require_equal(
        index, [0, 1], "Scores 0.5 and 0, minimum 0: each box is chosen once, 0 is not below 0."
    )

    case("no boxes")
    index, found = soft(torch.zeros(0, 4), torch.zeros(0), 0.5, 0.01)
    require(index.shape == found.shape == (0,), "No boxes: two empty tensors.")
    for seed in range(3):
        case(f"random {seed}")
        generator = torch.Generator().manual_seed(seed)
        boxes = random_boxes(40, 60, generator)
        scores = torch.rand(40, generator=generator)
        index, found = soft(boxes, scores, 0.3, 0.02)
        order, values = _soft_nms(boxes, scores, 0.3, 0.02)
        require_equal(index, order, "40 random boxes: the order.")
        require_equal(found, values, "40 random boxes: the scores.")
