"""RoIWarp as MNC's formula has it: differentiable in the box's own coordinates.

The sample of a bin at the fraction r of a box's width lies at x = (1 − r) x₁ + r x₂. Its bilinear
value F changes with x, and x with the corners: ∂F/∂x₁ = (1 − r) ∂F/∂x and ∂F/∂x₂ = r ∂F/∂x. So a
loss on what was cropped can tell the box where to go, and two stages learn as one network.

Two RoIWarps are on record. The paper's (MNC §3.2) rounds nothing; it is built here. The released
layer rounds the box to whole map pixels, reads one sample at the top-left corner of each bin, and
takes the gradient as if it had not rounded. Chapter 18.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def sample_positions(low: Tensor, high: Tensor, scale: float, bins: int) -> Tensor:
    """The middles of `bins` equal parts of each side, in map pixels: [R, P].

    Args:
        low, high: the two ends [R], in image coordinates; gradients reach them.
        scale: 1 / stride.
        bins: P.
    """
    fraction = (torch.arange(bins, device=low.device, dtype=low.dtype) + 0.5) / bins  # [P]
    position = low[:, None] * (1 - fraction) + high[:, None] * fraction  # [R, P]
    return position * scale - 0.5  # the centre of pixel j lies at j + ½


def warp_rois(features: Tensor, rois: Sequence[Tensor], size: int, spatial_scale: float) -> Tensor:
    """One bilinear sample in the middle of each bin, with gradients to features *and* boxes.

    Equal to `mrcnn_edu.roi.roi_align(…, sampling_ratio=1, aligned=True)`, which gives boxes none.

    Args:
        features: one map [N, C, H, W].
        rois: for each image [R_i, 4], in pixels of the image.
        size: P.
        spatial_scale: 1 / stride.

    Returns:
        [R, C, P, P].
    """
    height, width = features.shape[2:]
    warped = []
    for of_image, boxes in zip(features, rois, strict=True):
        x1, y1, x2, y2 = boxes.to(features.dtype).unbind(1)
        x = sample_positions(x1, x2, spatial_scale, size)  # [R, P]
        y = sample_positions(y1, y2, spatial_scale, size)
        # A sample more than a pixel outside the map reads nothing, as in RoIAlign.
        read = _inside(y, height)[:, :, None] & _inside(x, width)[:, None, :]  # [R, P, P]
        # grid_sample counts from −1 at the map's left edge to 1 at its right.
        x, y = ((2 * v + 1) / n - 1 for v, n in ((x, width), (y, height)))
        grid = torch.stack(
            [x[:, None, :].expand(read.shape), y[:, :, None].expand(read.shape)], dim=3
        )  # [R, P, P, 2]
        values = F.grid_sample(
            of_image[None],
            grid.reshape(1, -1, size, 2),  # all RoIs below each other
            padding_mode="border",
            align_corners=False,
        )  # [1, C, R · P, P]
        values = values[0].unflatten(1, (-1, size)).movedim(1, 0)  # [R, C, P, P]
        warped.append(values * read[:, None])
    return torch.cat(warped)


def _inside(position: Tensor, length: int) -> Tensor:
    return (position >= -1) & (position <= length)
