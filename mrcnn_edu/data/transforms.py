"""Image and target, changed together: flips, quarter turns, crops, sizes.

In: an image [3, H, W] (uint8 or float) and a target as torchvision's detectors take it. Out: new
ones; the input is never written to. Pixels, boxes and flips go through torchvision.transforms.v2,
masks of another size through `masks.resize`, which equals it; what is ours is the order, the
keypoints, and that every random number is drawn from the generator that is passed in (v2's own
random transforms draw from the global one, which no worker and no resumed run reproduces). Boxes
are xyxy in continuous coordinates, so a flip maps x to W − x.
The paper trains with a flip and one size (§3.1). Chapters 01 and 12.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from mrcnn_edu.boxes import area as box_areas
from mrcnn_edu.boxes import clip
from mrcnn_edu.data.dataset import Target
from mrcnn_edu.data.shapes_outline import KEYPOINTS
from mrcnn_edu.data.skeleton import joint_order, mirrored_order
from mrcnn_edu.masks import Window, areas, to_boxes
from mrcnn_edu.masks import resize as resize_masks

Rounding = Literal["nearest", "floor"]

# After a mirror the left wrist is a right wrist: COCO's 17 joints in their new order.
MIRRORED_JOINTS = tuple(mirrored_order(KEYPOINTS))

_PER_OBJECT = ("boxes", "labels", "masks", "area", "iscrowd", "keypoints", "mirrored_joints")


def to_float(image: Tensor) -> Tensor:
    """uint8 0..255 to float32 0..1. A float image comes back as float32, its values as they are."""
    return F.to_dtype(image, torch.float32, scale=True)


def horizontal_flip(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    """Mirrors left and right. Joints change places too: the left wrist becomes the right one.

    Applying it twice gives the input back. Joints other than COCO's 17 need the target's
    `mirrored_joints` [G, J], the order of each object's joints after a mirror. Chapters 01 and 16.

    Raises:
        ValueError: nobody knows that order, or a joint with a side has no partner.
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
    """Turn against the clock, exactly: no interpolation, no lost pixel.

    One turn takes (x, y) to (y, W − x).

    Args:
        image: [3, H, W].
        target: of that image.
        turns: how many times 90°.

    Returns:
        the image, [3, W, H] after an odd number of turns, and its target.
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
    if "masks" in target:
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
    """Cut out a window that lies inside the image.

    The box and the area of an object that stays are then those of the mask that is left. Joints
    that fall outside are unlabelled: (0, 0, 0).

    Args:
        image: [3, H, W].
        target: of that image.
        top, left, height, width: the window, in pixels.
        min_share: an object stays when at least so much of its pixels is inside, 0..1,
        min_area: and at least so many of them.

    Returns:
        the image [3, height, width] and its target.

    Raises:
        ValueError: the window leaves the image.
    """
    window = (top, left, height, width)
    cropped = crop_image(image, window)
    return cropped, _cut(target, image.shape[-2:], window, min_share, min_area)


def crop_image(image: Tensor, window: Window) -> Tensor:
    """The image's part alone, [3, h, w], as a copy: a view would keep, and send, all of it.

    Raises ValueError when the window leaves the image.
    """
    top, left, height, width = _inside(window, image.shape[-2:])
    return F.crop(image, top, left, height, width).contiguous()


def draw_window(size: Sequence[int], side: int, generator: torch.Generator) -> Window:
    """A random square in an image, smaller where the image is.

    Args:
        size: (H, W) of the image.
        side: of the square, in pixels.
        generator: what is drawn from.

    Returns:
        (top, left, height, width).
    """
    height, width = (min(side, length) for length in size)
    top = int(_draw(generator) * (size[0] - height + 1))
    left = int(_draw(generator) * (size[1] - width + 1))
    return top, left, height, width


def resized_shape(
    height: int, width: int, short_side: int, long_side: int, rounding: Rounding = "nearest"
) -> tuple[int, int]:
    """(H, W) after scaling the shorter side to `short_side`, unless the longer passes `long_side`.

    Args:
        height, width: of the image, in pixels.
        short_side: 0 leaves the size as it is.
        long_side: the most that the longer side may become.
        rounding: "nearest" rounds to the nearest pixel, as detectron2 does, "floor" down, as
            torchvision's model does.
    """
    if short_side == 0:
        return height, width
    scale = min(short_side / min(height, width), long_side / max(height, width))
    up = 0.5 if rounding == "nearest" else 0.0
    return max(1, int(height * scale + up)), max(1, int(width * scale + up))


def resize(
    image: Tensor, short_side: int, long_side: int, rounding: Rounding = "nearest"
) -> Tensor:
    """Scale an image by bilinear interpolation to `resized_shape`.

    Without antialiasing, as torchvision's and detectron2's models were trained.

    Args:
        image: [3, H, W].
        short_side, long_side, rounding: as in `resized_shape`.

    Returns:
        [3, h, w]; the image itself where the size stays.
    """
    size = resized_shape(image.shape[-2], image.shape[-1], short_side, long_side, rounding)
    if size == tuple(image.shape[-2:]):
        return image
    return F.resize(image, list(size), InterpolationMode.BILINEAR, antialias=False)


def resize_target(
    target: Target, size: Sequence[int], new_size: Sequence[int], window: Window | None = None
) -> Target:
    """The target of an image that was resized.

    Boxes and joints scale exactly. A mask pixel takes the value of the nearest old pixel's centre
    (NEAREST_EXACT): plain NEAREST takes the nearest old corner and shifts masks by up to half a
    pixel against the image. The area is scaled, not counted again.

    Args:
        target: of the image before.
        size: (H, W) before.
        new_size: (H, W) after.
        window: in pixels of the new size. The result is what `crop_window` leaves of that target,
            to the bit, but of the masks only the part in the window is ever made.

    Raises:
        ValueError: the window leaves the image.
    """
    scaled = _scale(target, size, new_size)
    if window is not None:
        return _cut(scaled, new_size, window)
    if "masks" in target:
        scaled["masks"] = resize_masks(target["masks"], new_size)  # [G, H, W]
    return scaled


def augment(
    image: Tensor,
    target: Target,
    generator: torch.Generator,
    *,
    flip_probability: float = 0.5,
    vertical_flip_probability: float = 0.0,
    quarter_turns: bool = False,
) -> tuple[Tensor, Target]:
    """One random variant of an image and its target. Chapter 12.

    The paper's augmentation is the flip alone. Microscopy has no up and no left: it takes both
    flips and quarter turns. The numbers drawn depend on the options, not on the image. A random
    window comes before: `draw_window`.

    Args:
        image: [3, H, W].
        target: of that image.
        generator: what is drawn from.
        flip_probability: of left and right.
        vertical_flip_probability: of up and down.
        quarter_turns: turn by 0, 90, 180 or 270 degrees, each as often.

    Returns:
        the variant and its target.
    """
    if flip_probability and _draw(generator) < flip_probability:
        image, target = horizontal_flip(image, target)
    if vertical_flip_probability and _draw(generator) < vertical_flip_probability:
        image, target = vertical_flip(image, target)
    if quarter_turns:
        image, target = quarter_turn(image, target, int(4 * _draw(generator)))
    return image, target


def collate(samples: Sequence[tuple[Tensor, Target]]) -> tuple[list[Tensor], list[Target]]:
    """A batch as two lists. Images differ in size and are padded by the model, not here."""
    return [image for image, _ in samples], [target for _, target in samples]


def _draw(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))


def _move(points: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Keypoints [G, J, 3] at new places; those that are not labelled stay (0, 0, 0)."""
    labelled = points[..., 2] > 0
    return torch.stack([x * labelled, y * labelled, points[..., 2]], dim=-1)  # [G, 17, 3]


def _scale(target: Target, size: Sequence[int], new_size: Sequence[int]) -> Target:
    """A copy whose boxes, joints and areas went from `size` to `new_size`; its masks did not."""
    scaled = dict(target)
    if tuple(size) == tuple(new_size):
        return scaled
    sy, sx = new_size[0] / size[0], new_size[1] / size[1]
    scaled["boxes"] = target["boxes"] * target["boxes"].new_tensor([sx, sy, sx, sy])  # [G, 4]
    if "area" in target:
        scaled["area"] = target["area"] * (sx * sy)
    if "keypoints" in target:
        points = target["keypoints"]
        scaled["keypoints"] = _move(points, points[..., 0] * sx, points[..., 1] * sy)
    return scaled


def _inside(window: Window, size: Sequence[int]) -> Window:
    """The window, once it is known to lie inside an image of `size`."""
    top, left, height, width = window
    if top < 0 or left < 0 or top + height > size[0] or left + width > size[1]:
        raise ValueError(
            f"window rows {top}..{top + height}, columns {left}..{left + width} leaves the image "
            f"of {size[0]}×{size[1]}"
        )
    return window


def _cut(
    target: Target,
    size: Sequence[int],
    window: Window,
    min_share: float = 0.1,
    min_area: int = 10,
) -> Target:
    """`crop_window`'s half of the target, in an image of `size`; its masks may have another."""
    top, left, height, width = _inside(window, size)
    if "masks" in target:
        masks = resize_masks(target["masks"], size, window)  # [G, h, w]
        before, left_over = areas(target["masks"], size), areas(masks)  # [G]
        boxes, target = to_boxes(masks), target | {"masks": masks}
    else:  # boxes alone
        shifted = target["boxes"] - target["boxes"].new_tensor([left, top, left, top])
        boxes = clip(shifted, (height, width))  # [G, 4]
        before, left_over = box_areas(target["boxes"]), box_areas(boxes)  # [G]
    keep = (left_over >= min_share * before) & (left_over >= min_area)
    changed = target | {"boxes": boxes, "area": left_over}
    cut = {k: v[keep] if k in _PER_OBJECT else v for k, v in changed.items()}
    if "keypoints" in cut:
        points = cut["keypoints"]
        x, y = points[..., 0] - left, points[..., 1] - top
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        cut["keypoints"] = _move(points, x, y) * inside[..., None]
    return cut


def _mirror(target: Target, flip: Callable[[Tensor], Tensor], size: Sequence[int]) -> Target:
    """A copy whose boxes and masks went through v2's `flip`, and whose joints changed names."""
    boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=tuple(size))
    mirrored = dict(target)
    mirrored["boxes"] = flip(boxes).as_subclass(Tensor)
    if "masks" in target:
        mirrored["masks"] = flip(tv_tensors.Mask(target["masks"])).as_subclass(Tensor)
    if "keypoints" in target:
        points = target["keypoints"]
        order = joint_order(target)[..., None]  # [G, J, 1]
        mirrored["keypoints"] = points.gather(1, order.expand_as(points))
    return mirrored
