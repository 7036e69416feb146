"""Prompts, and what becomes of them: points, boxes and masks as vectors.

A prompt says which object is meant. A point is a position with a label, on the object or beside it;
a box is two such points, its corners, with labels of their own; a mask is a map of logits, most
often the segmenter's own last answer. Positions become vectors by random Fourier features (Tancik
et al. 2020), the same for a click and for a cell of the image's map, so that the two can be
compared by a dot product. SAM §3, "Prompt encoder"; Chapter 19.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BESIDE, ON, TOP_LEFT, BOTTOM_RIGHT, NOTHING = 0, 1, 2, 3, -1


@dataclass(frozen=True)
class Prompts:
    """What is asked of B objects, each of an image of its own or of one image."""

    points: Tensor  # [B, P, 2], (x, y) as a share of the image's width and height
    labels: Tensor  # [B, P]: ON, BESIDE, TOP_LEFT, BOTTOM_RIGHT, or NOTHING where a row is shorter
    masks: Tensor | None = None  # [B, 1, M, M], logits

    def several(self) -> Tensor:
        """Whether an object has more than one point: [B]. A box has two, its corners."""
        return (self.labels != NOTHING).sum(dim=1) > 1


def clicks(points: Tensor, labels: Tensor, size: tuple[int, int]) -> Prompts:
    """Clicks in pixels as prompts.

    Args:
        points: [B, P, 2], (x, y) in continuous image coordinates.
        labels: [B, P], `ON` the object or `BESIDE` it.
        size: (height, width) of the image.
    """
    return Prompts(points / points.new_tensor([size[1], size[0]]), labels)


def boxes(corners: Tensor, size: tuple[int, int]) -> Prompts:
    """Boxes [B, 4] (xyxy, pixels) as prompts; `size` is the image's (height, width)."""
    points = corners.reshape(-1, 2, 2) / corners.new_tensor([size[1], size[0]])  # [B, 2, 2]
    labels = torch.tensor([TOP_LEFT, BOTTOM_RIGHT], device=corners.device)
    return Prompts(points, labels.expand(len(corners), 2))


def with_click(prompts: Prompts, points: Tensor, labels: Tensor, masks: Tensor | None) -> Prompts:
    """The same prompts and one click more for each object.

    Args:
        prompts: of B objects.
        points: [B, 2], as shares.
        labels: [B].
        masks: [B, 1, M, M], logits of the last answer.
    """
    return Prompts(
        torch.cat([prompts.points, points[:, None]], dim=1),  # [B, P + 1, 2]
        torch.cat([prompts.labels, labels[:, None]], dim=1),  # [B, P + 1]
        masks,
    )


class PositionCode(nn.Module):
    """Positions as vectors: sine and cosine of random projections of (x, y).

    The dot product of two codes depends on the distance of the positions only, and falls off
    within about 1 / (2π · `frequency`) of half the image's side.

    Args:
        channels: C of a code; half are sines.
        frequency: standard deviation of the projections.
    """

    projection: Tensor

    def __init__(self, channels: int, frequency: float) -> None:
        super().__init__()
        self.register_buffer("projection", torch.randn(2, channels // 2) * frequency)

    def forward(self, points: Tensor) -> Tensor:
        """Codes [..., C] of points [..., 2], given as shares of the image's sides."""
        angles = 2 * math.pi * (2 * points - 1) @ self.projection  # [..., C / 2]
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def grid(self, height: int, width: int) -> Tensor:
        """Codes of the centres of a map's cells: [height · width, C], row by row."""
        device = self.projection.device
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        return self(torch.stack([columns, rows], dim=-1)).flatten(0, 1)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map [B, C, H, W], at every pixel by itself."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise a map."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PromptEncoder(nn.Module):
    """Points and boxes to tokens, masks to a map that is added to the image's.

    Args:
        channels: C of both.
        frequency: of the position code.
    """

    def __init__(self, channels: int, frequency: float) -> None:
        super().__init__()
        self.position = PositionCode(channels, frequency)
        self.kinds = nn.Embedding(4, channels)  # beside, on, two corners
        self.nothing = nn.Parameter(torch.randn(channels))  # fills rows that have fewer points
        self.no_mask = nn.Parameter(torch.randn(channels))
        small = channels // 4
        self.down = nn.Sequential(
            nn.Conv2d(1, small // 4, 2, stride=2),
            ChannelNorm(small // 4),
            nn.GELU(),
            nn.Conv2d(small // 4, small, 2, stride=2),
            ChannelNorm(small),
            nn.GELU(),
            nn.Conv2d(small, channels, 1),
        )

    def tokens(self, prompts: Prompts) -> Tensor:
        """One token for each point: its position's code plus what kind of point it is: [B, P, C].

        A row that has fewer points holds tokens without a position.
        """
        there = (prompts.labels != NOTHING)[:, :, None]  # [B, P, 1]
        kind = self.kinds(prompts.labels.clamp(min=0))  # [B, P, C]
        return torch.where(there, self.position(prompts.points) + kind, self.nothing)

    def dense(self, prompts: Prompts, size: tuple[int, int]) -> Tensor:
        """What a mask adds to the image's map: [B, C, *size], or [1, C, 1, 1] without a mask."""
        if prompts.masks is None:
            return self.no_mask[None, :, None, None]
        added = self.down(prompts.masks)  # [B, C, M / 4, M / 4]
        return F.interpolate(added, size, mode="bilinear") if added.shape[2:] != size else added
