"""Feature pyramid network: C2 to C5 go in, P2 to P6 come out, all with the same channels.

Lin et al. (2017), §3: each map of the backbone passes a 1×1 convolution, is added to the coarser
level above it enlarged twofold, and passes a 3×3 convolution. P6, for the largest anchors, is P5
subsampled (their footnote 1). Chapter 02.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from mrcnn_edu.nn.layers import ConvNorm, Norm, conv3x3


class FPN(nn.Module):
    """The pyramid over four backbone maps.

    Args:
        in_channels: channels of C2, C3, C4 and C5.
        channels: channels of every level of the pyramid.
        norm: makes a normalisation layer behind each 3×3 convolution; none by default.
        lateral_norm: the same for the 1×1 convolutions.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        norm: Norm | None = None,
        lateral_norm: Norm | None = None,
    ) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(ConvNorm(c, channels, 1, lateral_norm) for c in in_channels)
        self.output = nn.ModuleList(conv3x3(channels, channels, norm) for _ in in_channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return P2, …, P6 of C2, …, C5: each [N, C, H / s, W / s] for s = 4, 8, 16, 32, 64."""
        inner = [conv(x) for conv, x in zip(self.lateral, maps, strict=True)]  # [N, C, H_l, W_l]
        for level in reversed(range(len(inner) - 1)):
            size = inner[level].shape[-2:]  # H and W of the finer map may be odd
            inner[level].add_(F.interpolate(inner[level + 1], size=size, mode="nearest"))
        pyramid = [conv(x) for conv, x in zip(self.output, inner, strict=True)]
        pyramid.append(F.max_pool2d(pyramid[-1], kernel_size=1, stride=2))  # P6
        return pyramid
