"""Features with weights made by hand: how strongly a picture shows edges of each direction.

In: an image. Out: a feature map at any stride. A trained backbone answers to parts of objects; its
first layer answers to edges, much like this one. Chapters use it where real features are needed
and no trained weights are at hand: nothing is learned, nothing is downloaded. Chapter 05.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def edge_filters(directions: int = 4, wavelength: float = 12.0) -> Tensor:
    """Gabor filters: a wave under a bell, one for each direction. [C, 1, 2r + 1, 2r + 1].

    Args:
        directions: C; filter c answers to edges turned by c · 180° / C from the vertical.
        wavelength: of the wave, in pixels; the bell's deviation is a third of it.
    """
    radius = math.ceil(0.6 * wavelength)
    axis = torch.arange(-radius, radius + 1, dtype=torch.float32)
    y, x = torch.meshgrid(axis, axis, indexing="ij")  # [2r + 1, 2r + 1]
    bell = torch.exp(-(x**2 + y**2) / (2 * (wavelength / 3) ** 2))
    angles = torch.arange(directions) * math.pi / directions
    along = x * angles.cos()[:, None, None] + y * angles.sin()[:, None, None]  # [C, 2r + 1, 2r + 1]
    filters = bell * torch.sin(2 * math.pi * along / wavelength)
    return (filters / filters.abs().sum(dim=(1, 2), keepdim=True))[:, None]


def edge_features(
    image: Tensor, stride: int, directions: int = 4, wavelength: float = 12.0
) -> Tensor:
    """Edge strength by direction, averaged over stride × stride pixels.

    Args:
        image: uint8 [3, H, W].
        stride: image pixels a map pixel; H and W are cut to multiples of it.
        directions: C.
        wavelength: see `edge_filters`.

    Returns:
        float32 [C, H / stride, W / stride], 0 to 0.5. The border is reflected.
    """
    grey = image.to(torch.float32).mean(0)[None, None] / 255  # [1, 1, H, W]
    filters = edge_filters(directions, wavelength)
    grey = F.pad(grey, [filters.shape[-1] // 2] * 4, mode="reflect")
    strength = F.conv2d(grey, filters).abs()  # [1, C, H, W]
    return F.avg_pool2d(strength, stride)[0]  # [C, H / stride, W / stride]
