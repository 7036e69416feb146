"""Residual backbones: an image goes in, feature maps at strides 4, 8, 16 and 32 come out.

One class, `ResNet`, with two kinds of block. `build_backbone` makes ResNet-50 and -101 (He et al.
2015), ResNeXt-101 (Xie et al. 2016), and small ones of the same plan with basic blocks, few
channels and GroupNorm, for training from scratch with small batches (Wu and He, 2018). Mask R-CNN
calls the four outputs C2 to C5 (§3, "Network Architecture"). Chapter 02.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.nn.layers import ConvNorm, Norm, conv_norm, norm_layer


@dataclass(frozen=True)
class Plan:
    """The numbers of a backbone, one a stage where there are four."""

    depths: tuple[int, int, int, int]  # blocks
    channels: tuple[int, int, int, int]  # of C2, C3, C4, C5
    widths: tuple[int, int, int, int] | None  # of a bottleneck's 3×3; None: basic blocks
    groups: int = 1  # of the 3×3
    stem_channels: int = 64
    stem_kernel: int = 7  # 7: stride 2 and a max pooling; 4: stride 4 at once


_WIDE = (256, 512, 1024, 2048)
_TINY = (32, 64, 96, 128)
PLANS = {
    "resnet50": Plan((3, 4, 6, 3), _WIDE, (64, 128, 256, 512)),
    "resnet101": Plan((3, 4, 23, 3), _WIDE, (64, 128, 256, 512)),
    "resnext101_32x8d": Plan((3, 4, 23, 3), _WIDE, (256, 512, 1024, 2048), groups=32),
    "resnext101_64x4d": Plan((3, 4, 23, 3), _WIDE, (256, 512, 1024, 2048), groups=64),
    "tiny": Plan((1, 1, 1, 1), _TINY, None, stem_channels=32, stem_kernel=4),
    "tiny_deep": Plan((2, 2, 2, 2), _TINY, None, stem_channels=32, stem_kernel=4),
    "tiny_grouped": Plan((2, 2, 2, 2), _TINY, (64, 128, 192, 256), 8, 32, 4),
}


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = norm(channels)
        self.downsample = _shortcut(in_channels, channels, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [N, C, H, W] to [N, channels, H / stride, W / stride]."""
        y = F.relu(conv_norm(x, self.conv1, self.bn1), inplace=True)
        y = conv_norm(y, self.conv2, self.bn2)
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(y.add_(shortcut), inplace=True)


class Bottleneck(nn.Module):
    """1×1 to fewer channels, 3×3, 1×1 to the output's channels, and a shortcut.

    The stride is in the 3×3 convolution, as in torchvision, or in the first 1×1, as in the original
    ResNet, where it drops three quarters of the input before any 3×3 has seen it. With groups it is
    ResNeXt's block: each group of the 3×3 sees its own channels only.

    Args:
        in_channels: C.
        width: channels of the 3×3 convolution.
        channels: of the output.
        stride: 1 or 2.
        norm: makes a norm.
        groups: of the 3×3 convolution.
        stride_in_1x1: the stride is in the first convolution.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        channels: int,
        stride: int,
        norm: Norm,
        groups: int = 1,
        stride_in_1x1: bool = False,
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, width, 1, first, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, second, padding=1, groups=groups, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.bn3 = norm(channels)
        self.downsample = _shortcut(in_channels, channels, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [N, C, H, W] to [N, channels, H / stride, W / stride]."""
        y = F.relu(conv_norm(x, self.conv1, self.bn1), inplace=True)
        y = F.relu(conv_norm(y, self.conv2, self.bn2), inplace=True)
        y = conv_norm(y, self.conv3, self.bn3)
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(y.add_(shortcut), inplace=True)


class ResNet(nn.Module):
    """A stem to stride 4, then stages of residual blocks at strides 4, 8, 16 and 32.

    Args:
        plan: depths and widths.
        norm: makes a norm.
        stride_in_1x1: of bottlenecks that halve the map.
        stages: 4, or 3 to end at C4.
    """

    def __init__(
        self, plan: Plan, norm: Norm, stride_in_1x1: bool = False, stages: int = 4
    ) -> None:
        super().__init__()
        stride = 2 if plan.stem_kernel == 7 else 4
        self.stem = ConvNorm(3, plan.stem_channels, plan.stem_kernel, norm, stride)
        self.pool_stem = stride == 2
        self.stages = nn.ModuleList(
            make_stage(plan, stage, norm, stride_in_1x1) for stage in range(stages)
        )
        self.channels = list(plan.channels[:stages])
        initialise(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return C2, C3, … of x [N, 3, H, W]: [N, C_l, H / s, W / s] for s = 4, 8, …"""
        x = F.relu(self.stem(x), inplace=True)  # [N, C, H/2, W/2], or at once [N, C, H/4, W/4]
        if self.pool_stem:
            x = F.max_pool2d(x, 3, stride=2, padding=1)  # [N, C, H/4, W/4]
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def freeze(self, stages: int) -> None:
        """Stop training the first parts: 1 freezes the stem, 2 also the first stage, and so on."""
        parts = [self.stem, *self.stages]
        for part in parts[:stages]:
            part.requires_grad_(False)


def make_stage(plan: Plan, stage: int, norm: Norm, stride_in_1x1: bool = False) -> nn.Sequential:
    """The blocks of a stage; the first halves the map, except in res2.

    Args:
        plan: depths and channels of the whole network.
        stage: 0 to 3, for res2 to res5.
        norm: the kind of norm.
        stride_in_1x1: whether a bottleneck halves the map in its first convolution (He et al. 2015)
            or in its 3×3 one.
    """
    in_channels = plan.channels[stage - 1] if stage > 0 else plan.stem_channels
    channels = plan.channels[stage]
    blocks: list[nn.Module] = []
    for i in range(plan.depths[stage]):
        stride = 2 if i == 0 and stage > 0 else 1
        if plan.widths is None:
            blocks.append(BasicBlock(in_channels, channels, stride, norm))
        else:
            width = plan.widths[stage]
            blocks.append(
                Bottleneck(in_channels, width, channels, stride, norm, plan.groups, stride_in_1x1)
            )
        in_channels = channels
    return nn.Sequential(*blocks)


def initialise(module: nn.Module) -> None:
    """Draw all convolution weights for a ReLU behind them (He et al. 2015)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")


def build_backbone(config: ModelConfig) -> tuple[ResNet, nn.Module, list[int]]:
    """The backbone of a configuration, and the stage that runs on each RoI.

    Returns:
        the backbone, its first stages frozen; res5 for a C4 model and an identity for others; and
        the channels of C2 to C5.
    """
    plan = PLANS[config.backbone]
    norm = norm_layer(config.backbone_norm, config.frozen_bn_eps)
    if norm is None:
        raise ValueError("A backbone needs a norm: its residual sums grow without one.")
    stride_in_1x1 = config.stride_in == "1x1"
    backbone = ResNet(plan, norm, stride_in_1x1, stages=3 if config.neck == "c4" else 4)
    backbone.freeze(config.frozen_stages)
    if config.neck != "c4":
        return backbone, nn.Identity(), list(plan.channels)
    res5 = make_stage(plan, 3, norm, stride_in_1x1)
    initialise(res5)
    return backbone, res5, list(plan.channels)


def _shortcut(in_channels: int, out_channels: int, stride: int, norm: Norm) -> ConvNorm | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return ConvNorm(in_channels, out_channels, 1, norm, stride)
