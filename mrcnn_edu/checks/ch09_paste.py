"""Checks of chapter 09, from cells to pixels: pasting, a broken detector, two views of an image."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F

from mrcnn_edu import masks as mask_ops
from mrcnn_edu.checks.common import (
    case,
    check,
    inputs_kept,
    require,
    require_equal,
    require_not,
    tensor,
)

Size = tuple[int, int]


def random_boxes(count: int, size: Size, generator: torch.Generator) -> Tensor:
    """xyxy, from a part of a pixel to the whole image, some partly outside. [count, 4]"""
    limits = torch.tensor([size[1], size[0]])
    corners = torch.rand(count, 2, generator=generator) * limits * 1.1 - 0.1 * limits
    sides = torch.rand(count, 2, generator=generator) ** 2 * limits * 0.8 + 0.7
    return torch.cat([corners, corners + sides], dim=1)


# ---------------------------------------------------------------- 9.3


def _paste(mask: Tensor, box: Sequence[float], size: Size) -> Tensor:
    return mask_ops.paste(mask[None], torch.tensor([list(box)]), size)[0]


def _hats(low: float, high: float, cells: int, length: int, pixel: float, index: float) -> Tensor:
    at = (torch.arange(length) + pixel - low) / (high - low) * cells - index  # [L]
    return (1 - (at[:, None] - torch.arange(cells)).abs()).clamp(min=0)  # [L, M]


def _paste_as(
    mask: Tensor, box: Sequence[float], size: Size, pixel: float = 0.5, index: float = 0.5
) -> Tensor:
    """Pasting where a pixel's place is its number + `pixel`, a cell's its number + `index`."""
    x1, y1, x2, y2 = box
    rows = _hats(y1, y2, len(mask), size[0], pixel, index)
    return rows @ mask @ _hats(x1, x2, len(mask), size[1], pixel, index).T


@check("9.3")
def check_paste(answer: Callable[[Tensor, Sequence[float], Size], Tensor]) -> None:
    """Check pasting one mask of M × M cells over its box, by the continuous rule."""
    answer = inputs_kept(answer)
    case("a cell for a pixel")
    mask = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9]])
    box = [2.0, 1.0, 5.0, 4.0]
    want = F.pad(mask, (2, 2, 1, 1))  # [5, 7]
    got = tensor(answer(mask, box, (5, 7)))
    require(
        tuple(got.shape) == (5, 7),
        f"The result has the size of the image, [5, 7]; yours has {list(got.shape)}.",
    )
    require_not(
        got,
        _paste_as(mask, box, (5, 7), pixel=0.0),
        "Half a pixel is lost: pixel i has its centre at i + ½, not at i.",
    )
    require_not(
        got,
        _paste_as(mask, box, (5, 7), index=0.0),
        "Half a cell is lost: cell k has its centre at k + ½ cells from the box's edge.",
    )
    require_not(got, (want > 0.5).float(), "Return probabilities; the threshold comes afterwards.")
    require_not(
        got,
        F.pad(mask.T, (2, 2, 1, 1)),
        "The mask lies on its side: rows go with y, columns with x.",
    )
    require_equal(got, want, "A box of 3 × 3 whole pixels and 3 × 3 cells: each pixel is one cell.")

    case("twice as large")
    mask, box = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), [2.0, 2.0, 6.0, 6.0]
    got = answer(mask, box, (8, 8))
    nearest = torch.zeros(8, 8)
    nearest[2:4, 2:4] = 1
    require_not(got, nearest, "Your pixels copy the nearest cell. Mix the neighbours, bilinearly.")
    inside = F.interpolate(mask[None, None], (4, 4), mode="bilinear", align_corners=False)[0, 0]
    require_not(
        got,
        F.pad(inside, (2, 2, 2, 2)),
        "Your border is hard: cut off at the box and not faded. Outside the mask's cells there is "
        "0, and a pixel between the last cell's centre and that 0 mixes the two.",
    )
    corners = F.interpolate(mask[None, None], (4, 4), mode="bilinear", align_corners=True)[0, 0]
    require_not(
        got,
        F.pad(corners, (2, 2, 2, 2)),
        "The outer cells' centres were put on the box's corners (align_corners=True).",
    )
    require_equal(got[1:5, 1:5], _paste(mask, box, (8, 8))[1:5, 1:5], "One full cell of four.")
    require_equal(got, _paste(mask, box, (8, 8)), "Far from the full cell all is 0.")

    case("between the pixels")
    generator = torch.Generator().manual_seed(0)
    mask, box = torch.rand(4, 4, generator=generator), [1.3, 2.4, 6.1, 11.7]
    got = answer(mask, box, (14, 9))
    require_not(
        got,
        _paste(mask, [1.0, 2.0, 6.0, 12.0], (14, 9)),
        "The box was rounded. Its corners lie between the pixels, and stay there.",
    )
    require_not(
        got,
        _paste(mask, [1.0, 2.0, 6.0, 11.0], (14, 9)),
        "The box was truncated to whole pixels: its corners stay where they are.",
    )
    require_not(
        got,
        _paste(mask, [1.3, 2.4, 7.1, 12.7], (14, 9)),
        "A 1 was added to the sides: a box is x2 − x1 wide (chapter 01).",
    )
    require_equal(got, _paste(mask, box, (14, 9)), "A box that is not square, between the pixels.")

    case("partly outside")
    box = [-3.5, -2.0, 4.5, 5.0]
    got = answer(mask, box, (7, 6))
    require_not(
        got,
        _paste(mask, [0.0, 0.0, 4.5, 5.0], (7, 6)),
        "The box was clipped first, and the whole mask squeezed into what was left.",
    )
    require_equal(got, _paste(mask, box, (7, 6)), "A box that begins outside the image.")
    require_equal(
        answer(mask, [20.0, 3.0, 29.0, 5.0], (7, 6)), torch.zeros(7, 6), "A box beside the image."
    )

    case("smaller than a pixel")
    tiny = [2.4, 3.4, 2.7, 3.7]
    got = answer(torch.ones(4, 4), tiny, (7, 6))
    require_equal(got, _paste(torch.ones(4, 4), tiny, (7, 6)), "A box within pixel (3, 2).")

    for number in range(3):
        case(f"random {number}")
        for row in random_boxes(8, (33, 25), generator).tolist():
            mask = torch.rand(28, 28, generator=generator)
            require_equal(
                answer(mask, row, (33, 25)), _paste(mask, row, (33, 25)), "A random box.", 1e-3
            )


# ---------------------------------------------------------------- 9.4


@check("9.4")
def check_masks(answer: Callable[[Tensor, Tensor, Tensor, Size], Tensor]) -> None:
    """Check the repaired last step of a detector: logits to bitmaps."""
    answer = inputs_kept(answer)

    def right(logits: Tensor, labels: Tensor, boxes: Tensor, size: Size) -> Tensor:
        chosen = logits[torch.arange(len(labels)), labels - 1].sigmoid()
        return mask_ops.paste(chosen, boxes, size) > 0.5

    case("two detections")
    logits = torch.full((2, 3, 4, 4), -4.0)  # [D, K, M, M]
    logits[0, 0, :2] = 4.0  # class 1: the upper half
    logits[0, 1, :, :2] = 4.0  # class 2: the left half
    logits[1, 1] = 4.0
    logits[1, 2, 1:3, 1:3] = 4.0  # class 3: the middle
    boxes = torch.tensor([[1.0, 1, 9, 9], [4.0, 2, 12, 10]])
    labels = torch.tensor([1, 3])
    got = tensor(answer(logits, labels, boxes, (12, 14)))
    require(got.dtype == torch.bool, f"Masks are bool; yours are {got.dtype}.")
    want = right(logits, labels, boxes, (12, 14))
    clamped = logits[torch.arange(2), labels.clamp(max=2)]
    require_not(
        got,
        mask_ops.paste(clamped.sigmoid(), boxes, (12, 14)) > 0.5,
        "The label is still used as an index: a detection of class 1 gets the mask of class 2. "
        "The clamp only hid the error that class K would have raised.",
    )
    require_not(
        got,
        mask_ops.paste(clamped, boxes, (12, 14)).sigmoid() > 0.5,
        "Nothing has changed yet: detections of class 1 get the mask of class 2, and more.",
    )
    require_not(
        got,
        mask_ops.paste(logits.sigmoid().amax(dim=1), boxes, (12, 14)) > 0.5,
        "The strongest mask of all classes was taken. The box head has chosen the class.",
    )
    own = logits[torch.arange(2), labels - 1]
    require_not(
        got,
        mask_ops.paste(own, boxes, (12, 14)).sigmoid() > 0.5,
        "The masks stick out of their boxes by half a cell. Outside is a logit of 0, and that is a "
        "probability of ½: paste probabilities, not logits.",
    )
    require_equal(got, want, "Class 1's mask is the upper half, class 3's the middle.")

    case("up to the border")
    full = torch.full((1, 3, 4, 4), 4.0)
    box, label = torch.tensor([[3.0, 3, 9, 9]]), torch.tensor([2])
    got = answer(full, label, box, (12, 12))
    require_equal(got, right(full, label, box, (12, 12)), "A mask that fills its box.")

    case("between the pixels")
    box = torch.tensor([[2.5, 3.6, 8.4, 9.5]])
    got = answer(full, label, box, (12, 12))
    require_not(
        got,
        right(full, label, box.round(), (12, 12)),
        "The box is still rounded: the mask is made of cells, not of pixels, and fits any box.",
    )
    require_equal(got, right(full, label, box, (12, 12)), "A box between the pixels.")

    case("the last class")
    got = answer(logits, torch.tensor([3, 3]), boxes, (12, 14))
    require_equal(got, right(logits, torch.tensor([3, 3]), boxes, (12, 14)), "Class K = 3.")

    case("no detections")
    none = answer(logits[:0], labels[:0], boxes[:0], (12, 14))
    require_equal(none, torch.zeros(0, 12, 14), "No detections: [0, 12, 14].")

    generator = torch.Generator().manual_seed(0)
    for number in range(3):
        case(f"random {number}")
        logits = 2 * torch.randn(12, 5, 7, 7, generator=generator)
        labels = torch.randint(1, 6, (12,), generator=generator)
        boxes = random_boxes(12, (30, 41), generator)
        want = right(logits, labels, boxes, (30, 41))
        require_equal(answer(logits, labels, boxes, (30, 41)), want, "12 random detections.")


# ---------------------------------------------------------------- 9.5


class _Scene:
    """A model that sees which columns of the image a box covers, and what is in them.

    Its class masks repeat the image inside the box; with `lean` they fade to the right, so that the
    two views of one object differ.
    """

    config = SimpleNamespace(mask_pool=4, mask_prediction="sigmoid")

    def __init__(self, classes: int, lean: float) -> None:
        self.classes, self.lean = classes, lean

    def __call__(self, images: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(images))

    def roi_features(self, record: Tensor, rois: Sequence[Tensor], size: int) -> Tensor:
        boxes = torch.cat(list(rois))
        require(
            bool((boxes[:, 2:] >= boxes[:, :2]).all()),
            "A box came with x2 < x1: in the mirror image the right side is the left one.",
        )
        return torchvision.ops.roi_align(record, list(rois), 2 * size, aligned=True)

    def mask_head(self, features: Tensor) -> Tensor:
        fade = self.lean * torch.linspace(0, 1, features.shape[-1])  # [M]
        masks = features.mean(dim=1, keepdim=True) - fade  # [R, 1, M, M]
        return masks * torch.arange(1.0, self.classes + 1)[:, None, None]  # [R, K, M, M]


@check("9.5")
def check_two_views(answer: Callable[[object, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check masks averaged over an image and its mirror image."""
    answer = inputs_kept(answer)

    def seen(model: _Scene, image: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        logits = model.mask_head(model.roi_features(model([image]), [boxes], 4))
        return logits[torch.arange(len(labels)), labels - 1]

    def views(
        model: _Scene, image: Tensor, boxes: Tensor, labels: Tensor, width: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """The logits of both views; of boxes that were not mirrored where the width is 0."""
        width = image.shape[2] if width is None else width
        x1, y1, x2, y2 = boxes.T
        rois = torch.stack([width - x2, y1, width - x1, y2], dim=1) if width else boxes
        return (
            seen(model, image, boxes, labels),
            seen(model, image.flip(2), rois, labels).flip(2),
        )

    def recognise(got: Tensor, model: _Scene, image: Tensor, boxes: Tensor, labels: Tensor) -> None:
        for width, message in (
            (0, "The boxes were not mirrored: on the mirror image they lie on something else."),
            (
                image.shape[2] - 1,
                "The mirrored boxes lie one pixel off: x becomes W − x, not W − 1 − x (chapter "
                "01).",
            ),
        ):
            one, two = views(model, image, boxes, labels, width)
            require_not(got, (one.sigmoid() + two.sigmoid()) / 2, message)

    case("a step from left to right")
    image = 4 * torch.arange(-10.0, 10)[None, None].expand(3, 12, 20) / 10  # [3, H, W]
    boxes, labels = torch.tensor([[2.0, 3, 12, 9]]), torch.tensor([2])
    model = _Scene(3, 0.0)
    one, two = views(model, image, boxes, labels)
    got = tensor(answer(model, image, boxes, labels))
    require(
        got.shape == (1, 8, 8),
        f"One mask per detection, [D, M, M] = [1, 8, 8]; yours: {list(got.shape)}.",
    )
    require_not(
        got,
        (one.sigmoid() + two.flip(2).sigmoid()) / 2,
        "The mask of the mirror image was not mirrored back: left and right were averaged.",
    )
    require_not(got, (one + two) / 2, "Those are logits: return probabilities.")
    recognise(got, model, image, boxes, labels)
    require_equal(got, one.sigmoid(), "A model that treats left and right alike: nothing changes.")

    case("a model that leans")
    model = _Scene(3, 3.0)
    one, two = views(model, image, boxes, labels)
    want = (one.sigmoid() + two.sigmoid()) / 2
    got = answer(model, image, boxes, labels)
    require_not(got, one.sigmoid(), "The mirror image has no say: average both views.")
    require_not(got, two.sigmoid(), "The image itself has no say: average both views.")
    require_not(got, ((one + two) / 2).sigmoid(), "Average the probabilities, not the logits.")
    require_equal(got, want, "The mean of the two views.")

    generator = torch.Generator().manual_seed(0)
    image = torch.randn(3, 24, 31, generator=generator)
    boxes = torch.tensor([[1.0, 2, 9, 20], [3.5, 1.2, 30.1, 12.9], [20.0, 5, 29, 19]])
    labels = torch.tensor([3, 1, 2])

    for number in range(2):
        case(f"random {number}")
        model = _Scene(3, 1.0 + number)
        one, two = views(model, image, boxes, labels)
        require_equal(
            answer(model, image, boxes, labels),
            (one.sigmoid() + two.sigmoid()) / 2,
            "Three boxes on a random image.",
        )

    case("no detections")
    none = answer(model, image, boxes[:0], labels[:0])
    require_equal(none, torch.zeros(0, 8, 8), "No detections: [0, 8, 8].")
