"""Nuclei: the 2018 Data Science Bowl set (BBBC038, CC0) as a COCO-format set.

In: `stage1_train.zip` as the Broad Bioimage Benchmark Collection gives it, or the folder it
unpacks to: for each image a folder ID with images/ID.png and masks/*.png, one file a nucleus,
white on black. Out: train/, val/ and annotations/instances_{train,val}.json with one class,
compressed RLE masks, and boxes and areas counted from them. Chapter 12; data/README.md says where
to get the set.
"""

import hashlib
import io
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle_ops

from mrcnn_edu.data.coco import read_rgb
from mrcnn_edu.data.write import write_split

_MEMBER = re.compile(r"(?:^|/)(?P<id>[^/]+)/(?P<kind>images|masks)/[^/.][^/]*\.png$")
Reader = Callable[[str], bytes]


@dataclass
class _Entry:
    image: str = ""
    masks: list[str] = field(default_factory=list)


def convert_nuclei(
    source: str | os.PathLike[str], folder: str | os.PathLike[str], val_share: float = 0.2
) -> tuple[Path, Path]:
    """Convert the official set to two COCO splits, each written whole or not at all.

    An image belongs to val when the hash of its name falls below `val_share`, so the split is the
    same everywhere and does not move when images are added.

    Args:
        source: `stage1_train.zip`, or the folder it was unpacked to.
        folder: where images and JSON files go.
        val_share: of the images, 0..1.

    Returns:
        the two JSON files, train and val.

    Raises:
        FileNotFoundError: `source` is not there.
        ValueError: it is not such a set, or a file in it is damaged.
        FileExistsError: a split exists already.
    """
    source = Path(source)
    if not source.exists():
        raise FileNotFoundError(f"no {source}; data/README.md says where to get stage1_train.zip")
    if source.is_dir():
        names = [p.relative_to(source).as_posix() for p in source.rglob("*.png")]
        return _convert(names, lambda name: (source / name).read_bytes(), source, folder, val_share)
    try:
        with zipfile.ZipFile(source) as archive:
            return _convert(archive.namelist(), archive.read, source, folder, val_share)
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{source} is not a complete zip file ({error}); fetch it again"
        ) from error


def _convert(
    names: list[str],
    read: Reader,
    source: Path,
    folder: str | os.PathLike[str],
    val_share: float,
) -> tuple[Path, Path]:
    entries = _group(names, source)
    val = {name: e for name, e in entries.items() if _fraction(name) < val_share}
    train = {name: e for name, e in entries.items() if name not in val}
    # Both are read to the end before anything is written, so a damaged file leaves no half set.
    truths = _ground_truth(train, read), _ground_truth(val, read)
    return (
        write_split(folder, "train", truths[0], _images(train, read)),
        write_split(folder, "val", truths[1], _images(val, read)),
    )


def _group(names: list[str], source: Path) -> dict[str, _Entry]:
    """Image id -> its files, sorted, so that the order of a zip or a disk does not matter."""
    entries: dict[str, _Entry] = {}
    for name in sorted(names):
        if match := _MEMBER.search(name):
            entry = entries.setdefault(match["id"], _Entry())
            if match["kind"] == "images":
                entry.image = name
            else:
                entry.masks.append(name)
    if not any(e.image for e in entries.values()):
        raise ValueError(
            f"{source} holds no ID/images/ID.png; is it stage1_train of BBBC038, not stage1_test "
            "or the zip of zips?"
        )
    for image_id, entry in entries.items():
        if not entry.image or not entry.masks:
            raise ValueError(
                f"{source}: {image_id} has no {'masks' if entry.image else 'image'}; only "
                "stage1_train comes with both"
            )
    return entries


def _fraction(name: str) -> float:
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32


def _pixels(read: Reader, name: str) -> NDArray[np.uint8]:
    try:
        return read_rgb(io.BytesIO(read(name)))
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"cannot read {name}: {error}; unpack or fetch it again") from error


def _images(entries: dict[str, _Entry], read: Reader) -> Iterator[NDArray[np.uint8]]:
    for entry in entries.values():
        yield _pixels(read, entry.image)


def _ground_truth(entries: dict[str, _Entry], read: Reader) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, entry) in enumerate(entries.items(), start=1):
        height, width = _pixels(read, entry.image).shape[:2]
        images.append({"id": number, "file_name": f"{name}.png", "width": width, "height": height})
        for mask_name in entry.masks:
            mask = _pixels(read, mask_name).max(axis=2) > 0  # [H, W]
            if mask.shape != (height, width):
                raise ValueError(
                    f"{mask_name} is {mask.shape[1]}×{mask.shape[0]}, its image {width}×{height}"
                )
            if not mask.any():
                raise ValueError(f"{mask_name} is all black: no nucleus; remove the file")
            rle = rle_ops.encode(np.asfortranarray(mask, dtype=np.uint8))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "iscrowd": 0,
                    "area": int(rle_ops.area(rle)),
                    "bbox": [float(v) for v in rle_ops.toBbox(rle)],
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
                }
            )
    return {
        "info": {"description": "2018 Data Science Bowl, stage 1 (BBBC038)"},
        "licenses": [{"id": 1, "name": "CC0 1.0"}],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "nucleus", "supercategory": "cell"}],
    }
