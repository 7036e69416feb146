"""Residual trunks: an image goes in, feature maps at strides 4, 8, 16 and 32 come out.

One class, :class:`ResNet`, in two sizes. :func:`resnet50` is the network of He et al. (2015) with
torchvision's stride in the 3×3 convolution. :func:`tiny_resnet` has the same plan with basic
blocks, few channels and GroupNorm, for training from scratch with small batches (Wu and He, 2018).
Mask R-CNN calls the four outputs C2 to C5 (§3, "Network Architecture").
Chapter 02.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Callable[[int], nn.Module]  # channels -> a normalisation layer


class FrozenBatchNorm(nn.Module):
    """Batch normalisation with fixed statistics and a fixed affine map: y = x · scale + shift.

    Detectors fine-tune with one or two images a GPU, too few for batch statistics, so the
    pretrained ones are kept. Freezing *random* statistics is a bug: train from scratch with
    GroupNorm instead. The four tensors are buffers; no optimiser sees them. Chapter 02.

    Args:
        channels: C of the input [N, C, H, W].
        eps: added to the variance. torchvision's COCO_V1 weights were trained with 0.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [N, C, H, W]."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()  # [C]
        shift = self.bias - self.running_mean * scale  # [C]
        return x * scale[:, None, None] + shift[:, None, None]


def group_norm(channels: int) -> nn.Module:
    """GroupNorm with groups of eight channels: it does not depend on the batch size."""
    return nn.GroupNorm(max(1, channels // 8), channels)


def conv3x3(in_channels: int, out_channels: int, norm: Norm | None) -> nn.Sequential:
    """A 3×3 convolution; its bias is the norm's business where there is one."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=norm is None)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if norm is not None:
        return nn.Sequential(conv, norm(out_channels))
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return nn.Sequential(conv)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = norm(width)
        self.downsample = _shortcut(in_channels, width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [N, C, H, W] to [N, width, H / stride, W / stride]."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(y + shortcut, inplace=True)


class Bottleneck(nn.Module):
    """1×1 to fewer channels, 3×3, 1×1 to four times as many, and a shortcut.

    The stride is in the 3×3 convolution, as in torchvision. The original ResNet has it in the
    first 1×1, which drops three quarters of the input before any 3×3 has seen it.
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = norm(width * self.expansion)
        self.downsample = _shortcut(in_channels, width * self.expansion, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [N, C, H, W] to [N, 4 · width, H / stride, W / stride]."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(y + shortcut, inplace=True)


class ResNet(nn.Module):
    """A stem to stride 4, then four stages of residual blocks at strides 4, 8, 16 and 32.

    Args:
        block: BasicBlock or Bottleneck.
        depths: blocks in each of the four stages.
        widths: the inner width of each stage.
        stem: a module that takes the image [N, 3, H, W] to [N, stem_channels, H/4, W/4].
        stem_channels: its channels.
        norm: makes a normalisation layer for a number of channels.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        widths: Sequence[int],
        stem: nn.Sequential,
        stem_channels: int,
        norm: Norm,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList()
        self.channels: list[int] = []
        channels = stem_channels
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            blocks = []
            for i in range(depth):
                stride = 2 if i == 0 and stage > 0 else 1
                blocks.append(block(channels, width, stride, norm))
                channels = width * block.expansion
            self.stages.append(nn.Sequential(*blocks))
            self.channels.append(channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return C2, C3, C4, C5 of x [N, 3, H, W]: [N, C_l, H / s, W / s] for s = 4, 8, 16, 32."""
        x = self.stem(x)  # [N, C, H/4, W/4]
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


def resnet50(norm: Norm) -> ResNet:
    """ResNet-50: 23.5 million parameters, C2 to C5 with 256, 512, 1024 and 2048 channels."""
    stem = nn.Sequential(
        nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
        norm(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    )
    return ResNet(Bottleneck, (3, 4, 6, 3), (64, 128, 256, 512), stem, 64, norm)


def tiny_resnet(norm: Norm) -> ResNet:
    """A trunk of 0.6 million parameters, C2 to C5 with 32, 64, 96 and 128 channels."""
    stem = nn.Sequential(
        nn.Conv2d(3, 32, 4, stride=4, bias=False),
        norm(32),
        nn.ReLU(inplace=True),
    )
    return ResNet(BasicBlock, (1, 1, 1, 1), (32, 64, 96, 128), stem, 32, norm)


def _shortcut(in_channels: int, out_channels: int, stride: int, norm: Norm) -> nn.Module | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), norm(out_channels)
    )
