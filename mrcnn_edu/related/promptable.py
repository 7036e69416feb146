"""A promptable segmenter at teaching size: SAM's parts around the course's own detector.

The image goes once through the detector's backbone and neck, and becomes a map of cells, the
embedding. Every prompt then asks that map its question, which costs a few milliseconds: prompt
encoder, two-way transformer, and a mask for each of four tokens with a guess of how good it is. One
token answers prompts of several points; the other three answer a single click, which may mean the
object or the group that it belongs to. Kirillov et al. 2023, "Segment Anything", §3; Chapter 19.

What differs from SAM: the encoder is a small ResNet with a pyramid, not a ViT; the map has 24×24
cells of 64 channels, not 64×64 of 256; and the masks are drawn with the pyramid's finest map beside
the embedding, as SAM 2 does it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.nn.neck import build_neck
from mrcnn_edu.nn.resnet import build_backbone
from mrcnn_edu.presets import TINY_FPN
from mrcnn_edu.related.prompts import ChannelNorm, PromptEncoder, Prompts
from mrcnn_edu.related.two_way import TwoWayTransformer


@dataclass(frozen=True)
class PromptableConfig:
    """Every number of the segmenter; SAM's own values in brackets.

    encoder: backbone and neck, and the side that images are resized to [1024].
    channels: C of embedding and tokens [256].
    inner: width of attention between tokens and image [128]. heads: of every attention [8].
    hidden: of the transformer's MLP [2048]. blocks: of the transformer [2].
    mask_channels: of the map that masks are read from, after each doubling [64, 32].
    ambiguous_masks: answers to a single click [3]; 0 leaves it to the one mask for all prompts.
    frequency: of the position code [1].
    alike: how sharply tokens and cells attend to what is like them before training; 0 leaves
        queries and keys unrelated, as SAM does.
    """

    encoder: ModelConfig = TINY_FPN
    channels: int = 64
    inner: int = 32
    heads: int = 2
    hidden: int = 256
    blocks: int = 2
    mask_channels: tuple[int, int] = (32, 8)
    ambiguous_masks: int = 3
    frequency: float = 0.6
    alike: float = 3.0


@dataclass(frozen=True)
class Embedding:
    """What an image leaves behind, for any number of prompts."""

    cells: Tensor  # [N, C, S / 8, S / 8], S the side that images are resized to
    fine: Tensor  # [N, C', S / 4, S / 4]

    def of(self, image: Tensor) -> "Embedding":
        """The embeddings of the images [B] that B prompts are about."""
        return Embedding(self.cells[image], self.fine[image])


@dataclass(frozen=True)
class Answers:
    """What the decoder says to B prompts: mask 0 for prompts of several points, then the others."""

    logits: Tensor  # [B, 1 + A, S / 2, S / 2], A the number of ambiguous masks
    scores: Tensor  # [B, 1 + A], guessed IoU of each mask

    def eligible(self, several: Tensor) -> Tensor:
        """Which masks may answer: [B, 1 + A]. The others if there was one point, else mask 0.

        Args:
            several: [B], whether there was more than one point.
        """
        is_first = torch.arange(self.scores.shape[1], device=several.device) == 0  # [1 + A]
        if len(is_first) == 1:
            return is_first.expand(len(several), 1)
        return several[:, None] == is_first

    def best(self, several: Tensor) -> tuple[Tensor, Tensor]:
        """The mask of the best guess among those that may answer: logits [B, M, M], scores [B]."""
        allowed = self.scores.masked_fill(~self.eligible(several), -torch.inf)
        scores, which = allowed.max(dim=1)  # [B]
        return self.logits[torch.arange(len(which), device=which.device), which], scores


class ImageEncoder(nn.Module):
    """Backbone and neck of the detector, then the pyramid brought to one map, as SAM's neck does.

    Args:
        config: of the segmenter.
    """

    def __init__(self, config: PromptableConfig) -> None:
        super().__init__()
        self.config = c = config
        self.backbone, _, channels = build_backbone(c.encoder)
        self.neck = build_neck(c.encoder, channels)
        self.join = nn.Sequential(
            nn.Conv2d(4 * self.neck.channels, c.channels, 1, bias=False),
            ChannelNorm(c.channels),
            nn.Conv2d(c.channels, c.channels, 3, padding=1, bias=False),
            ChannelNorm(c.channels),
        )
        self.fine = nn.Conv2d(self.neck.channels, c.mask_channels[0], 1)

    def pyramid(self, images: Sequence[Tensor]) -> list[Tensor]:
        """P2 to P5 of images [3, H, W] in 0..1, each resized to S × S: [N, C, S / 4, S / 4], …

        Everything up to here is the detector's; it may be kept on disk while the rest learns.
        """
        side = self.config.encoder.short_side
        mean, std = (
            images[0].new_tensor(v)[:, None, None]
            for v in (self.config.encoder.pixel_mean, self.config.encoder.pixel_std)
        )
        batch = torch.stack([(resize(x, side) - mean) / std for x in images])  # [N, 3, S, S]
        return self.neck(self.backbone(batch.contiguous(memory_format=torch.channels_last)))[:4]

    def embed(self, pyramid: Sequence[Tensor]) -> Embedding:
        """The embedding, of P2 to P5."""
        p2, p3, p4, p5 = pyramid
        size = p3.shape[2:]  # stride 8
        coarse = [F.interpolate(p, size, mode="bilinear") for p in (p4, p5)]
        joined = torch.cat([F.avg_pool2d(p2, 2), p3, *coarse], dim=1)  # [N, 4 C, S / 8, S / 8]
        return Embedding(self.join(joined), self.fine(p2))

    def forward(self, images: Sequence[Tensor]) -> Embedding:
        """The embedding of images [3, H, W] in 0..1, of any sizes."""
        return self.embed(self.pyramid(images))


class MaskDecoder(nn.Module):
    """Embedding and prompt tokens to masks and their scores.

    Args:
        config: of the segmenter.
    """

    def __init__(self, config: PromptableConfig) -> None:
        super().__init__()
        c = config
        masks = 1 + c.ambiguous_masks
        self.answers = nn.Embedding(1 + masks, c.channels)  # the score's token, then the masks'
        self.transformer = TwoWayTransformer(c.channels, c.inner, c.heads, c.hidden, c.blocks)
        if c.alike:
            self.transformer.begin_alike(c.alike)
        first, second = c.mask_channels
        self.up = nn.ConvTranspose2d(c.channels, first, 2, stride=2)
        self.norm = ChannelNorm(first)
        self.upper = nn.ConvTranspose2d(first, second, 2, stride=2)
        self.weights = nn.ModuleList(mlp(c.channels, c.channels, second) for _ in range(masks))
        self.score = mlp(c.channels, c.channels, masks)

    def forward(self, embedding: Embedding, tokens: Tensor, places: Tensor) -> Answers:
        """Answer B prompts.

        Args:
            embedding: of B images, what a mask prompt adds already in its cells.
            tokens: [B, P, C] of the prompts.
            places: [L, C], position codes of the L = H · W cells.
        """
        count, _, height, width = embedding.cells.shape
        answers = self.answers.weight.expand(count, -1, -1)  # [B, 2 + A, C]
        asked = torch.cat([answers, tokens], dim=1)  # [B, 2 + A + P, C]
        cells = embedding.cells.flatten(2).transpose(1, 2)  # [B, L, C]
        tokens, cells = self.transformer(asked, cells, places)
        x = cells.transpose(1, 2).unflatten(2, (height, width))  # [B, C, H, W]
        x = F.relu(self.norm(self.up(x) + embedding.fine))  # [B, C', 2 H, 2 W]
        x = F.relu(self.upper(x))  # [B, C'', 4 H, 4 W]
        weights = torch.stack(
            [layer(tokens[:, 1 + i]) for i, layer in enumerate(self.weights)], dim=1
        )  # [B, 1 + A, C'']: each mask is a dot product with the map
        logits = (weights @ x.flatten(2)).unflatten(2, x.shape[2:])  # [B, 1 + A, 4 H, 4 W]
        return Answers(logits, self.score(tokens[:, 0]))


class PromptableSegmenter(nn.Module):
    """Image encoder, prompt encoder and mask decoder.

    Args:
        config: every number of it.
    """

    def __init__(self, config: PromptableConfig) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(config)
        self.prompt_encoder = PromptEncoder(config.channels, config.frequency)
        self.mask_decoder = MaskDecoder(config)

    def embed(self, images: Sequence[Tensor]) -> Embedding:
        """Once an image: its embedding. Images are [3, H, W] in 0..1."""
        return self.image_encoder(images)

    def answer(self, embedding: Embedding, prompts: Prompts) -> Answers:
        """Once a prompt: masks and scores.

        Args:
            embedding: of B images, one for each prompt (`Embedding.of`).
            prompts: of B objects.
        """
        height, width = embedding.cells.shape[2:]
        cells = embedding.cells + self.prompt_encoder.dense(prompts, (height, width))
        places = self.prompt_encoder.position.grid(height, width)  # [L, C]
        tokens = self.prompt_encoder.tokens(prompts)
        return self.mask_decoder(replace(embedding, cells=cells), tokens, places)


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Three layers with ReLUs between them.

    Args:
        inputs, hidden, outputs: their widths.
    """
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, outputs),
    )


def resize(image: Tensor, side: int) -> Tensor:
    """An image [C, H, W] stretched to side × side: positions are shares of each side."""
    if image.shape[1:] == (side, side):
        return image
    return F.interpolate(image[None], (side, side), mode="bilinear", antialias=True)[0]


def at_size(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Logits [B, A, M, M] at an image's (height, width); those above 0 are the mask."""
    return F.interpolate(logits, list(size), mode="bilinear")
