"""A COCO file as it is, made what the rest of the package takes it for: one typed pass at load.

JSON has no types but its own: an id may be text, a box null, a flag "0". Here every field that
anything reads later is looked at once. What has a default may be null, which then counts as absent;
64.0 is the whole number 64; everything else that is not of its type is refused in a sentence that
names entry, field and value. Geometry is `mrcnn_edu.run_lengths`'s. Format: cocodataset.org, "Data
format". Chapter 12.
"""

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mrcnn_edu import run_lengths

REQUIRED = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("id", "image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}
_WHOLE = {  # fields that are whole numbers, by list
    "images": ("id", "height", "width"),
    "annotations": ("id", "image_id", "category_id"),
    "categories": ("id",),
}
_OPTIONAL = {  # null counts as absent
    "images": (),
    "annotations": ("area", "iscrowd", "segmentation", "keypoints", "num_keypoints"),
    "categories": ("keypoints", "skeleton", "supercategory"),
}
_LONGEST_SHOWN = 60  # characters of a value in a message


@dataclass
class Typed:
    """The three lists with all fields of their types, and what was left out of them."""

    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    has_masks: bool  # some annotation has an outline; else the set has boxes alone
    broken: list[str] = field(default_factory=list)  # one sentence an annotation that was left out


def typed(ground_truth: Any, name: str, skip_broken: bool = False) -> Typed:
    """Check the content of an annotation file; nothing in it is changed, the lists are new.

    Args:
        ground_truth: what the JSON holds.
        name: of the file, for messages.
        skip_broken: leave annotations out whose fields or outlines are wrong, instead of refusing
            the file; outlines are looked at now and not when they are used.

    Raises:
        ValueError: naming the entry, the field and its value.
    """
    if not isinstance(ground_truth, dict):
        raise ValueError(
            f"{name} is not a COCO ground truth: a JSON object with images, annotations and "
            f"categories is needed, this is a {type(ground_truth).__name__} (a results file?)"
        )
    for key in REQUIRED:
        if not isinstance(ground_truth.get(key), list):
            raise ValueError(f"{name} is not a COCO ground truth: no list '{key}'")
    try:
        images = [_image(i, n) for n, i in enumerate(ground_truth["images"])]
        categories = [_category(c, n) for n, c in enumerate(ground_truth["categories"])]
        sizes = {i["id"]: (i["height"], i["width"]) for i in images}
        known = {c["id"] for c in categories}
        if not categories:
            raise ValueError("'categories' is empty: there are no classes to learn")
        for key, entries in (("images", images), ("categories", categories)):
            _refuse_twins(entries, key)
        raw = ground_truth["annotations"]
        has_masks = not raw or any(isinstance(a, dict) and a.get("segmentation") for a in raw)
        annotations, broken, seen = [], [], set[int]()
        for number, entry in enumerate(raw):
            try:
                a = _annotation(entry, number, sizes, known, has_masks)
                if a["id"] in seen:
                    raise ValueError(f"two annotations have the id {a['id']}; ids are unique")
                if skip_broken and has_masks:
                    _check_outline(a, sizes[a["image_id"]])
            except ValueError as error:
                if not skip_broken:
                    raise
                broken.append(str(error))
                continue
            seen.add(a["id"])
            annotations.append(a)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return Typed(images, annotations, categories, has_masks, broken)


def _image(entry: Any, number: int) -> dict[str, Any]:
    image = _fields(entry, number, "images")
    for side in ("height", "width"):
        if image[side] < 1:
            raise _wrong(_named(image, number, "images"), side, image[side], "at least 1")
    if image["height"] * image["width"] > run_lengths.MOST_PIXELS:
        raise ValueError(
            f"image id {image['id']} has {image['height']}×{image['width']} pixels; at most "
            f"{run_lengths.MOST_PIXELS:,} can be handled: cut it into tiles"
        )
    text = image["file_name"]
    if not isinstance(text, str) or not text or "\0" in text:
        raise _wrong(f"image id {image['id']}", "file_name", text, "the name of a file")
    return image


def _category(entry: Any, number: int) -> dict[str, Any]:
    category = _fields(entry, number, "categories")
    if not isinstance(category["name"], str):
        raise _wrong(f"category {category['id']}", "name", category["name"], "text")
    return category


def _annotation(
    entry: Any,
    number: int,
    sizes: Mapping[int, tuple[int, int]],
    categories: set[int],
    has_masks: bool,
) -> dict[str, Any]:
    a = _fields(entry, number, "annotations")
    who = f"annotation {a['id']}"
    if a["image_id"] not in sizes:
        raise ValueError(f"{who} has unknown image id {a['image_id']}")
    if a["category_id"] not in categories:
        raise ValueError(f"{who} has unknown category id {a['category_id']}")
    box = a["bbox"]
    if not isinstance(box, Sequence) or len(box) != 4 or not all(map(_finite, box)):
        raise _wrong(who, "bbox", box, "four finite numbers, [x, y, width, height]")
    if "area" in a and not (_finite(a["area"]) and a["area"] >= 0):
        raise _wrong(who, "area", a["area"], "a number of pixels; leave it out to have it counted")
    if a.get("iscrowd", 0) not in (0, 1) or isinstance(a.get("iscrowd"), str):
        raise _wrong(who, "iscrowd", a["iscrowd"], "0 or 1, without quotes")
    if type(a.get("iscrowd", 0)) is not int:  # true, 1.0
        a["iscrowd"] = int(a["iscrowd"])
    if not has_masks:
        a.pop("segmentation", None)
    elif "segmentation" not in a:
        raise ValueError(
            f"annotations[{number}] has no 'segmentation' (annotation {a['id']}), and others have "
            "one: a set has outlines for all objects or for none"
        )
    return a


def _fields(entry: Any, number: int, key: str) -> dict[str, Any]:
    """A copy of an entry whose required fields are there and whose ids and sizes are numbers."""
    if not isinstance(entry, dict):
        raise ValueError(f"{key}[{number}] is not a JSON object")
    for name in REQUIRED[key]:
        if name not in entry:
            raise ValueError(f"{key}[{number}] has no '{name}'")
    checked = {k: v for k, v in entry.items() if v is not None or k not in _OPTIONAL[key]}
    for name in _WHOLE[key]:
        value = checked[name]
        if type(value) is not int:
            checked[name] = _whole(value, _named(entry, number, key), name)
        elif not -(1 << 63) <= value < 1 << 63:
            raise _wrong(_named(entry, number, key), name, value, "a whole number of 64 bits")
    return checked


def _whole(value: Any, who: str, name: str) -> int:
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):  # NumPy's
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
        return int(value)
    hint = ""
    if isinstance(value, str):
        hint = "; it is text: write the number without quotes, and number what has names"
    raise _wrong(who, name, value, f"a whole number (an integer){hint}")


def _named(entry: Mapping[str, Any], number: int, key: str) -> str:
    """What a message calls an entry: by its id where it has one, else by its place."""
    what = {"images": "image id", "annotations": "annotation", "categories": "category"}[key]
    number_given = type(entry["id"]) is int
    return f"{what} {entry['id']}" if number_given else f"{key}[{number}]"


def _wrong(who: str, name: str, value: Any, must: str) -> ValueError:
    shown = repr(value)
    if len(shown) > _LONGEST_SHOWN:
        shown = f"{shown[:_LONGEST_SHOWN]}…"
    return ValueError(f"{who}: '{name}' is {shown}, and must be {must}")


def _finite(value: Any) -> bool:
    if type(value) is float:
        return math.isfinite(value)
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return number and abs(value) < 1e300


def _refuse_twins(entries: Sequence[Mapping[str, Any]], key: str) -> None:
    seen: set[int] = set()
    for entry in entries:
        if entry["id"] in seen:
            raise ValueError(f"two {key} have the same id {entry['id']}; ids are unique")
        seen.add(entry["id"])


def _check_outline(annotation: Mapping[str, Any], size: tuple[int, int]) -> None:
    try:
        run_lengths.to_rle(annotation["segmentation"], *size)
    except ValueError as error:
        raise ValueError(f"annotation {annotation['id']}: {error}") from error
