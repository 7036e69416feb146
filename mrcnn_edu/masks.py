"""Masks: COCO's run lengths and polygons, other sizes, cropping to a RoI, pasting into the image.

Bitmaps are [.., H, W] uint8 tensors of 0 and 1, row major; a run-length encoding (RLE) is COCO's
dict {"size": [H, W], "counts": bytes}, whose runs go down the columns. Boxes are (x1, y1, x2, y2)
in continuous pixel coordinates. Mask R-CNN, §3: "Mask Representation" and "Inference". Chapter 09
builds the parts, Chapter 12 reads COCO files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import torchvision
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from mrcnn_edu import run_lengths
from mrcnn_edu.kernels import masks as mask_kernels

Dialect = Literal["continuous", "torchvision"]
Window = tuple[int, int, int, int]  # top, left, height, width, in pixels
_FARTHEST = 1e9  # px, of a box's side: the kernels count pixels in integers


def encode(mask: Tensor) -> dict[str, Any]:
    """Bitmap [H, W] to COCO RLE with compressed counts, as pycocotools writes it.

    Every value other than 0 is the object. Raises ValueError for another number of axes.
    See Chapter 09.
    """
    if mask.ndim != 2:
        raise ValueError(f"RLE: expected one bitmap [H, W], got shape {list(mask.shape)}.")
    bitmap = np.asfortranarray((mask.detach().cpu().numpy() != 0).astype(np.uint8))
    encoded: dict[str, Any] = run_lengths.pycocotools().encode(bitmap)
    return encoded


def decode(rle: dict[str, Any]) -> Tensor:
    """COCO RLE to a bitmap [H, W] uint8. `counts` may be bytes, a string or a list of runs.

    Raises ValueError where size or counts are missing or do not fit each other.
    See Chapter 09.
    """
    if not isinstance(rle, dict) or not {"size", "counts"} <= rle.keys():
        raise ValueError(f"RLE: expected a dict with 'size' and 'counts', got {rle!r:.80}.")
    size = run_lengths.check_size(rle["size"])
    try:
        checked = run_lengths.from_runs(rle["counts"], size)
    except ValueError as error:
        raise ValueError(f"RLE: {error}.") from error
    return torch.from_numpy(run_lengths.decode([checked], size))[0]  # [H, W]


def to_runs(mask: Tensor) -> list[int]:
    """Bitmap [H, W] to COCO's uncompressed counts: run lengths down the columns.

    Background and object take turns, background first: an object in the first pixel makes the
    first run 0. `decode({"size": [H, W], "counts": runs})` is the way back. See Chapter 12.
    """
    if mask.ndim != 2:
        raise ValueError(f"RLE: expected one bitmap [H, W], got shape {list(mask.shape)}.")
    values = (mask.detach().cpu().numpy() != 0).T.ravel()  # [W·H], column after column
    ends = np.flatnonzero(np.diff(values)) + 1
    runs: list[int] = np.diff(ends, prepend=0, append=len(values)).tolist()
    return [0, *runs] if len(values) and values[0] else runs


def polygons_to_mask(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> Tensor:
    """The union of polygons as a bitmap [H, W] uint8, rasterised by COCO's own rule.

    A polygon is x, y, x, y, ... of at least three corners, in pixels; `size` is (H, W). No
    polygons give an empty bitmap. Raises ValueError for a polygon that is not one.
    See Chapter 12.
    """
    for i, polygon in enumerate(polygons):
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(
                f"Polygon {i}: expected x, y of at least three corners, got {len(polygon)} numbers."
            )
    if not len(polygons):
        return torch.zeros(size, dtype=torch.uint8)  # [H, W]
    rle = run_lengths.from_polygons(polygons, size)
    return torch.from_numpy(run_lengths.decode([rle], size))[0]  # [H, W]


def resize(masks: Tensor, size: Sequence[int], window: Window | None = None) -> Tensor:
    """Bitmaps at another size, or only the part in a window of that size.

    A pixel takes the value of the old pixel that its centre falls into: `torchvision`'s resize with
    NEAREST_EXACT, which is what other devices and types than uint8 and bool use. On the CPU the
    same pixels come from a kernel that passes over empty rows. The result may share memory with
    `masks` where the size stays. Chapters 01 and 12.

    Args:
        masks: [G, H, W].
        size: the new (H, W).
        window: (top, left, height, width) in pixels of the new size; None for all of it.
    """
    top, left, height, width = window or (0, 0, *size)
    if masks.shape[1:] == tuple(size) or not _is_bitmap(masks):
        whole = F.resize(masks, list(size), InterpolationMode.NEAREST_EXACT)  # [G, *size]
        return whole[:, top : top + height, left : left + width]  # [G, h, w]
    rows = _nearest(masks.shape[1], size[0])[top : top + height]  # [h]
    columns = _nearest(masks.shape[2], size[1])[left : left + width]  # [w]
    resized = np.zeros((len(masks), height, width), np.uint8)  # [G, h, w]
    mask_kernels.pick(_bytes(masks), rows, columns, resized)
    return torch.from_numpy(resized).view(masks.dtype)


def areas(masks: Tensor, size: Sequence[int] | None = None) -> Tensor:
    """How many pixels each mask [G, H, W] has, or would have at another `size`: [G] float32.

    On the CPU `resize(masks, size)` is not made for it: an old pixel counts as often as rows and
    columns of the new mask copy it. See Chapter 12.
    """
    size = masks.shape[1:] if size is None else size
    if not _is_bitmap(masks):
        # float32 counts pixels exactly up to 2²⁴ and sums five times as fast as int64.
        return resize(masks, size).flatten(1).float().sum(1)  # [G]
    weights = [
        np.bincount(_nearest(old, new), minlength=old).astype(np.int32)  # [H], [W]
        for old, new in zip(masks.shape[1:], size, strict=True)
    ]
    return torch.from_numpy(mask_kernels.areas(_bytes(masks), *weights)).float()  # [G]


def to_boxes(masks: Tensor) -> Tensor:
    """The tightest box around each mask: [G, 4] float32 from bitmaps [G, H, W].

    Continuous coordinates: a mask of the single pixel (row 2, column 5) has the box
    (5, 2, 6, 3). `torchvision.ops.masks_to_boxes` gives the last pixel instead of its end,
    so its x2 and y2 are 1 less. An empty mask has the box (0, 0, 0, 0). See Chapter 12.
    """
    if masks.ndim != 3:
        raise ValueError(f"Masks: expected shape [G, H, W], got {list(masks.shape)}.")
    if _is_bitmap(masks):
        return torch.from_numpy(mask_kernels.extents(_bytes(masks)))  # [G, 4]
    ends = []
    for has_object in ((masks != 0).any(dim=1), (masks != 0).any(dim=2)):  # [G, W], [G, H]
        size = has_object.shape[1]
        place = torch.arange(size, device=masks.device)  # [W] or [H]
        first = torch.where(has_object, place, size).amin(dim=1)  # [G]
        last = torch.where(has_object, place + 1, 0).amax(dim=1)  # [G]
        ends.append((torch.minimum(first, last), last))
    (x1, x2), (y1, y2) = ends
    return torch.stack((x1, y1, x2, y2), dim=1).float()  # [G, 4]


def crop_to_boxes(masks: Tensor, boxes: Tensor, index: Tensor, size: int, aligned: bool) -> Tensor:
    """Mask targets: each box's part of its object's mask, [R, M, M] float32 in 0..1.

    A value is the mean of bilinear samples, as many as the cell has pixels, which is RoIAlign with
    adaptive sampling (Mask R-CNN, §3). On the CPU no mask is copied; masks on another device go
    through torchvision's RoIAlign there. Chapters 05 and 09.

    Args:
        masks: [G, H, W] uint8 or bool.
        boxes: [R, 4] in pixels of the masks.
        index: [R], the mask of each box.
        size: M.
        aligned: True reads the mask where the box is; False is torchvision's
            `project_masks_on_boxes`, half a pixel off.

    Raises:
        ValueError: shapes do not fit, or an index has no mask.
    """
    if masks.ndim != 3 or boxes.ndim != 2 or boxes.shape[1] != 4 or index.shape != boxes.shape[:1]:
        raise ValueError(
            "Mask targets: expected masks [G, H, W], boxes [R, 4] and index [R], got "
            f"{list(masks.shape)}, {list(boxes.shape)} and {list(index.shape)}."
        )
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(masks):
        raise ValueError(
            f"Mask targets: index runs from {int(index.min())} to {int(index.max())}, but there "
            f"are {len(masks)} masks. Pass positive boxes only: their matches are ≥ 0."
        )
    if masks.device.type != "cpu":
        return _crop_blocks(masks, boxes, index, size, aligned)
    bitmaps = masks.detach().to(torch.uint8).contiguous().numpy()  # [G, H, W]
    corners = _finite(boxes)  # [R, 4]
    rows = index.to(torch.int64).contiguous().cpu().numpy()  # [R]
    targets = mask_kernels.crop(bitmaps, corners, rows, size, aligned)  # [R, M, M]
    return torch.from_numpy(targets).to(boxes.device)


def _crop_blocks(
    masks: Tensor, boxes: Tensor, index: Tensor, size: int, aligned: bool, pixels: int = 1 << 26
) -> Tensor:
    """`crop_to_boxes` by torchvision's RoIAlign, for any device: [R, M, M].

    It takes float masks, four times as large: at most `pixels` of them are made at a time (0.27 GB;
    the masks of 500 objects on 800 × 1333 would take 2.1 GB).
    """
    rows = max(1, pixels // max(1, masks.shape[1] * masks.shape[2]))
    if len(masks) <= rows:
        rois = torch.cat((index[:, None].to(boxes), boxes), dim=1).float()  # [R, 5]
        return torchvision.ops.roi_align(masks[:, None].float(), rois, size, aligned=aligned)[:, 0]
    crops = [masks.new_zeros((0, size, size), dtype=torch.float32)]
    for first in range(0, len(boxes), rows):
        part = boxes[first : first + rows]  # [≤ rows, 4]
        own = torch.arange(len(part), device=boxes.device)
        rois = torch.cat((own[:, None].to(boxes), part), dim=1).float()  # [≤ rows, 5]
        chosen = masks[index[first : first + rows], None].float()  # [≤ rows, 1, H, W]
        crops.append(torchvision.ops.roi_align(chosen, rois, size, aligned=aligned)[:, 0])
    return torch.cat(crops)


def paste(
    masks: Tensor, boxes: Tensor, size: tuple[int, int], dialect: Dialect = "continuous"
) -> Tensor:
    """Lay predicted masks over their boxes in an image: probabilities [D, H, W] float32.

    Everything outside is 0. Two dialects, up to half a pixel apart:

    - "continuous": the M × M cells divide the box evenly; a pixel gets the bilinear value of the
      mask at the pixel's centre, and the mask fades to 0 over the outer half cell. This is
      detectron2's `grid_sample` with zero padding.
    - "torchvision": `torchvision.models.detection.roi_heads.paste_masks_in_image`, which truncates
      the enlarged box to integers and adds 1 to its sides. Equal to the last bit where PyTorch has
      AVX2 or more and the resized mask's height + width exceed 128; otherwise PyTorch rounds in
      another order, and values differ by about 1e-7.

    D full images are large: 340 MB for 100 masks of 800 × 1066. For evaluation take `paste_to_rle`.
    Chapter 09.

    Args:
        masks: [D, M, M] probabilities.
        boxes: [D, 4] in pixels.
        size: (H, W) of the image.
        dialect: one of the two.

    Raises:
        ValueError: shapes do not fit, or the dialect is unknown.
    """
    height, width = size
    probabilities, corners = _paste_arguments(masks, boxes, dialect)
    images = mask_kernels.paste(probabilities, corners, height, width, dialect == "torchvision")
    return torch.from_numpy(images).to(masks.device)  # [D, H, W]


def paste_to_rle(
    masks: Tensor,
    boxes: Tensor,
    size: tuple[int, int],
    threshold: float = 0.5,
    dialect: Dialect = "continuous",
) -> list[dict[str, Any]]:
    """`encode(mask)` of each mask of `paste(...) > threshold`, without making an image.

    The strings are the same, byte for byte, and come far faster: only cells that the outline
    crosses are looked at pixel by pixel. Chapters 09 and 17.

    Args:
        masks, boxes, size, dialect: as in `paste`.
        threshold: a probability of exactly so much is background, as in torchvision's reference
            evaluation.

    Raises:
        ValueError: as `paste`, and for a threshold below 0.
    """
    if not threshold >= 0:
        raise ValueError(f"Paste: the threshold must be at least 0, got {threshold}.")
    height, width = size
    probabilities, corners = _paste_arguments(masks, boxes, dialect)
    chars, ends = mask_kernels.paste_runs(
        probabilities, corners, height, width, np.float32(threshold), dialect == "torchvision"
    )
    text, start, rles = chars.tobytes(), 0, []
    for end in ends.tolist():
        rles.append({"size": [height, width], "counts": text[start:end]})
        start = end
    return rles


def _is_bitmap(masks: Tensor) -> bool:
    """Whether the kernels can read these masks."""
    return masks.device.type == "cpu" and masks.dtype in (torch.uint8, torch.bool)


def _bytes(masks: Tensor) -> np.ndarray:
    """Bitmaps on the CPU as a contiguous uint8 array, without a copy where that is possible."""
    return masks.detach().contiguous().view(torch.uint8).numpy()  # [G, H, W]


def _nearest(old: int, new: int) -> np.ndarray:
    """Which of `old` pixels each of `new` pixels copies: [new] int64.

    In float32, as PyTorch does. For a few sizes that lands on the other side of a pixel's edge
    than exact arithmetic would, 632 to 1172 for example.
    """
    scale = np.float32(old) / np.float32(new)
    centres = np.arange(new, dtype=np.float32) + np.float32(0.5)  # [new]
    return np.minimum((scale * centres).astype(np.int64), old - 1)


def _paste_arguments(
    masks: Tensor, boxes: Tensor, dialect: Dialect
) -> tuple[np.ndarray, np.ndarray]:
    """Masks [D, M, M] and boxes [D, 4] as float32 arrays, after checking them."""
    if masks.ndim != 3 or masks.shape[1] != masks.shape[2] or boxes.shape != (len(masks), 4):
        raise ValueError(
            "Paste: expected masks [D, M, M] and boxes [D, 4], got "
            f"{list(masks.shape)} and {list(boxes.shape)}."
        )
    if dialect not in ("continuous", "torchvision"):
        raise ValueError(f"Paste: dialect is 'continuous' or 'torchvision', got {dialect!r}.")
    return masks.detach().float().contiguous().cpu().numpy(), _finite(boxes)


def _finite(boxes: Tensor) -> np.ndarray:
    """Boxes as a contiguous float32 array [R, 4]; raises ValueError for NaN, infinity, 1e9."""
    corners = boxes.detach().float().contiguous().cpu().numpy()  # [R, 4]
    if not np.isfinite(corners).all():
        row = int(np.flatnonzero(~np.isfinite(corners).all(axis=1))[0])
        raise ValueError(f"Masks: box {row} is not finite: {corners[row].tolist()}.")
    if corners.size and np.abs(corners).max() >= _FARTHEST:
        row = int(np.abs(corners).max(axis=1).argmax())
        raise ValueError(
            f"Masks: box {row} ends {_FARTHEST:.0e} pixels away or more: {corners[row].tolist()}."
        )
    return corners
