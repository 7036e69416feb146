"""COCO's dictionaries as arrays: the ground truth file and the list of results.

Everything that average precision asks of a file is looked up here, once, and whatever is wrong
with it is said here. Images and categories become positions in their sorted ids; masks stay
run lengths, all in one buffer of characters. Format: cocodataset.org, "Data format" and
"Results format". Chapter 11.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mrcnn_edu import run_lengths
from mrcnn_edu.coco_ap import overlap_kernels
from mrcnn_edu.data.skeleton import COCO_SIGMAS, sigmas_of
from mrcnn_edu.errors import UserError

IouType = Literal["bbox", "segm", "keypoints"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# What a result needs to be measured, and how a sentence calls it.
FIELD: dict[IouType, tuple[str, str]] = {
    "bbox": ("bbox", "box"),
    "segm": ("segmentation", "mask"),
    "keypoints": ("keypoints", "keypoints"),
}


@dataclass(frozen=True)
class Runs:
    """n masks as COCO's compressed run lengths, one behind the other."""

    chars: NDArray[np.uint8]
    ends: Ints  # [n] where each mask's characters end
    sizes: Ints  # [n, 2] height and width
    count: Ints  # [n] runs of the object, those of the background not counted
    area: Ints  # [n] pixels


@dataclass(frozen=True)
class Instances:
    """n objects, or n detections, of all images, in the order of the file."""

    image: Ints  # [n] position in the sorted image ids
    label: Ints  # [n] position in the sorted category ids
    area: Floats  # [n] px²
    score: Floats  # [n]; 0 for objects
    crowd: Bools  # [n]; a region that holds many objects
    ignore: Bools  # [n]; finding it is neither right nor wrong
    boxes: Floats  # [n, 4] xywh
    runs: Runs | None = None  # for masks
    keypoints: Floats | None = None  # [n, J, 3] x, y, visibility

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True)
class Index:
    """The ids of a ground truth, sorted: rows and columns of everything that follows."""

    image_ids: list[int]
    category_ids: list[int]
    sizes: Ints  # [N, 2] height and width of the images, 0 where the file does not say


def constants(ground_truth: dict[str, Any], iou_type: IouType, sigmas: Floats | None) -> Floats:
    """The constants [J] of the object keypoint similarity.

    Args:
        ground_truth: whose categories may name their joints: `mrcnn_edu.data.skeleton.sigmas_of`.
        iou_type: without keypoints nothing depends on them.
        sigmas: what a caller wants; None: what the categories say.

    Raises:
        UserError: the categories' joints are not what COCO's format says, or need different ones.
    """
    if sigmas is not None or iou_type != "keypoints":
        return COCO_SIGMAS if sigmas is None else sigmas
    try:
        return sigmas_of(ground_truth["categories"], "In the annotations")
    except ValueError as error:
        raise UserError(f"Keypoints cannot be measured. {error}.") from error


def load_truth(
    ground_truth: dict[str, Any], iou_type: IouType, joints: int
) -> tuple[Index, Instances]:
    """Read the content of a COCO annotation file.

    Args:
        ground_truth: images, categories and annotations.
        iou_type: only what it needs is read.
        joints: J, how many keypoints an object has.

    Raises:
        UserError: an annotation names an unknown image or category, has no area, or its mask or
            keypoints are not what COCO's format says.
    """
    images = {i["id"]: (i.get("height", 0), i.get("width", 0)) for i in ground_truth["images"]}
    image_ids = sorted(images)
    category_ids = sorted({c["id"] for c in ground_truth["categories"]})
    sizes = np.array([images[i] for i in image_ids], np.int64).reshape(-1, 2)  # [N, 2]
    index = Index(image_ids, category_ids, sizes)
    annotations = ground_truth["annotations"]
    check_ids(annotations, index, "annotations")
    field, name = FIELD[iou_type]
    for a in annotations:
        if field not in a and iou_type != "keypoints":  # joints that nobody has marked are none
            raise UserError(
                f"Annotation {a.get('id')} of image id {a['image_id']} has no '{field}', so its "
                f"{name} cannot be measured."
            )
        if "area" not in a:
            raise UserError(
                f"Annotation {a.get('id')} of image id {a['image_id']} has no 'area', which "
                "decides whether an object is small, medium or large. Read the file with "
                "mrcnn_edu.data.coco.CocoDataset, whose ground_truth() completes it."
            )
    image, label = _positions(annotations, index)
    crowd = _numbers([a.get("iscrowd", 0) for a in annotations], (), "iscrowd", annotations) != 0
    ignore, runs, keypoints = crowd, None, None
    if iou_type == "segm":
        runs = _runs(annotations, image, index, "annotation")
    if iou_type == "keypoints":
        keypoints = _keypoints(annotations, joints, "annotation")
        labelled = (keypoints[:, :, 2] > 0).sum(axis=1)
        stated = [a.get("num_keypoints", n) for a, n in zip(annotations, labelled, strict=True)]
        ignore = crowd | (np.array(stated, np.int64) == 0)
    area = _numbers([a["area"] for a in annotations], (), "area", annotations)
    score = np.zeros(len(annotations))
    boxes = np.zeros((len(annotations), 4))
    if iou_type != "segm":
        boxes = _boxes(annotations, "annotation")
    return index, Instances(image, label, area, score, crowd, ignore, boxes, runs, keypoints)


def load_results(
    results: Sequence[dict[str, Any]], index: Index, iou_type: IouType, joints: int
) -> Instances:
    """Read a list of COCO results.

    The area of a detection, which decides about its size range, is that of what is measured: of its
    box, of its mask, or of the extent of its joints. pycocotools takes the box's for all three
    where a result has one; the reference code of Detectron2 and of torchvision therefore takes the
    boxes out before it measures masks, with the same effect as here.

    Args:
        results: dictionaries with `image_id`, `category_id`, `score` and what `iou_type` needs.
        index: the ids of the ground truth.
        iou_type: "bbox", "segm" or "keypoints".
        joints: of one object; 0 where there are none.

    Returns:
        the detections as arrays, in the order of the list.

    Raises:
        UserError: ids that are not in the ground truth, a result without the field that `iou_type`
            needs, a number that is not finite, a mask of another size or cut short.
    """
    field, name = FIELD[iou_type]
    check_ids(results, index, "detections")
    for i, r in enumerate(results):
        if field not in r or "score" not in r:
            raise UserError(
                f"Detection {i} (image id {r['image_id']}) has no "
                f"'{'score' if field in r else field}', so its {name} cannot be measured."
            )
    image, label = _positions(results, index)
    score = _numbers([r["score"] for r in results], (), "score", results)
    nothing = np.zeros(len(results), np.bool_)
    boxes, runs, keypoints = np.zeros((len(results), 4)), None, None
    if iou_type == "bbox":
        boxes = _boxes(results, "detection")
        area = boxes[:, 2] * boxes[:, 3]
    elif iou_type == "segm":
        runs = _runs(results, image, index, "detection")
        area = runs.area.astype(np.float64)
    else:
        keypoints = _keypoints(results, joints, "detection")
        spread = np.ptp(keypoints[:, :, :2], axis=1)  # [n, 2]
        area = spread[:, 0] * spread[:, 1]
    return Instances(image, label, area, score, nothing, nothing, boxes, runs, keypoints)


def check_ids(entries: Sequence[dict[str, Any]], index: Index, whose: str) -> None:
    """Refuse ids that do not match: the most common cause of an AP of zero.

    Args:
        entries: annotations or results.
        index: the ids of the ground truth.
        whose: what the entries are, for the message: "detections".

    Raises:
        UserError: naming some of them, and what the ground truth has instead.
    """
    for key, known, name in (
        ("image_id", index.image_ids, "image"),
        ("category_id", index.category_ids, "category"),
    ):
        missing = sum(key not in e for e in entries)
        if missing:
            raise UserError(f"{missing} of {len(entries)} {whose} have no '{key}'.")
        for i, e in enumerate(entries):
            if type(e[key]) is not int and not isinstance(e[key], numbers.Real):  # text, null
                raise UserError(
                    f"Number {i} of the {whose} has the {key} {e[key]!r:.60}; ids are whole "
                    "numbers, without quotes or brackets."
                )
        unknown = sorted({e[key] for e in entries} - set(known))
        if unknown:
            raise UserError(
                f"{len(unknown)} {name} ids of the {whose} are not in the ground truth, for "
                f"example {unknown[:5]}; the ground truth has {known[:5]} and so on. "
                + (
                    "Labels 1..K must be turned into the data set's own category ids."
                    if name == "category"
                    else "Were the detections made on another data set or split?"
                )
            )


def _positions(entries: Sequence[dict[str, Any]], index: Index) -> tuple[Ints, Ints]:
    image_of = {i: n for n, i in enumerate(index.image_ids)}
    label_of = {c: k for k, c in enumerate(index.category_ids)}
    image = np.array([image_of[e["image_id"]] for e in entries], np.int64)
    return image, np.array([label_of[e["category_id"]] for e in entries], np.int64)


def _numbers(
    values: list[Any], shape: tuple[int, ...], name: str, entries: Sequence[dict[str, Any]]
) -> Floats:
    """A list of numbers, or of lists of them, as float64 [n, *shape]; finite, or an error."""
    if not values:
        return np.zeros((0, *shape))
    try:
        given = np.array(values)
        if given.dtype.kind not in "biuf":  # NumPy would read numbers out of text
            raise TypeError(f"for example {values[0]!r:.60}")
        array = given.astype(np.float64).reshape(len(values), *shape)
    except (TypeError, ValueError) as error:
        raise UserError(f"A {name} does not have {math.prod(shape)} numbers ({error}).") from error
    broken = np.flatnonzero(~np.isfinite(array).reshape(len(values), -1).all(axis=1))
    if broken.size:
        i = int(broken[0])
        raise UserError(
            f"{len(broken)} entries have a {name} that is not finite; the first is number {i}, of "
            f"image id {entries[i]['image_id']}: {values[i]}."
        )
    return array


def _boxes(entries: Sequence[dict[str, Any]], whose: str) -> Floats:
    return _numbers([e["bbox"] for e in entries], (4,), f"{whose}'s box", entries)


def _keypoints(entries: Sequence[dict[str, Any]], joints: int, whose: str) -> Floats:
    none = [0] * (3 * joints)  # an object whose joints nobody has marked
    points = [e.get("keypoints", none) for e in entries]
    for e, p in zip(entries, points, strict=True):
        if len(p) != 3 * joints:
            raise UserError(
                f"One {whose} of image id {e['image_id']} has {len(p)} keypoint numbers; {joints} "
                f"keypoints of x, y, v are {3 * joints}."
            )
    return _numbers(points, (joints, 3), f"{whose}'s list of keypoints", entries)


def _runs(entries: Sequence[dict[str, Any]], image: Ints, index: Index, whose: str) -> Runs:
    """The masks of all entries as one buffer, checked: each has as many pixels as its image."""
    sizes = index.sizes[image]  # [n, 2]
    rles = []
    for e, size in zip(entries, sizes.tolist(), strict=True):
        rle = e["segmentation"]
        counts = rle.get("counts") if isinstance(rle, dict) else None
        # COCO's own form is read by the kernel below; everything else goes through the gate.
        packed = isinstance(counts, bytes) or (isinstance(counts, str) and counts.isascii())
        if not packed or rle.get("size") not in (size, tuple(size)):
            try:
                counts = run_lengths.to_rle(rle, *size)["counts"]
            except ValueError as error:
                raise UserError(
                    f"The mask of one {whose} of image id {e['image_id']}: {error}."
                ) from error
        rles.append(counts if isinstance(counts, bytes) else str(counts).encode("ascii"))
    chars = np.frombuffer(b"".join(rles), np.uint8)
    ends = np.cumsum([len(r) for r in rles], dtype=np.int64)
    count, area, total = overlap_kernels.measure_runs(chars, ends)
    broken = np.flatnonzero(total != sizes.prod(axis=1))
    if broken.size:
        i = int(broken[0])
        raise UserError(
            f"The mask of one {whose} of image id {entries[i]['image_id']} is damaged: its runs "
            f"add up to {total[i] if total[i] >= 0 else 'nothing'}, the image has "
            f"{sizes[i].prod()} pixels."
        )
    return Runs(chars, ends, sizes, count, area)
