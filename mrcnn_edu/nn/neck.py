"""The neck: from the backbone's maps to those that the RPN and the heads read.

With `fpn` a pyramid P2 to P6; with `c4` or `c5` that one map. What follows from the choice
(strides, which maps a RoI may come from, where anchors stand) is here too, so that the model need
not ask. Lin et al. (2017), §4; He et al. (2017), §3, "Network architecture". Chapter 02.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from mrcnn_edu.anchors import pyramid_anchors
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.nn.fpn import FPN
from mrcnn_edu.nn.layers import norm_layer


class Neck(nn.Module):
    """What stands between backbone and heads.

    Attributes:
        fpn: the pyramid, or None where one map of the backbone is read as it is.
        channels: of each map that comes out.
        strides: of each map.
        roi_levels: how many of the maps a RoI may come from; P6 serves the largest anchors only.
        anchors_per_cell: of each map.
    """

    def __init__(self, config: ModelConfig, backbone_channels: Sequence[int]) -> None:
        super().__init__()
        c = config
        self.sizes: list[tuple[float, ...]]  # of the anchors of each map
        if c.neck == "fpn":
            norm = norm_layer(c.head_norm, c.frozen_bn_eps)
            lateral_norm = norm if c.lateral_norm else None
            self.fpn: FPN | None = FPN(backbone_channels, c.fpn_channels, norm, lateral_norm)
            self.channels = c.fpn_channels
            self.strides = [4, 8, 16, 32, 64]
            self.roi_levels = 4
            self.sizes = [(size,) for size in c.anchor_sizes]
        else:
            self.fpn = None
            self.channels = backbone_channels[2 if c.neck == "c4" else 3]
            self.strides = [16 if c.neck == "c4" else 32]
            self.roi_levels = 1
            self.sizes = [tuple(c.anchor_sizes)]
        self.ratios, self.rounding = c.anchor_ratios, c.anchor_rounding
        self.anchor_strides = self.strides if c.anchor_stride == "level" else None
        self.anchors_per_cell = len(self.sizes[0]) * len(self.ratios)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return what the RPN reads of the backbone's maps: each [N, C, H_l, W_l]."""
        return list(maps[-1:]) if self.fpn is None else self.fpn(maps)

    def anchors(self, pyramid: Sequence[Tensor], image_size: tuple[int, int]) -> list[Tensor]:
        """The anchors of every map: one [A_l, 4] each, in pixels of an image (height, width)."""
        return pyramid_anchors(
            self.sizes,
            self.ratios,
            [(p.shape[2], p.shape[3]) for p in pyramid],
            image_size,
            self.rounding,
            pyramid[0].device,
            self.anchor_strides,
        )


def build_neck(config: ModelConfig, backbone_channels: Sequence[int]) -> Neck:
    """The neck of a configuration.

    Args:
        config: `neck`, channels, norms and anchors of it.
        backbone_channels: of C2 to C5.
    """
    return Neck(config, backbone_channels)
