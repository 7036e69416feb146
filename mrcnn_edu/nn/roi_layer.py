"""The RoI layer of a model: one of the three operators, on the map or the level that fits.

The paper's table 2c compares RoIPool, RoIWarp and RoIAlign in the same network; here that is one
field of the configuration. Boxes stay as they are: a quantising operator rounds inside, and mask
targets and pasting use the box that was not rounded. Chapters 05 and 15.
"""

from collections.abc import Sequence

from torch import Tensor

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.roi import multiscale_roi_align, multiscale_roi_pool, multiscale_roi_warp


def pool_rois(
    maps: Sequence[Tensor],
    rois: Sequence[Tensor],
    size: int,
    scales: Sequence[float],
    config: ModelConfig,
) -> Tensor:
    """Pool every RoI of every image: [R, C, size, size].

    Args:
        maps: P2, P3, … or one map, each [N, C, H_l, W_l].
        rois: for each image [R_i, 4], in pixels of the image.
        size: P.
        scales: 1 / stride of each map.
        config: operator, reduction, samples, alignment and level rule.
    """
    c = config
    boxes = list(rois)
    canonical, rule = c.roi_canonical_size, c.roi_level_rule
    if c.roi_op == "pool":
        return multiscale_roi_pool(
            maps, boxes, size, scales, canonical_size=canonical, level_rule=rule
        )
    samples = c.roi_sampling_ratio
    if c.roi_op == "warp":
        return multiscale_roi_warp(
            maps,
            boxes,
            size,
            scales,
            samples,
            reduce=c.roi_reduce,
            canonical_size=canonical,
            level_rule=rule,
        )
    return multiscale_roi_align(
        maps,
        boxes,
        size,
        scales,
        samples,
        c.roi_aligned,
        reduce=c.roi_reduce,
        canonical_size=canonical,
        level_rule=rule,
    )
