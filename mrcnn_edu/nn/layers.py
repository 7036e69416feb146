"""Convolutions with their normalisation: the bricks of backbone, pyramid and heads.

Four norms, chosen by name in the configuration, and `ConvNorm`, a convolution with a norm behind
it. A frozen batch norm is an affine map, so it is folded into its convolution's weight and bias on
the way: the same function and the same gradients, without two passes over the largest tensors of
the network. Chapter 02.
"""

from collections.abc import Callable

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

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """The affine map that this layer is: scale [C] and shift [C]."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()  # [C]
        return scale, self.bias - self.running_mean * scale  # [C], [C]

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [N, C, H, W]."""
        scale, shift = self.scale_and_shift()
        return x * scale[:, None, None] + shift[:, None, None]


def group_norm(channels: int) -> nn.Module:
    """GroupNorm with groups of eight channels: it does not depend on the batch size."""
    return nn.GroupNorm(max(1, channels // 8), channels)


def norm_layer(name: str, frozen_bn_eps: float = 1e-5) -> Norm | None:
    """The maker of a norm, by its name in the configuration; None for `"none"`.

    Args:
        name: `frozen_bn`, `batch_norm`, `sync_bn` (statistics over all processes),
            `group_norm` or `none`.
        frozen_bn_eps: ε of the frozen one.

    Raises:
        ValueError: the name is unknown.
    """
    makers: dict[str, Norm | None] = {
        "frozen_bn": lambda channels: FrozenBatchNorm(channels, frozen_bn_eps),
        "batch_norm": nn.BatchNorm2d,
        "sync_bn": nn.SyncBatchNorm,
        "group_norm": group_norm,
        "none": None,
    }
    if name not in makers:
        raise ValueError(f"There is no norm {name!r}; there are {', '.join(makers)}.")
    return makers[name]


def conv_norm(x: Tensor, conv: nn.Conv2d, norm: nn.Module) -> Tensor:
    """`norm(conv(x))`, a frozen batch norm folded into the convolution.

    scale · (W ∗ x) + shift = (scale · W) ∗ x + shift, and W's gradient is found through the
    product. The result is a new tensor that autograd does not keep: callers may change it in place.

    Args:
        x: [N, C, H, W].
        conv: without bias.
        norm: the layer behind it.
    """
    if not isinstance(norm, FrozenBatchNorm):
        return norm(conv(x))
    scale, shift = norm.scale_and_shift()
    weight = conv.weight * scale[:, None, None, None]  # [C', C / groups, k, k]
    return F.conv2d(x, weight, shift, conv.stride, conv.padding, conv.dilation, conv.groups)


class ConvNorm(nn.Sequential):
    """A convolution and its norm; without a norm, a convolution with a bias.

    Args:
        in_channels: C.
        out_channels: C'.
        kernel: its side. An odd one is padded, so that a stride of 1 keeps height and width.
        norm: makes the norm, or None.
        stride: of the convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, norm: Norm | None, stride: int = 1
    ) -> None:
        padding = kernel // 2 if kernel % 2 else 0
        conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=norm is None)
        super().__init__(conv) if norm is None else super().__init__(conv, norm(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map x [N, C, H, W] to [N, C', H / stride, W / stride]."""
        conv = self[0]
        assert isinstance(conv, nn.Conv2d)
        return conv(x) if len(self) == 1 else conv_norm(x, conv, self[1])


def conv3x3(in_channels: int, out_channels: int, norm: Norm | None) -> ConvNorm:
    """A 3×3 convolution with its norm, initialised for a ReLU behind it (He et al. 2015).

    Args:
        in_channels, out_channels: of the map, before and after.
        norm: the kind of norm; None for a bias instead.
    """
    layer = ConvNorm(in_channels, out_channels, 3, norm)
    conv = layer[0]
    assert isinstance(conv, nn.Conv2d)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return layer


def widen(x: Tensor) -> Tensor:
    """At least float32: what a head returns under autocast is widened before losses see it."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
