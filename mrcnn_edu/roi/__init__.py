"""RoIPool, RoIWarp, RoIAlign: a fixed-size piece of a feature map for every box, three ways each.

In: feature maps [N, C, H, W] and boxes in image coordinates. Out: [R, C, P, P]. Fast R-CNN §2.1
(RoIPool), MNC (RoIWarp), Mask R-CNN §3 (RoIAlign). Chapters 05 to 07.

Which coordinates are rounded:

| operator | box on the map | bins | reads | half pixel |
|---|---|---|---|---|
| `roi_pool` | rounded, end included (width + 1) | rounded outwards | every pixel, max | no |
| `roi_warp` | rounded | not rounded | S × S bilinear samples, mean or max | no |
| `roi_align(aligned=False)` | not rounded; at least 1 pixel | not rounded | same | no |
| `roi_align(aligned=True)` | not rounded | not rounded | same | subtracted |
| `crop_and_resize` (TensorFlow) | not rounded | none: P points, corner to corner | 1 sample | no |

Rounding is C's `round`: to nearest, halves away from zero, as in torchvision's `roi_pool`.
`crop_and_resize` is not RoIAlign: its boxes are relative to H − 1 and W − 1, its first and last
points lie on the box's corners, and it reads one point where RoIAlign averages a bin. It is
described here because it is often taken for RoIAlign; it is not in this package.

The same operators three ways, from slow and readable to fast:

- `reference`: NumPy loops, the definition;
- `cpu`: Numba on all cores; `cpu.mean` and `cpu.pool` are the kernels, `cpu.taps` what they share;
- `cuda`: Numba on a GPU, with `cuda.mean`, `cuda.pool` and `cuda.device` likewise;
- `geometry` is compiled for both, `torch_ops` registers the kernels with torch, `ops` is what to
  call.

A maximum of samples has no kernel: it is max-pooling of samples that are read one by one.
"""

from mrcnn_edu.roi.levels import assign_levels
from mrcnn_edu.roi.ops import (
    multiscale_roi_align,
    multiscale_roi_pool,
    multiscale_roi_warp,
    roi_align,
    roi_pool,
    roi_warp,
)

__all__ = [
    "assign_levels",
    "multiscale_roi_align",
    "multiscale_roi_pool",
    "multiscale_roi_warp",
    "roi_align",
    "roi_pool",
    "roi_warp",
]
