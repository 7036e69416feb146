"""Writes a data set to disk in COCO format, whole or not at all.

In: a COCO ground truth and its images, RGB uint8 [H, W, 3], one after the other. Out: a folder
`split`/ of PNG or JPEG files, as their names end, and annotations/instances_`split`.json, which
pycocotools and CocoDataset read. Chapter 12.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mrcnn_edu.files import write_atomically


def write_split(
    folder: str | os.PathLike[str],
    split: str,
    ground_truth: dict[str, Any],
    images: Iterable[NDArray[np.uint8]],
    quality: int = 90,
) -> Path:
    """Write a split: `folder`/`split`/FILE_NAME for each image, and the JSON.

    The images are written to a hidden folder that then takes its name; the JSON comes last. So
    where the JSON is, the split is complete.

    Args:
        folder: of the data set, made if it is not there.
        split: the name of the split.
        ground_truth: the content of the JSON.
        images: [H, W, 3], in the order of the ground truth's.
        quality: of JPEG files, 1..95.

    Returns:
        the JSON's path.

    Raises:
        FileExistsError: the split is there already.
        ValueError: the number of images is not that of the ground truth.
    """
    root = Path(folder)
    final, annotation_file = root / split, root / "annotations" / f"instances_{split}.json"
    for path in (final, annotation_file):
        if path.exists():
            raise FileExistsError(f"{path} exists; delete it or choose another folder")
    root.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{split}.", dir=root))
    try:
        for record, pixels in zip(ground_truth["images"], images, strict=True):
            # Each of the two formats takes its own option and passes over the other's.
            path = scratch / record["file_name"]
            Image.fromarray(pixels).save(path, compress_level=3, quality=quality)
        scratch.chmod(0o755)  # mkdtemp makes folders that only their owner can read
        scratch.rename(final)
        write_atomically(annotation_file, json.dumps(ground_truth).encode())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return annotation_file
