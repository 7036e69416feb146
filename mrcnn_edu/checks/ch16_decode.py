"""Checks of chapter 16, in use: from heatmaps to places, a bug hunt, and a second look."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F

from mrcnn_edu.checks.common import (
    case,
    check,
    inputs_kept,
    require,
    require_equal,
    require_not,
    tensor,
)

# ---------------------------------------------------------------- 16.3


def _places(
    logits: Tensor,
    box: Tensor,
    mode: str = "bicubic",
    pixel: float = 0.5,
    count: Callable[[Tensor], Tensor] = torch.ceil,
    **options: bool,
) -> Tensor:
    """Joints [J, 2] of one RoI; the defaults are right."""
    extent = (box[2:] - box[:2]).clamp(min=1)  # [2]
    pixels = count(extent).clamp(min=1)
    width, height = (int(v) for v in pixels.tolist())
    maps = F.interpolate(logits[None], (height, width), mode=mode, **options)[0]  # [J, h, w]
    best = maps.flatten(1).argmax(dim=1)  # [J]
    cell = torch.stack([best % width, best // width], dim=1)  # [J, 2]
    return (cell + pixel) * extent / pixels + box[:2]


@check("16.3")
def check_decode(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check joints decoded from the heatmaps of one RoI."""
    answer = inputs_kept(answer)

    case("one peak, 4 × 4 cells over 12 × 12 pixels")
    peak = torch.zeros(1, 4, 4)
    peak[0, 1, 2] = 5
    box = torch.tensor([10.0, 20, 22, 32])
    got = tensor(answer(peak, box))
    require(
        got.shape == (1, 2),
        f"One joint, one place: [J, 2] = [1, 2]; yours has {list(got.shape)}.",
    )
    for wrong, message in (
        ([[24.5, 17.5]], "x and y are swapped: a cell is [row, column], a place (x, y)."),
        ([[14.5, 27.5]], "Row and column are swapped: x comes from the column, y from the row."),
        ([[7.5, 4.5]], "That is a place inside the box: its upper left corner has to be added."),
        (
            [[17.0, 24.0]],
            "That is the corner of the best pixel. Its centre lies half a pixel further.",
        ),
        ([[16.0, 23.0]], "That is the corner of the best cell, without resizing."),
        ([[12.5, 21.5]], "That is a place in cells, not in pixels: the map was not resized."),
    ):
        require_not(got, wrong, message)
    require_equal(got, [[17.5, 24.5]], "The peak is cell (1, 2), three pixels a cell.")

    case("a peak that leans")
    lean = torch.zeros(2, 4, 4)
    lean[0, 1, 1:3] = torch.tensor([5.0, 4.6])
    lean[1, 1:3, 1] = torch.tensor([4.6, 5.0])
    box = torch.tensor([10.0, 20, 50, 60])
    want = _places(lean, box)
    got = answer(lean, box)
    require_not(
        got,
        torch.tensor([[25.0, 35], [25, 45]]),
        "That is the centre of the best cell. Its neighbours say on which side of the centre the "
        "joint lies: resize the map to the box's size in pixels, then look for the best pixel.",
    )
    require_not(
        got,
        _places(lean, box, "bilinear"),
        "Resize with mode='bicubic'; bilinear peaks stay in the middle of a cell.",
    )
    require_not(
        got,
        _places(lean, box, align_corners=True),
        "align_corners=True puts the outer cells' centres on the box's edge. Cells have a width.",
    )
    require_not(
        got,
        _places(lean.flatten(1).softmax(dim=1).unflatten(1, (4, 4)), box),
        "You resized probabilities. Resize the logits: between cells they are the smoother ones.",
    )
    require_equal(got, want, "Two peaks that lean to a neighbour, ten pixels a cell.")

    generator = torch.Generator().manual_seed(0)
    case("a box between the pixels")
    logits = torch.randn(5, 8, 8, generator=generator)
    box = torch.tensor([3.3, 7.8, 32.6, 60.5])  # 29.3 × 52.7
    got, want = answer(logits, box), _places(logits, box)
    for count, name in ((torch.floor, "down"), (torch.round, "to the nearest")):
        wrong_number = _places(logits, box, count=count)
        require_not(got, wrong_number, f"The number of pixels is rounded up, not {name}.")
    pixels = (want - box[:2]) * torch.tensor([30 / 29.3, 53 / 52.7])
    require_not(
        got,
        pixels + box[:2],
        "30 pixels over a box of 29.3: each is a little smaller than 1. Scale by the box's width "
        "/ pixels.",
    )
    require_not(
        got,
        _places(logits, torch.tensor([3.0, 8, 33, 60])),
        "The box was rounded first. Chapter 05 was about not doing that.",
    )
    require_equal(got, want, "A box of 29.3 × 52.7 pixels: 30 × 53 of them, slightly smaller.")

    case("a tiny box")
    box = torch.tensor([3.3, 7.8, 3.7, 11.1])
    require_equal(
        answer(logits, box), _places(logits, box), "0.4 pixels wide: taken as at least 1."
    )

    for number in range(4):
        case(f"random {number}")
        logits = torch.randn(17, 14, 14, generator=generator)
        corner = 100 * torch.rand(2, generator=generator)
        box = torch.cat([corner, corner + 4 + 80 * torch.rand(2, generator=generator)])
        require_equal(answer(logits, box), _places(logits, box), "17 random maps.")


# ---------------------------------------------------------------- 16.5


@check("16.5")
def check_joints(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check the places of the best cells, without the three bugs."""
    answer = inputs_kept(answer)

    def places(logits: Tensor, boxes: Tensor, *bugs: str) -> Tensor:
        side = logits.shape[-1]
        values = logits.flatten(2)
        best = (values.softmax(dim=1) if "joints" in bugs else values).argmax(dim=2)  # [D, J]
        cell = torch.stack([best % side, best // side], dim=2)  # [D, J, 2]
        extent = boxes[:, 2:] - boxes[:, :2]
        if "square" in bugs:
            extent = extent.amax(dim=1, keepdim=True).expand(-1, 2)
        cell = cell + (0.0 if "corner" in bugs else 0.5)
        return boxes[:, None, :2] + cell * (extent / side)[:, None]

    case("two joints in a tall box")
    logits = torch.zeros(1, 2, 4, 4)
    logits[0, 0, 1, 2], logits[0, 0, 0, 0] = 6.0, 5.0  # the best cell; one that no other wants
    logits[0, 1, 1, 2], logits[0, 1, 3, 1] = 6.0, 7.0
    boxes = torch.tensor([[10.0, 20, 18, 36]])
    got = tensor(answer(logits, boxes))
    require(
        got.shape == (1, 2, 2),
        f"One person, two joints: [D, J, 2] = [1, 2, 2]; yours has {list(got.shape)}.",
    )
    require_not(got, places(logits, boxes, "joints", "square", "corner"), "Nothing has changed.")
    for bugs, message in (
        (["joints"], "The joints still compete with each other for a cell."),
        (["square"], "Cells are still square; in this box they are twice as high as wide."),
        (["corner"], "That is still the corner of the cell, not its centre."),
        (["joints", "square"], "Centres are right now; two bugs are left."),
        (["joints", "corner"], "The cells' shape is right now; two bugs are left."),
        (["square", "corner"], "Each joint has its own softmax now; two bugs are left."),
    ):
        require_not(got, places(logits, boxes, *bugs), message)
    require_equal(got, [[[15.0, 26], [13, 34]]], "Best cells (1, 2) and (3, 1); 2 × 4 pixels each.")

    case("a wide box, and no box")
    boxes = torch.tensor([[10.0, 20, 42, 28]])
    require_equal(answer(logits, boxes), places(logits, boxes), "A box of 32 × 8 pixels.")
    none = answer(logits[:0], boxes[:0])
    require_equal(none, torch.zeros(0, 2, 2), "No detections: [0, J, 2].")

    generator = torch.Generator().manual_seed(0)
    for number in range(3):
        case(f"random {number}")
        logits = 3 * torch.randn(9, 17, 7, 7, generator=generator)
        corner = 100 * torch.rand(9, 2, generator=generator)
        boxes = torch.cat([corner, corner + 1 + 80 * torch.rand(9, 2, generator=generator)], dim=1)
        require_equal(answer(logits, boxes), places(logits, boxes), "Nine random people.")


# ---------------------------------------------------------------- 16.6


class _Scene:
    """A model whose three joints are the middle, its left and its right, as seen by the model.

    A joint's map is the image in the box, for left and right with a slope to one side; `lean` adds
    a slope to all, so that the two views of a person differ.
    """

    config = SimpleNamespace(keypoint_pool=4)
    order = (0, 2, 1)

    def __init__(self, lean: float) -> None:
        self.lean = lean

    def __call__(self, images: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(images))

    def roi_features(self, record: Tensor, rois: Sequence[Tensor], size: int) -> Tensor:
        boxes = torch.cat(list(rois))
        require(
            bool((boxes[:, 2:] >= boxes[:, :2]).all()),
            "A box came with x2 < x1: in the mirror image the right side is the left one.",
        )
        return torchvision.ops.roi_align(record, list(rois), 2 * size, aligned=True)

    def keypoint_head(self, features: Tensor) -> Tensor:
        slope = torch.linspace(-1, 1, features.shape[-1])  # [M]
        sides = torch.tensor([0.0, 1.0, -1.0]) + self.lean  # the middle, left, right
        return features.mean(dim=1, keepdim=True) + sides[:, None, None] * slope  # [R, J, M, M]


@check("16.6")
def check_two_views(
    answer: Callable[[object, Tensor, Tensor, Sequence[int]], Tensor],
) -> None:
    """Check heatmaps averaged over an image and its mirror image."""
    answer = inputs_kept(answer)
    order = list(_Scene.order)

    def seen(model: _Scene, image: Tensor, boxes: Tensor) -> Tensor:
        return model.keypoint_head(model.roi_features(model([image]), [boxes], 4))

    def chances(logits: Tensor) -> Tensor:
        return logits.flatten(2).softmax(dim=2).unflatten(2, tuple(logits.shape[2:]))

    def views(
        model: _Scene, image: Tensor, boxes: Tensor, width: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """The logits of both views; of boxes that were not mirrored where the width is 0."""
        width = image.shape[2] if width is None else width
        x1, y1, x2, y2 = boxes.T
        rois = torch.stack([width - x2, y1, width - x1, y2], dim=1) if width else boxes
        return seen(model, image, boxes), seen(model, image.flip(2), rois).flip(3)[:, order]

    case("a model that treats left and right alike")
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(3, 12, 20, generator=generator)  # [3, H, W]
    boxes = torch.tensor([[2.0, 3, 12, 9]])
    model = _Scene(0.0)
    one, two = views(model, image, boxes)
    got = tensor(answer(model, image, boxes, order))
    require(
        got.shape == (1, 3, 8, 8),
        f"One map for each joint, [D, J, M, M] = [1, 3, 8, 8]; yours: {list(got.shape)}.",
    )
    require_not(got, (one + two) / 2, "Those are logits: return probabilities.")
    require_not(
        got,
        (one.sigmoid() + two.sigmoid()) / 2,
        "Those are sigmoids. A joint is in one cell: softmax over the M² cells.",
    )
    require_not(
        got,
        (one.softmax(dim=1) + two.softmax(dim=1)) / 2,
        "The softmax runs over the joints. It is the cells of one joint that compete.",
    )
    require_not(
        got,
        (chances(one) + chances(two[:, order])) / 2,
        "The mirror image's left joint was averaged with the left one. In the mirror it is the "
        "right one: put the maps into `order`.",
    )
    require_not(
        got,
        (chances(one) + chances(two.flip(3))) / 2,
        "The maps of the mirror image were not mirrored back.",
    )
    require_not(
        got,
        (chances(one) + chances(two[:, order].flip(3))) / 2,
        "The maps of the mirror image lie mirrored under the wrong names: flip them back, and put "
        "them into `order`.",
    )
    require_not(got, chances(one) * 2, "That is the sum of both views: average them.")
    for width, message in (
        (0, "The boxes were not mirrored: on the mirror image they lie on something else."),
        (
            image.shape[2] - 1,
            "The mirrored boxes lie one pixel off: x becomes W − x, not W − 1 − x (chapter 01).",
        ),
    ):
        first, second = views(model, image, boxes, width)
        require_not(got, (chances(first) + chances(second)) / 2, message)
    require_equal(got, chances(one), "Both views agree: nothing changes.")

    case("a model that leans")
    model = _Scene(1.5)
    one, two = views(model, image, boxes)
    want = (chances(one) + chances(two)) / 2
    got = answer(model, image, boxes, order)
    require_not(got, chances(one), "The mirror image has no say: average both views.")
    require_not(got, chances(two), "The image itself has no say: average both views.")
    require_not(got, chances((one + two) / 2), "Average the probabilities, not the logits.")
    require_equal(got, want, "The mean of the two views.")

    image = torch.randn(3, 24, 31, generator=generator)
    boxes = torch.tensor([[1.0, 2, 9, 20], [3.5, 1.2, 30.1, 12.9], [20.0, 5, 29, 19]])
    for number in range(2):
        case(f"random {number}")
        model = _Scene(0.5 + number)
        one, two = views(model, image, boxes)
        want = (chances(one) + chances(two)) / 2
        require_equal(answer(model, image, boxes, order), want, "Three boxes on a random image.")

    case("no detections")
    none = answer(model, image, boxes[:0], order)
    require_equal(none, torch.zeros(0, 3, 8, 8), "No detections: [0, J, M, M].")
