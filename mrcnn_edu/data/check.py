"""Is this target what the model expects? Ask before the loss is NaN, not after.

In: an image [3, H, W], a target, the number of foreground classes K. Out: nothing, or a ValueError
with one sentence: what is wrong, with which object of which image, and what to do. The mistakes are
those people report most: boxes as xywh, boxes without area, COCO's raw ids as labels, masks of
another size. Cheap enough for every image of a training run. Chapter 12.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mrcnn_edu.boxes import area as box_areas
from mrcnn_edu.data.dataset import Dataset
from mrcnn_edu.masks import areas as mask_areas
from mrcnn_edu.masks import to_boxes

_DTYPES = {"boxes": torch.float32, "labels": torch.int64, "masks": torch.uint8}
_SMALL, _LARGE = 32**2, 96**2  # COCO's limits of "small" and "large", square pixels
_TOLERANCE = 1e-3  # px, of boxes at the image's border


def check_target(
    image: Tensor,
    target: dict[str, Tensor],
    num_classes: int,
    where: str = "",
    has_masks: bool = True,
) -> None:
    """Raise ValueError unless `target` is a valid target of `image`.

    No objects at all is valid: boxes [0, 4], masks [0, H, W].

    Args:
        image: [3, H, W].
        target: boxes, labels and masks of its objects.
        num_classes: labels lie in 1..num_classes.
        where: names the image in the message, such as "image id 7 of instances.json"; when it is
            empty the target's image_id does.
        has_masks: False where the data set has boxes alone, and its targets no masks.

    Raises:
        ValueError: naming the first thing that is wrong, and its object.
    """
    try:
        _check_boxes(image, target)
        _check_labels(target, num_classes)
        if has_masks:
            _check_masks(image, target)
        _check_keypoints(target)
    except _Problem as problem:
        if not where and isinstance(target.get("image_id"), Tensor):
            where = f"image id {int(target['image_id'])}"
        raise ValueError(f"{where}: {problem}" if where else str(problem)) from None


class _Problem(ValueError):
    pass


def _tensor(target: dict[str, Tensor], key: str, shape: str) -> Tensor:
    """The entry, once it is a tensor of that dtype and of a shape written like "[G, 4]"."""
    if key not in target:
        raise _Problem(
            f"the target has no '{key}'; it has {', '.join(sorted(target)) or 'nothing'}"
        )
    value = target[key]
    if not isinstance(value, Tensor):
        raise _Problem(f"'{key}' is a {type(value).__name__}; make it a torch tensor")
    sides = shape.strip("[]").split(", ")
    if value.ndim != len(sides) or (sides[-1] == "4" and value.shape[-1] != 4):
        hint = "; for an image without objects use torch.zeros((0, 4))" if key == "boxes" else ""
        raise _Problem(f"'{key}' has shape {list(value.shape)}, expected {shape}{hint}")
    if value.dtype != _DTYPES[key]:
        raise _Problem(
            f"'{key}' is {value.dtype}, expected {_DTYPES[key]}: use .to({_DTYPES[key]})"
        )
    return value


def _check_boxes(image: Tensor, target: dict[str, Tensor]) -> None:
    if image.ndim != 3 or image.shape[0] != 3:
        raise _Problem(f"the image has shape {list(image.shape)}, expected [3, H, W]")
    boxes = _tensor(target, "boxes", "[G, 4]")
    if not len(boxes):
        return
    height, width = image.shape[1:]
    # One conversion to Python: for the few boxes of an image that is faster than tensor tests.
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        inside = x1 >= -_TOLERANCE and y1 >= -_TOLERANCE
        inside = inside and x2 <= width + _TOLERANCE and y2 <= height + _TOLERANCE
        if inside and x2 > x1 and y2 > y1:
            continue
        box = f"box {i} is [{x1:g}, {y1:g}, {x2:g}, {y2:g}]"
        if not all(abs(v) < float("inf") for v in (x1, y1, x2, y2)):  # NaN too
            raise _Problem(f"{box}: not finite; look for a division by a size of zero")
        if x2 <= x1 or y2 <= y1:
            as_xywh = x2 > 0 and y2 > 0 and x1 + x2 <= width and y1 + y2 <= height
            if as_xywh and x1 >= 0 and y1 >= 0:
                raise _Problem(
                    f"{box}, with x2 ≤ x1 or y2 ≤ y1: looks like xywh; convert to "
                    "[x, y, x + width, y + height]"
                )
            raise _Problem(
                f"{box}: it has no area; boxes are [x1, y1, x2, y2] with x2 > x1 and y2 > y1; "
                "leave such objects out"
            )
        raise _Problem(
            f"{box}: outside the image of width {width} and height {height}; was the image "
            "resized without its boxes, or are the boxes in 0..1? Scale them, or clip them"
        )


def _check_labels(target: dict[str, Tensor], num_classes: int) -> None:
    count = len(target["boxes"])
    labels = _tensor(target, "labels", "[G]")
    if len(labels) != count:
        raise _Problem(f"{count} boxes but {len(labels)} labels; each object needs one of each")
    for i, label in enumerate(labels.tolist()):
        if 1 <= label <= num_classes:
            continue
        found = f"label {label} of object {i} is not in 1..{num_classes}"
        if label == 0:
            raise _Problem(f"{found}: 0 is the background; count your classes from 1")
        if num_classes == 80 and label <= 90:
            raise _Problem(
                f"{found}: looks like a raw COCO category id (1..90 with holes); "
                "CocoDataset maps them to 1..80"
            )
        raise _Problem(f"{found}: num_classes is too small, or the labels are raw category ids")


def _check_masks(image: Tensor, target: dict[str, Tensor]) -> None:
    boxes, (height, width) = target["boxes"], image.shape[1:]
    masks = _tensor(target, "masks", "[G, H, W]")
    if len(masks) != len(boxes):
        raise _Problem(f"{len(boxes)} boxes but {len(masks)} masks; each object needs one of each")
    if masks.shape[1:] != image.shape[1:]:
        raise _Problem(
            f"masks are {masks.shape[1]}×{masks.shape[2]}, the image is {height}×{width}: "
            "resize and crop both together"
        )
    if not len(masks):
        return
    rows = masks.amax(dim=2)  # [G, H]: one pass over all pixels, the rest is small
    if int(rows.max()) > 1:
        raise _Problem(f"masks hold {int(rows.max())}; they must be 0 or 1: use (mask > 0)")
    extents = to_boxes(masks).tolist()
    for i, (box, extent) in enumerate(zip(boxes.tolist(), extents, strict=True)):
        if extent[2] <= extent[0]:
            raise _Problem(f"the mask of object {i} is empty; leave the object out")
        for name, low, high in (("rows", 1, 3), ("columns", 0, 2)):
            shared = min(box[high], extent[high]) - max(box[low], extent[low])
            longest = max(box[high] - box[low], extent[high] - extent[low])
            if shared < longest / 2 - 2:
                raise _Problem(
                    f"mask and box of object {i} do not belong together: the mask fills {name} "
                    f"{extent[low]:.0f}..{extent[high]:.0f}, the box "
                    f"{box[low]:g}..{box[high]:g}; are both in the same order, and is the box "
                    "[x1, y1, x2, y2]?"
                )


def _check_keypoints(target: dict[str, Tensor]) -> None:
    if "keypoints" not in target:
        return
    points = target["keypoints"]
    count = len(target["boxes"])
    if points.ndim != 3 or points.shape[0] != count or points.shape[2] != 3:
        raise _Problem(
            f"'keypoints' has shape {list(points.shape)}, expected [G, J, 3] with x, y, v of each "
            f"joint of the {count} objects"
        )
    broken = (~torch.isfinite(points).all(dim=2)).nonzero()
    if len(broken):
        i, joint = broken[0].tolist()
        raise _Problem(
            f"joint {joint + 1} of object {i} is {points[i, joint].tolist()}: not finite; write "
            "0, 0, 0 for a joint that is not labelled"
        )


@dataclass(frozen=True)
class DatasetSummary:
    """What `check_dataset` found. `problems` holds one sentence an image that is not valid.

    `left_out` counts by reason what the file has and no target holds.
    """

    images: int
    images_without_objects: int
    objects: int
    objects_per_class: dict[str, int]
    small: int
    medium: int
    large: int
    smallest_image: tuple[int, int]
    largest_image: tuple[int, int]
    problems: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        classes = ", ".join(f"{name} {count}" for name, count in self.objects_per_class.items())
        lines = [
            f"{self.images} images, {self.images_without_objects} of them without objects; "
            f"{self.objects} objects",
            f"images from {self.smallest_image[0]}×{self.smallest_image[1]} "
            f"to {self.largest_image[0]}×{self.largest_image[1]} (height×width)",
            f"objects by area: {self.small} small (< 32²), {self.medium} medium, "
            f"{self.large} large (≥ 96²)",
            f"objects by class: {classes}",
            *describe_left_out(self.left_out),
            f"{len(self.problems)} problems" + "".join(f"\n  {p}" for p in self.problems[:10]),
        ]
        return "\n".join(lines)


def describe_left_out(counts: Mapping[str, int]) -> list[str]:
    """A line that says what no target holds, and why; none where nothing is left out."""
    listed = "; ".join(f"{count} {reason}" for reason, count in counts.items() if count)
    return [f"left out of the targets: {listed}"] if listed else []


def check_dataset(dataset: Dataset, max_images: int | None = None) -> DatasetSummary:
    """Checks the first `max_images` images (all, if None) and counts what is in them.

    A broken target or file does not stop it: its sentence is collected. A set in which nothing at
    all is annotated is a problem too. Raises ValueError when the data set is empty. Chapter 12.
    """
    count = len(dataset) if max_images is None else min(len(dataset), max_images)
    if count == 0:
        raise ValueError("the data set has no images")
    labels: Counter[int] = Counter()
    sizes: list[tuple[int, int]] = []
    areas: list[float] = []
    problems: list[str] = []
    empty = pixelless = 0
    for i in range(count):
        try:
            image, target = dataset[i]
            check_target(image, target, dataset.num_classes, f"item {i}", dataset.has_masks)
        except (ValueError, OSError) as problem:
            problems.append(str(problem))
            continue
        sizes.append((image.shape[1], image.shape[2]))
        labels.update(target["labels"].tolist())
        areas += _areas(target)
        empty += len(target["labels"]) == 0
        expected = dataset.count_objects(i)
        pixelless += 0 if expected is None else expected - len(target["labels"])
    left_out = {**dataset.left_out, "masks without a pixel": pixelless}
    if not areas and not problems and count == len(dataset):
        problems.append(
            "no image has an object to learn from"
            + "".join(f"; {line}" for line in describe_left_out(left_out))
        )
    small, large = sum(a < _SMALL for a in areas), sum(a >= _LARGE for a in areas)
    by_area = sorted(sizes, key=lambda size: size[0] * size[1]) or [(0, 0)]
    return DatasetSummary(
        images=count,
        images_without_objects=empty,
        objects=len(areas),
        objects_per_class={name: labels[k + 1] for k, name in enumerate(dataset.class_names)},
        small=small,
        medium=len(areas) - small - large,
        large=large,
        smallest_image=by_area[0],
        largest_image=by_area[-1],
        problems=problems,
        left_out={reason: n for reason, n in left_out.items() if n},
    )


def _areas(target: dict[str, Tensor]) -> list[float]:
    """Pixels of each object's mask; where there are boxes alone, of its box."""
    if "masks" in target:
        return mask_areas(target["masks"]).tolist()
    return box_areas(target["boxes"]).tolist()
