"""Checks of chapter 12: run lengths, the compressed string, a mirror, a target, a broken loader."""

from collections.abc import Callable

import torch
from torch import Tensor

from mrcnn_edu import masks as mask_ops
from mrcnn_edu.checks.ch12_detector import check_ready, check_see_in_mirror
from mrcnn_edu.checks.ch12_runs import check_read_counts, check_runs
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

__all__ = [
    "check_mirror",
    "check_read_counts",
    "check_ready",
    "check_runs",
    "check_see_in_mirror",
    "check_target_of",
]

Objects = list[tuple[str, list[list[float]]]]


@check("12.3")
def check_mirror(answer: Callable[[Tensor, Target], tuple[Tensor, Target]]) -> None:
    """Check a mirror of image, boxes, masks and joints."""

    answer = inputs_kept(answer)

    def mirror(image: Tensor, target: Target) -> tuple[Tensor, Target]:
        got, new = parts(answer(image, target), "the image", "the target")
        require(isinstance(new, dict), f"The target is a dictionary, not a {type(new).__name__}.")
        missing = sorted(set(target) - set(new))
        require(not missing, f"The new target has no {missing}.")
        return tensor(got), new

    case("two objects, one of them a person")
    image, target = person()
    got, new = mirror(image, target)
    require_not(got, image.flip(1), "The image is upside down: mirror left and right, the width.")
    require_equal(got, image.flip(2), "The image's columns should run the other way.")
    boxes = target["boxes"]
    require_not(new["boxes"], boxes, "The boxes are where they were.")
    x1, y1, x2, y2 = boxes.unbind(1)
    require_not(
        new["boxes"],
        torch.stack([40 - x1, y1, 40 - x2, y2], dim=1),
        "x1 is now right of x2: what was the left side is the right one.",
    )
    require_not(
        new["boxes"],
        torch.stack([39 - x2, y1, 39 - x1, y2], dim=1),
        "The boxes are one pixel off: x becomes W − x. W − 1 − x is for indices (chapter 01).",
    )
    wanted = torch.stack([40 - x2, y1, 40 - x1, y2], dim=1)
    require_equal(new["boxes"], wanted, "Boxes in an image of width 40.")
    require_not(new["masks"], target["masks"], "The masks are not mirrored.")
    require_equal(new["masks"], target["masks"].flip(2), "The masks.")
    require(new["masks"].dtype == torch.uint8, f"The masks are {new['masks'].dtype}, not uint8.")
    require_equal(new["labels"], target["labels"], "Labels stay as they are.")
    require_equal(new["image_id"], target["image_id"], "So does everything else.")
    points = target["keypoints"]
    _, truth = transforms.horizontal_flip(image, target)
    joints = truth["keypoints"]
    require_not(new["keypoints"], points, "The joints are not mirrored.")
    moved = torch.where(points[..., 2:] > 0, torch.tensor([-1.0, 1, 1]) * points, points)
    moved[..., 0] += 40 * (points[..., 2] > 0)
    require_not(
        new["keypoints"],
        moved,
        "The joints are in the right places under the wrong names: in a mirror the left eye is a "
        "right eye. MIRRORED_JOINTS is their new order.",
    )
    careless = torch.stack([40 - points[..., 0], points[..., 1], points[..., 2]], dim=-1)
    careless = careless[:, list(transforms.MIRRORED_JOINTS)]
    require_not(
        new["keypoints"],
        careless,
        "A joint that is not labelled is (0, 0, 0) and stays so; yours went to x = W.",
    )
    require_not(
        new["keypoints"],
        joints - torch.tensor([1.0, 0, 0]) * (joints[..., 2:] > 0),
        "The joints are one pixel off: they are places like the boxes' corners, so W − x.",
    )
    require_equal(new["keypoints"], joints, "The joints.")
    case("twice")
    again, back = mirror(got, new)
    require_equal(again, image, "Mirrored twice, the image should be as before.")
    for name in ("boxes", "masks", "keypoints"):
        require_equal(back[name], target[name], f"Mirrored twice, '{name}' should be as before.")
    case("a set without joints")
    plain = {k: v for k, v in target.items() if k != "keypoints"}
    _, new = mirror(image, plain)
    require("keypoints" not in new, "The target had no joints; where do yours come from?")
    case("an image without objects")
    none = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 30, 40, dtype=torch.uint8),
        "keypoints": torch.zeros(0, 17, 3),
    }
    _, new = mirror(image, none)
    require_equal(new["boxes"], none["boxes"], "No boxes: [0, 4].")
    for seed in range(5):
        case(f"random {seed}")
        image, target = person(31 + seed, 30, seed)
        got, new = mirror(image, target)
        _, truth = transforms.horizontal_flip(image, target)
        for name in ("boxes", "masks", "keypoints"):
            require_equal(new[name], truth[name], f"'{name}' in an image of width {31 + seed}.")


def _target(objects: Objects, names: list[str], height: int, width: int) -> Target:
    """What the exercise asks for."""
    boxes, labels, masks = [], [], []
    for name, polygons in objects:
        mask = mask_ops.polygons_to_mask(polygons, (height, width))  # [H, W]
        if not mask.any():
            continue
        x = [min(max(v, 0), width) for p in polygons for v in p[0::2]]
        y = [min(max(v, 0), height) for p in polygons for v in p[1::2]]
        boxes.append([min(x), min(y), max(x), max(y)])
        labels.append(names.index(name) + 1)
        masks.append(mask)
    none = torch.zeros(0, height, width, dtype=torch.uint8)
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": torch.stack(masks) if masks else none,
    }


@check("12.4")
def check_target_of(answer: Callable[[Objects, list[str], int, int], Target]) -> None:
    """Check the target of an image whose objects are names with polygons."""
    answer = inputs_kept(answer)
    names = ["cup", "plate", "spoon"]

    def ask(objects: Objects, height: int, width: int) -> Target:
        got = answer(objects, names, height, width)
        require(isinstance(got, dict), f"Return a dictionary, not a {type(got).__name__}.")
        wanted = _target(objects, names, height, width)
        missing = sorted(set(wanted) - set(got))
        require(not missing, f"The target has no {missing}.")
        count = len(objects)
        for name, value in wanted.items():
            found = tensor(got[name])
            require(
                found.ndim == 0 or len(found) == len(value) or len(found) != count,
                f"An object without a single pixel in the image is among your {name}: its box "
                "would have no area. Leave it out of all three.",
            )
            require(
                found.shape == value.shape,
                f"'{name}' has shape {list(found.shape)}, expected {list(value.shape)}.",
            )
        require_not(
            got["labels"],
            wanted["labels"] - 1,
            "Your labels begin with 0, and 0 is the background: count classes from 1.",
        ) if len(wanted["labels"]) else None
        for name, value in wanted.items():
            require(
                got[name].dtype == value.dtype,
                f"'{name}' is {got[name].dtype}, expected {value.dtype}.",
            )
        return got

    def compare(got: Target, objects: Objects, height: int, width: int, what: str) -> None:
        wanted = _target(objects, names, height, width)
        masks, boxes = wanted["masks"], wanted["boxes"]
        require_equal(got["labels"], wanted["labels"], f"Labels of {what}: 1 is the first name.")
        require_not(got["masks"], 255 * masks, "Masks hold 0 and 1, not 255.")
        require_equal(got["masks"], masks, f"Masks of {what}.")
        ends = torch.tensor([0.0, 0, 1, 1])
        require_not(
            got["boxes"],
            mask_ops.to_boxes(masks) - ends,
            "Your boxes end at the *index* of the last pixel. It ends one further (chapter 01); "
            "torchvision's masks_to_boxes stops short in the same way.",
        )
        x1, y1, x2, y2 = boxes.unbind(1)
        require_not(
            got["boxes"],
            torch.stack([x1, y1, x2 - x1, y2 - y1], dim=1),
            "Your boxes are xywh; the model takes x1, y1, x2, y2.",
        ) if boxes[:, :2].any() else None
        box = mask_ops.to_boxes(masks)
        require_not(
            got["boxes"],
            box,
            "Those are the extents of the masks' pixels; the polygons say it more precisely.",
        ) if not torch.equal(box, boxes) else None
        require_equal(got["boxes"], boxes, f"Boxes of {what}.")

    square = [2.0, 1, 8, 1, 8, 5, 2, 5]
    case("one square")
    objects: Objects = [("plate", [square])]
    compare(ask(objects, 10, 12), objects, 10, 12, "one plate, x from 2 to 8, y from 1 to 5")
    case("two objects, one in two parts")
    far = [9.0, 6, 12, 6, 12, 10, 9, 10]
    objects = [("spoon", [square, far]), ("cup", [[0.0, 0, 6, 0, 0, 6]])]
    got = ask(objects, 10, 12)
    first = mask_ops.polygons_to_mask([square], (10, 12))
    require_not(
        tensor(got["masks"])[0], first, "The spoon has two polygons; your mask holds the first."
    )
    compare(got, objects, 10, 12, "a spoon in two parts and a cup")
    case("two polygons that overlap")
    objects = [("cup", [square, [6.0, 3, 11, 3, 11, 8, 6, 8]])]
    got = ask(objects, 10, 12)
    wanted = _target(objects, names, 10, 12)["masks"]
    require(
        int(tensor(got["masks"]).max()) < 2,
        "Where two polygons of an object overlap your mask holds 2: unite them, do not add.",
    )
    require(
        not (tensor(got["masks"]).sum() < wanted.sum()),
        "Where two polygons of an object overlap your mask has a hole: their union is wanted.",
    )
    compare(got, objects, 10, 12, "a cup of two polygons that overlap")
    case("half outside")
    objects = [("cup", [[-5.0, -5, 4, -5, 4, 4, -5, 4]])]
    got = ask(objects, 10, 12)
    require(
        float(tensor(got["boxes"]).min()) >= 0,
        "The polygon leaves the image on the left; a box may not. Take it from the mask.",
    )
    compare(got, objects, 10, 12, "a cup that leaves the image")
    case("wholly outside")
    objects = [("cup", [[20.0, 20, 30, 20, 30, 30]]), ("plate", [square])]
    compare(ask(objects, 10, 12), objects, 10, 12, "a plate, the cup being outside")
    case("no objects")
    got = ask([], 10, 12)
    require(got["masks"].shape == (0, 10, 12), "No objects: masks [0, H, W].")
    for seed in range(10):
        case(f"random {seed}")
        generator = torch.Generator().manual_seed(seed)
        corners = (torch.rand(4, 8, generator=generator) * 30 - 3).round(decimals=2).tolist()
        kinds = torch.randint(3, (3,), generator=generator).tolist()
        outlines = [[corners[0]], [corners[1], corners[2]], [corners[3]]]
        objects = [(names[k], polygons) for k, polygons in zip(kinds, outlines, strict=True)]
        compare(ask(objects, 24, 27), objects, 24, 27, "random polygons")
