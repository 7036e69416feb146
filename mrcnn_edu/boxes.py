"""Box arithmetic: area, IoU, the regression code, clipping and non-maximum suppression.

Boxes come in and go out as [.., 4] tensors of (x1, y1, x2, y2) in continuous image coordinates, in
pixels: pixel j covers [j, j + 1), and a box's width is x2 − x1, never + 1. Every function works on
any device and returns new tensors. Half precision is widened to float32 before any arithmetic,
because 16 bits cannot tell neighbouring pixels of a large image apart. The regression code is the
one of R-CNN, kept by Faster R-CNN (§3.1.2) and Mask R-CNN (§3). Chapter 01 builds all of it by
hand.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torchvision
from torch import Tensor

from mrcnn_edu.kernels.nms import greedy_nms

# A predicted box may be at most 1000 / 16 = 62.5 times its anchor. Without the clamp, exp()
# of an early, untrained delta overflows, and ∞ − ∞ or ∞ / ∞ further on is NaN.
MAX_LOG_SCALE = math.log(1000.0 / 16)


def area(boxes: Tensor) -> Tensor:
    """Area in square pixels, [..] from boxes [.., 4]. Reversed boxes are not repaired.

    See Chapter 01.
    """
    boxes = _widen(boxes)
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])  # [..]


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every pair: [A, B] from boxes `a` [A, 4] and `b` [B, 4].

    Equal to `torchvision.ops.box_iou`, with one difference: where the union is empty (two
    boxes of no area) the result is 0 and not NaN, so that a degenerate box matches nothing.
    Memory is about 7·A·B floats while it runs; `matching.match` needs far less.
    See Chapter 01.
    """
    a, b = _widen(a), _widen(b)
    top_left = torch.maximum(a[:, None, :2], b[None, :, :2])  # [A, B, 2]
    bottom_right = torch.minimum(a[:, None, 2:], b[None, :, 2:])  # [A, B, 2]
    sides = (bottom_right - top_left).clamp(min=0)  # [A, B, 2]
    intersection = sides[..., 0] * sides[..., 1]  # [A, B]
    union = area(a)[:, None] + area(b)[None, :] - intersection  # [A, B]
    return torch.where(union > 0, intersection / union, 0.0)  # [A, B]


def encode(
    boxes: Tensor,
    anchors: Tensor,
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
) -> Tensor:
    """Regression targets that turn `anchors` into `boxes`: deltas (dx, dy, dw, dh).

    With centres (x, y) and sizes (w, h), the anchor's marked a: dx = (x − xₐ) / wₐ, dy = (y − yₐ) /
    hₐ, dw = log(w / wₐ), dh = log(h / hₐ), each times its weight (R-CNN, appendix C; Faster R-CNN,
    equation 2). Numerically equal to torchvision's BoxCoder. Chapter 01.

    Args:
        boxes: [.., 4], of positive width and height: `check_boxes` says so before training.
        anchors: [.., 4], likewise; the two broadcast.
        weights: factors of dx, dy, dw and dh.

    Returns:
        [.., 4].
    """
    boxes, anchors = _widen(boxes), _widen(anchors)
    wx, wy, ww, wh = weights
    x, y, w, h = _centre_size(boxes)
    xa, ya, wa, ha = _centre_size(anchors)
    dx = wx * (x - xa) / wa
    dy = wy * (y - ya) / ha
    dw = ww * torch.log(w / wa)
    dh = wh * torch.log(h / ha)
    return torch.stack((dx, dy, dw, dh), dim=-1)  # [.., 4]


def decode(
    deltas: Tensor,
    anchors: Tensor,
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
) -> Tensor:
    """Boxes from deltas relative to anchors: the inverse of `encode`.

    dw and dh are clamped at log(1000 / 16) after the weights are divided out, so one bad prediction
    cannot overflow. The result may leave the image; see `clip`. Numerically equal to torchvision's
    BoxCoder. Chapter 01.

    Args:
        deltas: [.., 4].
        anchors: [.., 4]; the two broadcast: deltas [R, K, 4] of K classes go with anchors [R, 1,
            4].
        weights: those that `encode` multiplied by.

    Returns:
        [.., 4], xyxy.
    """
    deltas = _widen(deltas)
    wx, wy, ww, wh = weights
    xa, ya, wa, ha = _centre_size(anchors.to(deltas.dtype))
    dx, dy, dw, dh = deltas.unbind(-1)
    x = dx / wx * wa + xa
    y = dy / wy * ha + ya
    half_w = 0.5 * (torch.exp((dw / ww).clamp(max=MAX_LOG_SCALE)) * wa)
    half_h = 0.5 * (torch.exp((dh / wh).clamp(max=MAX_LOG_SCALE)) * ha)
    return torch.stack((x - half_w, y - half_h, x + half_w, y + half_h), dim=-1)  # [.., 4]


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes [.., 4] cut to an image of `size` (H, W): x into [0, W], y into [0, H].

    A box wholly outside becomes one of no area, which `keep_large` drops. See Chapter 01.
    """
    height, width = size
    x = boxes[..., 0::2].clamp(0, width)  # [.., 2]
    y = boxes[..., 1::2].clamp(0, height)  # [.., 2]
    return torch.stack((x, y), dim=-1).flatten(-2)  # [.., 4]


def keep_large(boxes: Tensor, min_size: float) -> Tensor:
    """Boolean mask [..]: true where width and height are both at least `min_size` pixels.

    With `min_size` 0 it still drops reversed boxes and boxes with NaN.
    """
    w = boxes[..., 2] - boxes[..., 0]
    h = boxes[..., 3] - boxes[..., 1]
    return (w >= min_size) & (h >= min_size)  # [..]


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, max_keep: int | None = None) -> Tensor:
    """Greedy non-maximum suppression: the indices of the kept boxes, best score first.

    The kept indices are exactly those of `torchvision.ops.nms`, which runs in place of the Numba
    kernel for tensors that are not on the CPU. Its definition is `nms_reference`. Chapter 01.

    Args:
        boxes: [A, 4].
        scores: [A]; equal ones keep their input order.
        iou_threshold: a box goes when its IoU with a better, kept box is greater.
        max_keep: stop after that many; None keeps all.

    Returns:
        int64 [kept].

    Raises:
        ValueError: shapes do not fit, or the threshold is outside [0, 1].
    """
    return batched_nms(boxes, scores, None, iou_threshold, max_keep)


def batched_nms(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor | None,
    iou_threshold: float,
    max_keep: int | None = None,
) -> Tensor:
    """`nms` within each group (a class, a pyramid level); survivors of all, best score first.

    The result is that of `torchvision.ops.nms` run once per group, ties included. It does not
    imitate torchvision's own `batched_nms`, which for few boxes moves each group to its own corner
    of the plane: the larger coordinates lose bits, and a pair within rounding of the threshold can
    flip. Chapters 01, 04 and 08.

    Args:
        boxes, scores, iou_threshold, max_keep: as in `nms`.
        groups: [A], any integers; None means one group.

    Returns:
        int64 [kept].

    Raises:
        ValueError: as `nms`.
    """
    _check_nms(boxes, scores, groups, iou_threshold, max_keep)
    limit = len(boxes) if max_keep is None else min(max_keep, len(boxes))
    boxes, scores = _widen(boxes.detach()), _widen(scores.detach())
    if boxes.device.type != "cpu":
        return _nms_per_group(boxes, scores, groups, iou_threshold)[:limit]
    order = torch.argsort(scores, descending=True, stable=True)  # [A]
    if groups is None:
        members, n_groups = np.zeros(len(boxes), np.int64), 1
    else:
        values, inverse = np.unique(groups.numpy(), return_inverse=True)
        members, n_groups = inverse.astype(np.int64), len(values)
    corners = boxes.contiguous().numpy()  # [A, 4]
    threshold = _round_down(iou_threshold, corners.dtype)
    kept = greedy_nms(corners, order.numpy(), members, n_groups, threshold, limit)
    return torch.from_numpy(kept)


def nms_reference(boxes: Tensor, scores: Tensor, iou_threshold: float) -> list[int]:
    """The definition of `nms` in plain Python: slow, and short enough to check by eye.

    Take boxes from the best score down; keep a box unless it overlaps a kept one by more than the
    threshold. Chapter 01.

    Args:
        boxes, scores, iou_threshold: as in `nms`.

    Returns:
        the indices of the kept boxes.
    """
    overlap = iou(boxes, boxes).tolist()  # [A, A]
    kept: list[int] = []
    for i in torch.argsort(scores, descending=True, stable=True).tolist():
        if all(overlap[i][k] <= iou_threshold for k in kept):
            kept.append(i)
    return kept


def from_xywh(boxes: Tensor) -> Tensor:
    """(x1, y1, width, height), as in COCO files, to (x1, y1, x2, y2): [.., 4] to [.., 4]."""
    x, y, w, h = boxes.unbind(-1)
    return torch.stack((x, y, x + w, y + h), dim=-1)  # [.., 4]


def to_xywh(boxes: Tensor) -> Tensor:
    """(x1, y1, x2, y2) to (x1, y1, width, height), as in COCO files: [.., 4] to [.., 4]."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((x1, y1, x2 - x1, y2 - y1), dim=-1)  # [.., 4]


def hflip(boxes: Tensor, width: float) -> Tensor:
    """Boxes [.., 4] of an image of `width` pixels after it is mirrored left to right.

    In continuous coordinates x goes to width − x: no pixel is lost or gained, and flipping
    twice gives the box back. See Chapter 01.
    """
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((width - x2, y1, width - x1, y2), dim=-1)  # [.., 4]


def check_boxes(boxes: Tensor, name: str, image_size: tuple[int, int] | None = None) -> None:
    """Raise unless `boxes` are [G, 4] finite floats with x1 < x2, y1 < y2, inside the image.

    [0, 4] is legal. The message gives the first bad row and what to do. Chapter 12.

    Args:
        boxes: what should be boxes.
        name: where they came from, for the message.
        image_size: (H, W); None does not check the image.

    Raises:
        TypeError: it is not a floating point tensor.
        ValueError: everything else.
    """
    if not isinstance(boxes, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(boxes).__name__}.")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        hint = " An image without objects has boxes of shape [0, 4]." if boxes.numel() == 0 else ""
        raise ValueError(f"{name}: expected shape [G, 4], got {list(boxes.shape)}.{hint}")
    if not boxes.is_floating_point():
        raise TypeError(f"{name}: expected float32, got {boxes.dtype}; convert with .float().")
    finite = torch.isfinite(boxes).all(dim=1)  # [G]
    _complain(~finite, boxes, name, "is not finite. Remove the box or mend its source.")
    x1, y1, x2, y2 = boxes.unbind(1)
    _complain(
        (x2 <= x1) | (y2 <= y1),
        boxes,
        name,
        "has no area: a box is (x1, y1, x2, y2) with x1 < x2 and y1 < y2. If it is "
        "(x, y, width, height), as in COCO files, convert it with boxes.from_xywh; "
        "if the object is empty, leave it out.",
    )
    if image_size is not None:
        height, width = image_size
        _complain(
            (x1 < 0) | (y1 < 0) | (x2 > width) | (y2 > height),
            boxes,
            name,
            f"leaves the image of height {height} and width {width}. Cut it with boxes.clip, or "
            "check that boxes and image were resized together and that the box is not "
            "(x, y, width, height) already converted once.",
        )


def _complain(bad: Tensor, boxes: Tensor, name: str, problem: str) -> None:
    """Raise ValueError about the first row where `bad` [G] is true, if there is one."""
    rows = bad.nonzero()
    if len(rows):
        row = int(rows[0])
        values = ", ".join(f"{v:g}" for v in boxes[row].tolist())
        raise ValueError(f"{name}: box {row} of {len(boxes)}, ({values}), {problem}")


def _check_nms(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor | None,
    iou_threshold: float,
    max_keep: int | None,
) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"NMS: expected boxes of shape [A, 4], got {list(boxes.shape)}.")
    for name, values in (("scores", scores), ("groups", groups)):
        if values is not None and values.shape != boxes.shape[:1]:
            raise ValueError(
                f"NMS: {len(boxes)} boxes need {name} of shape [{len(boxes)}], "
                f"got {list(values.shape)}."
            )
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"NMS: an IoU threshold lies in [0, 1], got {iou_threshold}.")
    if max_keep is not None and max_keep < 0:
        raise ValueError(f"NMS: max_keep must not be negative, got {max_keep}.")


def _nms_per_group(
    boxes: Tensor, scores: Tensor, groups: Tensor | None, iou_threshold: float
) -> Tensor:
    if groups is None:
        return torchvision.ops.nms(boxes, scores, iou_threshold)
    kept = torch.zeros_like(scores, dtype=torch.bool)  # [A]
    for group in groups.unique().tolist():
        members = (groups == group).nonzero()[:, 0]
        kept[members[torchvision.ops.nms(boxes[members], scores[members], iou_threshold)]] = True
    order = torch.argsort(scores, descending=True, stable=True)  # [A]
    return order[kept[order]]


def _round_down(threshold: float, dtype: np.dtype) -> np.floating:
    """Largest number of `dtype` that is ≤ `threshold`.

    torchvision compares a float32 IoU with a float64 threshold. For a float32 number, being
    greater than the threshold and being greater than this are the same.
    """
    rounded = dtype.type(threshold)
    if float(rounded) > threshold:  # NumPy itself would round the threshold to compare
        rounded = np.nextafter(rounded, dtype.type(-1))
    return rounded


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centre x, centre y, width, height, each [..], of boxes [.., 4]."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    w, h = x2 - x1, y2 - y1
    return x1 + 0.5 * w, y1 + 0.5 * h, w, h


def _widen(t: Tensor) -> Tensor:
    """At least float32: half precision and integers are widened, float64 stays."""
    return t.to(torch.promote_types(t.dtype, torch.float32))
