"""Image and target, changed together: flips, quarter turns, crops, sizes, colours.

In: an image [3, H, W] (uint8 or float) and a target as torchvision's detectors take it. Out: new
ones; the input is never written to. Pixels, boxes and masks go through torchvision.transforms.v2;
what is ours is the order, the keypoints, and that every random number is drawn from the generator
that is passed in (v2's own random transforms draw from the global one, which no worker and no
resumed run reproduces). Boxes are xyxy in continuous coordinates, so a flip maps x to W − x.
The paper trains with a flip and one size (section 3.1). Chapters 01 and 12.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from mrcnn_edu.data.dataset import Target
from mrcnn_edu.masks import to_boxes

Rounding = Literal["nearest", "floor"]

# After a mirror the left wrist is a right wrist: COCO's 17 joints in their new order.
MIRRORED_JOINTS = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)

_PER_OBJECT = ("boxes", "labels", "masks", "area", "iscrowd", "keypoints")


def to_float(image: Tensor) -> Tensor:
    """uint8 0..255 to float32 0..1. A float image comes back as float32, its values as they are."""
    return F.to_dtype(image, torch.float32, scale=True)


def horizontal_flip(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    """Mirrors left and right. Joints change places too: the left wrist becomes the right one.

    Applying it twice gives the input back. Chapter 01.
    """
    width = image.shape[-1]
    flipped = _mirror(target, F.horizontal_flip, image.shape[-2:])
    if "keypoints" in flipped:
        points = flipped["keypoints"]
        flipped["keypoints"] = _move(points, width - points[..., 0], points[..., 1])
    return F.horizontal_flip(image), flipped


def vertical_flip(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    """Mirrors top and bottom. Joints change places as in `horizontal_flip`: it is a mirror too."""
    height = image.shape[-2]
    flipped = _mirror(target, F.vertical_flip, image.shape[-2:])
    if "keypoints" in flipped:
        points = flipped["keypoints"]
        flipped["keypoints"] = _move(points, points[..., 0], height - points[..., 1])
    return F.vertical_flip(image), flipped


def quarter_turn(image: Tensor, target: Target, turns: int) -> tuple[Tensor, Target]:
    """Turns by `turns` · 90° against the clock, exactly: no interpolation, no lost pixel.

    One turn takes (x, y) to (y, W − x) and [3, H, W] to [3, W, H].
    """
    turned = dict(target)
    boxes, points = target["boxes"], target.get("keypoints")
    height, width = image.shape[-2:]
    for _ in range(turns % 4):
        x1, y1, x2, y2 = boxes.unbind(-1)
        boxes = torch.stack([y1, width - x2, y2, width - x1], dim=-1)  # [G, 4]
        if points is not None:
            points = _move(points, points[..., 1], width - points[..., 0])
        height, width = width, height
    turned["boxes"] = boxes
    turned["masks"] = torch.rot90(target["masks"], turns, (-2, -1)).contiguous()
    if points is not None:
        turned["keypoints"] = points
    return torch.rot90(image, turns, (-2, -1)).contiguous(), turned


def crop_window(
    image: Tensor,
    target: Target,
    top: int,
    left: int,
    height: int,
    width: int,
    min_share: float = 0.1,
    min_area: int = 10,
) -> tuple[Tensor, Target]:
    """Cuts out a window that lies inside the image, all in pixels.

    An object stays when at least `min_share` of its pixels and at least `min_area` of them are
    inside; its box and area are then those of the mask that is left. Joints that fall outside
    are unlabelled: (0, 0, 0). Raises ValueError when the window leaves the image.
    """
    full_height, full_width = image.shape[-2:]
    if top < 0 or left < 0 or top + height > full_height or left + width > full_width:
        raise ValueError(
            f"window rows {top}..{top + height}, columns {left}..{left + width} leaves the image "
            f"of {full_height}×{full_width}"
        )
    masks = F.crop(target["masks"], top, left, height, width)  # [G, h, w]
    # float32 counts pixels exactly up to 2²⁴ and sums five times as fast as int64.
    before = target["masks"].flatten(1).float().sum(1)  # [G]
    left_over = masks.flatten(1).float().sum(1)  # [G]
    keep = (left_over >= min_share * before) & (left_over >= min_area)
    cropped = {k: v[keep] if k in _PER_OBJECT else v for k, v in target.items()}
    cropped["masks"] = masks[keep]
    cropped["boxes"] = to_boxes(cropped["masks"])
    cropped["area"] = left_over[keep]
    if "keypoints" in cropped:
        points = cropped["keypoints"]
        x, y = points[..., 0] - left, points[..., 1] - top
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        cropped["keypoints"] = _move(points, x, y) * inside[..., None]
    return F.crop(image, top, left, height, width), cropped


def resized_shape(
    height: int, width: int, short_side: int, long_side: int, rounding: Rounding = "nearest"
) -> tuple[int, int]:
    """(H, W) after scaling the shorter side to `short_side`, unless the longer passes `long_side`.

    "nearest" rounds to the nearest pixel, as detectron2 does, "floor" down, as torchvision's model
    does. A `short_side` of 0 leaves the size as it is.
    """
    if short_side == 0:
        return height, width
    scale = min(short_side / min(height, width), long_side / max(height, width))
    up = 0.5 if rounding == "nearest" else 0.0
    return max(1, int(height * scale + up)), max(1, int(width * scale + up))


def resize(
    image: Tensor, short_side: int, long_side: int, rounding: Rounding = "nearest"
) -> Tensor:
    """Scales an image [3, H, W] by bilinear interpolation to `resized_shape`.

    Without antialiasing, as torchvision's and detectron2's models were trained.
    """
    size = resized_shape(image.shape[-2], image.shape[-1], short_side, long_side, rounding)
    if size == tuple(image.shape[-2:]):
        return image
    return F.resize(image, list(size), InterpolationMode.BILINEAR, antialias=False)


def resize_target(target: Target, size: Sequence[int], new_size: Sequence[int]) -> Target:
    """The target of an image that went from `size` (H, W) to `new_size`.

    Boxes and joints scale exactly. A mask pixel takes the value of the nearest old pixel's centre
    (NEAREST_EXACT): plain NEAREST takes the nearest old corner and shifts masks by up to half a
    pixel against the image. The area is scaled, not counted again.
    """
    if tuple(size) == tuple(new_size):
        return dict(target)
    sy, sx = new_size[0] / size[0], new_size[1] / size[1]
    resized = dict(target)
    resized["boxes"] = target["boxes"] * target["boxes"].new_tensor([sx, sy, sx, sy])  # [G, 4]
    shape = (len(target["boxes"]), *new_size)
    resized["masks"] = (
        F.resize(target["masks"], list(new_size), InterpolationMode.NEAREST_EXACT)
        if shape[0]
        else target["masks"].new_zeros(shape)
    )
    if "area" in target:
        resized["area"] = target["area"] * (sx * sy)
    if "keypoints" in target:
        points = target["keypoints"]
        resized["keypoints"] = _move(points, points[..., 0] * sx, points[..., 1] * sy)
    return resized


def jitter_colour(image: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Brightness, contrast and saturation, each times a factor in 1 − strength .. 1 + strength."""
    for adjust in (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation):
        image = adjust(image, 1 + strength * (2 * _draw(generator) - 1))
    return image


def augment(
    image: Tensor,
    target: Target,
    generator: torch.Generator,
    *,
    flip_probability: float = 0.5,
    vertical_flip_probability: float = 0.0,
    quarter_turns: bool = False,
    crop: int = 0,
    colour_jitter: float = 0.0,
) -> tuple[Tensor, Target]:
    """One random variant of an image and its target, drawn from `generator`. Chapter 12.

    The paper's augmentation is the flip alone. Microscopy has no up and no left: it takes both
    flips, quarter turns, and `crop`, the side of a random square (smaller where the image
    is). The numbers drawn depend on the options, not on the image.
    """
    if crop:
        height, width = (min(crop, side) for side in image.shape[-2:])
        top = int(_draw(generator) * (image.shape[-2] - height + 1))
        left = int(_draw(generator) * (image.shape[-1] - width + 1))
        image, target = crop_window(image, target, top, left, height, width)
    if flip_probability and _draw(generator) < flip_probability:
        image, target = horizontal_flip(image, target)
    if vertical_flip_probability and _draw(generator) < vertical_flip_probability:
        image, target = vertical_flip(image, target)
    if quarter_turns:
        image, target = quarter_turn(image, target, int(4 * _draw(generator)))
    if colour_jitter:
        image = jitter_colour(image, colour_jitter, generator)
    return image, target


def collate(samples: Sequence[tuple[Tensor, Target]]) -> tuple[list[Tensor], list[Target]]:
    """A batch as two lists. Images differ in size and are padded by the model, not here."""
    return [image for image, _ in samples], [target for _, target in samples]


def _draw(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))


def _move(points: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Keypoints [G, 17, 3] at new places; those that are not labelled stay (0, 0, 0)."""
    labelled = points[..., 2] > 0
    return torch.stack([x * labelled, y * labelled, points[..., 2]], dim=-1)  # [G, 17, 3]


def _mirror(target: Target, flip: Callable[[Tensor], Tensor], size: Sequence[int]) -> Target:
    """A copy whose boxes and masks went through v2's `flip`, and whose joints changed names."""
    boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=tuple(size))
    mirrored = dict(target)
    mirrored["boxes"] = flip(boxes).as_subclass(Tensor)
    mirrored["masks"] = flip(tv_tensors.Mask(target["masks"])).as_subclass(Tensor)
    if "keypoints" in target and target["keypoints"].shape[1] == len(MIRRORED_JOINTS):
        mirrored["keypoints"] = target["keypoints"][:, list(MIRRORED_JOINTS)]  # [G, 17, 3]
    return mirrored
