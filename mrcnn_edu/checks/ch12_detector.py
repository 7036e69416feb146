"""Checks of chapter 12, exercises 12.5 and 12.6: a broken loader, a detector before a mirror."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from mrcnn_edu import masks as mask_ops
from mrcnn_edu.checks.ch12_scene import Target, person
from mrcnn_edu.checks.common import (
    case,
    check,
    inputs_kept,
    parts,
    require,
    require_equal,
    require_not,
    tensor,
)
from mrcnn_edu.data import transforms
from mrcnn_edu.record import Detections


@check("12.5")
def check_ready(answer: Callable[[Tensor, Target, int, int, bool], tuple[Tensor, Target]]) -> None:
    """Check a loader that resizes and mirrors, once its bugs are found."""

    answer = inputs_kept(answer)

    def ready(item: tuple[Tensor, Target], size: tuple[int, int], flip: bool) -> Any:
        image, target = item
        got, new = parts(answer(image, target, *size, flip), "the image", "the target")
        require(
            tuple(tensor(got).shape[1:]) == size,
            f"The image has shape {list(got.shape)}, expected {[3, *size]}.",
        )
        return got, new

    def wanted(item: tuple[Tensor, Target], size: tuple[int, int], flip: bool) -> Any:
        image, target = item
        target = {k: target[k] for k in ("boxes", "labels", "masks")}
        new = transforms.resize_target(target, image.shape[1:], size)
        image = torch.nn.functional.interpolate(image[None], size, mode="bilinear")[0]
        return transforms.horizontal_flip(image, new) if flip else (image, new)

    def compare(item: tuple[Tensor, Target], size: tuple[int, int], flip: bool) -> None:
        image, new = ready(item, size, flip)
        pixels, truth = wanted(item, size, flip)
        old = item[0].shape
        sy, sx = size[0] / old[1], size[1] / old[2]
        swapped = item[1]["boxes"] * torch.tensor([sy, sx, sy, sx])
        if not flip:
            require_not(
                new["boxes"],
                swapped,
                "x goes with the width, y with the height: a square picture does not show it.",
            ) if sx != sy else None
        else:
            boxes = truth["boxes"]
            shift = torch.tensor([old[2] - size[1], 0.0, old[2] - size[1], 0])
            require_not(
                new["boxes"],
                boxes + shift,
                "The boxes are mirrored in the old picture's width, after it was enlarged.",
            ) if old[2] != size[1] else None
        require_equal(new["boxes"], truth["boxes"], f"Boxes, {old[2]} × {old[1]} to {size[::-1]}.")
        masks = tensor(new["masks"])
        eaten = int(truth["masks"].sum()) - int(masks.sum())
        require(
            masks.dtype == torch.uint8 and masks.shape == truth["masks"].shape,
            f"Masks are {list(masks.shape)} {masks.dtype}, expected {list(truth['masks'].shape)} "
            "uint8.",
        )
        require(
            not (size[0] > old[1] and eaten > 0 and not (masks > truth["masks"]).any()),
            f"The masks have lost {eaten} pixels along their outlines: between 0 and 1 bilinear "
            "interpolation makes fractions, and a whole-number type cuts them off.",
        )
        require_equal(
            masks, truth["masks"], "Masks: each new pixel takes the old pixel under its centre."
        )
        require_equal(image, pixels, "The image.")
        require_equal(new["labels"], truth["labels"], "Labels.")

    item = person()
    case("enlarged, the picture is not square")
    compare(item, (60, 120), False)
    case("enlarged and mirrored")
    compare(item, (60, 120), True)
    case("the size that it has")
    compare(item, (30, 40), True)
    case("made smaller")
    compare(item, (20, 25), False)
    for seed in range(5):
        case(f"random {seed}")
        generator = torch.Generator().manual_seed(seed)
        height, width = torch.randint(24, 90, (2,), generator=generator).tolist()
        compare(person(seed=seed), (height, width), seed % 2 == 0)


class _Finder:
    """A detector without weights: its boxes hold the pixels of each colour, mirrored or not."""

    def __call__(self, images: list[Tensor]) -> Any:
        require(
            isinstance(images, list | tuple) and all(i.ndim == 3 for i in images),
            "The model takes a list of images [3, H, W].",
        )
        return SimpleNamespace(images=list(images))

    def detect(self, record: Any) -> Any:
        found = [self._find(image) for image in record.images]
        return SimpleNamespace(images=record.images, detections=found)

    def _find(self, image: Tensor) -> Detections:
        boxes = mask_ops.to_boxes((image > 0.5).to(torch.uint8))  # [3, 4], one a channel
        masks = []
        for channel, (x1, y1, x2, y2) in zip(image, boxes.int().tolist(), strict=True):
            inside = channel[None, None, y1:y2, x1:x2]
            masks.append(torch.nn.functional.interpolate(inside, (6, 6), mode="area")[0, 0])
        scores = torch.tensor([0.9, 0.8, 0.7])
        return Detections(boxes, torch.tensor([2, 1, 3]), scores, torch.stack(masks))


@check("12.6")
def check_see_in_mirror(answer: Callable[[Any, Tensor], Detections]) -> None:
    """Check the detections of the mirrored image, brought back to the image."""
    answer = inputs_kept(answer)
    finder = _Finder()

    def compare(image: Tensor) -> None:
        got = answer(finder, image)
        require(
            isinstance(got, Detections),
            f"Return Detections, not a {type(got).__name__}: dataclasses.replace changes fields.",
        )
        there = finder.detect(finder([image.flip(2)])).detections[0]
        truth = finder.detect(finder([image])).detections[0]
        width = image.shape[2]
        x1, y1, x2, y2 = there.boxes.unbind(1)
        require(
            not torch.equal(got.boxes, there.boxes),
            "Those are boxes in the mirrored image: bring them back.",
        )
        require_not(
            got.boxes,
            torch.stack([width - x1, y1, width - x2, y2], dim=1),
            "x1 is right of x2: what was the left side is the right one.",
        )
        require_equal(got.boxes, truth.boxes, f"Boxes of three blobs, width {width}.")
        require(got.masks is not None, "The masks are gone.")
        require_not(
            got.masks,
            there.masks,
            "The boxes are back, but what is inside them still faces the other way: an M × M mask "
            "is a picture too.",
        )
        require_equal(got.masks, truth.masks, "Masks.")
        require_equal(got.labels, truth.labels, "Labels stay.")
        require_equal(got.scores, truth.scores, "Scores stay.")

    case("three blobs")
    image = torch.zeros(3, 20, 32)
    image[0, 2:8, 1:9], image[1, 10:18, 12:20], image[2, 4:10, 20:30] = 1, 1, 1
    image[0, 2, 1:4], image[1, 10:12, 12], image[2, 4:9, 28] = 0, 0, 0
    direct = answer(finder, image)
    require(
        not (
            isinstance(direct, Detections)
            and torch.equal(direct.boxes, finder.detect(finder([image])).detections[0].boxes)
            and _same_call(answer, image)
        ),
        "Your function never shows the mirrored image to the model.",
    )
    compare(image)
    for seed in range(5):
        case(f"random {seed}")
        generator = torch.Generator().manual_seed(seed)
        width = 30 + seed
        image = torch.zeros(3, 24, width)
        for channel in range(3):
            top, left = torch.randint(0, 12, (2,), generator=generator).tolist()
            blob = torch.rand(9, 11, generator=generator)
            image[channel, top : top + 9, left : left + 11] = blob
        compare(image)


def _same_call(answer: Callable[[Any, Tensor], Detections], image: Tensor) -> bool:
    """Whether an answer shows the model the image as it is, and only that."""
    seen: list[Tensor] = []

    class Watched(_Finder):
        def __call__(self, images: list[Tensor]) -> Any:
            seen.extend(images)
            return super().__call__(images)

    answer(Watched(), image)
    return all(torch.equal(i, image) for i in seen)
