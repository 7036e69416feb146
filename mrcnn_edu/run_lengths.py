"""Outlines from a file, looked at before C code reads them: the one gate to pycocotools.

pycocotools trusts what it is given. A NaN or a corner at 1e9 ends the process or takes all memory,
and runs that do not fill the image leave freed memory in the mask. Here polygons and run lengths
are checked first; what passes gives pycocotools' own result, byte for byte. Whatever came from a
user goes through here. Chapters 09 and 12.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rle = dict[str, Any]  # {"size": [H, W], "counts": bytes or text}

MOST_PIXELS = 1 << 28  # of an image: 16,384 × 16,384; pycocotools takes memory for every pixel
FARTHEST = 1e6  # px, of a corner: pycocotools counts fifths of pixels in 32 bits
LONGEST = 4e6  # px, of an outline: pycocotools keeps five points for each pixel of it
_CHARACTERS = 6  # of one number; pycocotools shifts them into 32 bits


def check_size(size: Any) -> tuple[int, int]:
    """(H, W), once it is a size that a mask may have. Raises ValueError otherwise."""
    try:
        height, width = (operator.index(side) for side in size)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a size is two whole numbers, [height, width], not {size!r:.60}") from (
            error
        )
    if min(height, width) < 0 or height * width > MOST_PIXELS:
        raise ValueError(
            f"a mask of {height}×{width} pixels; at most {MOST_PIXELS:,} can be handled"
        )
    return height, width


def to_rle(segmentation: Any, height: int, width: int) -> Rle:
    """Any of COCO's three forms (polygons, uncompressed and compressed RLE) to compressed RLE.

    Args:
        segmentation: as an annotation or a result holds it.
        height, width: of the image, in pixels.

    Raises:
        ValueError: it is something else, damaged, or of another size.
    """
    if isinstance(segmentation, list) and segmentation:
        return from_polygons(segmentation, (height, width))
    if isinstance(segmentation, dict) and {"counts", "size"} <= segmentation.keys():
        size = segmentation["size"]
        if not isinstance(size, list | tuple) or list(size) != [height, width]:
            raise ValueError(f"RLE of size {size!r:.60}, image [{height}, {width}]")
        return from_runs(segmentation["counts"], (height, width))
    raise ValueError("segmentation is neither a list of polygons nor an RLE with size and counts")


def from_polygons(polygons: Sequence[Any], size: tuple[int, int]) -> Rle:
    """The union of polygons x, y, x, y, … in pixels of an image of `size` (H, W).

    Raises ValueError where one is none: the first is named.
    """
    height, width = check_size(size)
    if not any(isinstance(p, Sequence | np.ndarray) for p in polygons):
        raise ValueError(
            "segmentation is a flat list of numbers; COCO's polygons are a list of lists, "
            "[[x, y, x, y, …]], also where there is only one"
        )
    corners = [_corners(polygon, f"polygon {i}") for i, polygon in enumerate(polygons)]
    coco = pycocotools()
    merged: Rle = coco.merge(coco.frPyObjects(corners, height, width))
    return merged


def _corners(polygon: Any, which: str) -> NDArray[np.float64]:
    """The numbers of a polygon, once pycocotools can take them: [2 · corners]."""
    try:
        given = np.asarray(polygon)
    except ValueError:  # lists of several lengths
        given = np.empty((0, 0), object)
    if given.ndim > 1:
        raise ValueError(
            f"{which} is a list of points; write its numbers one after the other, [[x, y, x, y, …]]"
        )
    if given.ndim < 1 or (given.size and given.dtype.kind not in "iuf"):
        raise ValueError(f"{which} is not a list of numbers x, y, x, y, …: {polygon!r:.60}")
    if given.size < 6 or given.size % 2:
        raise ValueError(
            f"{which} has {given.size} numbers; a polygon needs an even number of coordinates, "
            "six or more"
        )
    numbers = given.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{which} has a corner that is not finite")
    farthest = numbers[np.abs(numbers).argmax()]
    if abs(farthest) > FARTHEST:
        raise ValueError(f"{which} has a corner at {farthest:g}; pixels end at {FARTHEST:g}")
    steps = np.abs(np.diff(numbers.reshape(-1, 2), axis=0, append=numbers[None, :2]))
    if (length := steps.max(axis=1).sum()) > LONGEST:
        raise ValueError(f"{which} is {length:,.0f} pixels long; {LONGEST:,.0f} are the most")
    return numbers


def from_runs(counts: Any, size: tuple[int, int]) -> Rle:
    """Run lengths, a list of them or COCO's characters, as a compressed RLE of `size` (H, W).

    Raises ValueError where they are damaged, or do not fill the size exactly.
    """
    height, width = check_size(size)
    if isinstance(counts, str):
        if not counts.isascii():
            raise ValueError("the RLE is damaged: its counts are not ASCII text")
        counts = counts.encode("ascii")
    packed = isinstance(counts, bytes)
    runs = _unpacked(counts) if packed else _whole_numbers(counts)
    # No run is longer than all of them together, so that their sum in 64 bits is exact.
    total = int(runs.sum()) if not runs.size or runs.max() <= height * width else int(runs.max())
    if (runs.size and runs.min() < 0) or total != height * width:
        raise ValueError(
            f"the runs add up to {total}, but the size {height}×{width} has {height * width} pixels"
            + (f"; one is {runs.min()}" if runs.size and runs.min() < 0 else "")
        )
    if packed:
        return {"size": [height, width], "counts": counts}
    described = {"size": [height, width], "counts": runs.tolist()}
    made: Rle = pycocotools().frPyObjects(described, height, width)
    return made


def _whole_numbers(counts: Any) -> NDArray[np.int64]:
    given = np.asarray(counts) if isinstance(counts, list | tuple | np.ndarray) else np.zeros(())
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise ValueError(
            f"counts of an RLE are a list of whole numbers or COCO's text, not {counts!r:.60}"
        )
    if given.dtype == np.uint64:  # beyond 2⁶³; no image has as many pixels
        raise ValueError(f"a run of {given.max()} pixels")
    return given.astype(np.int64)


def _unpacked(chars: bytes) -> NDArray[np.int64]:
    """The run lengths in COCO's characters: five bits each, lowest first, a sixth for more.

    The last bit of a number is its sign. From the fourth run on, a number is the difference from
    the run before the last.
    """
    codes = np.frombuffer(chars, np.uint8).astype(np.int64) - 48
    if not codes.size:
        return codes
    last = (codes & 32) == 0  # of its number
    starts = np.flatnonzero(np.concatenate(([True], last[:-1])))
    lengths = np.diff(starts, append=len(codes))
    if codes.min() < 0 or codes.max() > 63 or not last[-1] or lengths.max() > _CHARACTERS:
        raise ValueError("the RLE is damaged: its characters are not run lengths")
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << (5 * place), starts)
    runs -= ((codes[last] & 16) > 0) * (np.int64(1) << (5 * lengths))
    runs[1::2], runs[2::2] = np.cumsum(runs[1::2]), np.cumsum(runs[2::2])
    return runs


def decode(rles: Sequence[Rle], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bitmaps [G, H, W] of 0 and 1 of what `to_rle` gave, all of one size (H, W)."""
    if not rles:
        return np.zeros((0, *size), np.uint8)
    columns = pycocotools().decode(list(rles))  # [H, W, G], columns first
    return np.ascontiguousarray(columns.transpose(2, 0, 1))


def area(rle: Rle) -> int:
    """How many pixels of the object there are in what `to_rle` gave; no image is made."""
    return int(pycocotools().area(rle))


def pycocotools() -> Any:
    """pycocotools.mask, imported on first use: a bare GPU image may come without it."""
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ImportError("COCO masks need pycocotools: pip install pycocotools") from error
    return mask
