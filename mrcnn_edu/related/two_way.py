"""Tokens and image look at each other: the two-way transformer of SAM's mask decoder.

In each block the tokens (what is asked, and one for each answer) attend to one another, then to the
image's cells, pass an MLP, and then every cell attends to the tokens. So a click collects what lies
under it, and the map learns what was asked. Positions are added again to queries and keys each
time, as without them attention would not know where anything is. SAM §3 and appendix A;
Chapter 19.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Attention with several heads, at a width that may be smaller than that of its inputs.

    Args:
        channels: C of inputs and outputs.
        inner: width of queries, keys and values together.
        heads: they share it among them.
    """

    def __init__(self, channels: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(channels, inner)
        self.k = nn.Linear(channels, inner)
        self.v = nn.Linear(channels, inner)
        self.out = nn.Linear(inner, channels)

    @torch.no_grad()
    def begin_alike(self, scale: float) -> None:
        """Let queries begin as keys do, so that like attends to like, and near to near.

        With weights of their own the two begin unrelated, and a click attends to the whole image
        until training has found the relation.

        Args:
            scale: of both weights; larger attends more sharply.
        """
        self.k.weight.mul_(scale)
        self.q.weight.copy_(self.k.weight)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Look things up.

        Args:
            q: [B, Q, C], what asks.
            k: [B, L, C], what it is compared with.
            v: [B, L, C], what is read.
        """
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, heads, ·, inner / heads]
            for layer, x in ((self.q, q), (self.k, k), (self.v, v))
        )
        read = F.scaled_dot_product_attention(query, key, value)  # [B, heads, Q, inner / heads]
        return self.out(read.transpose(1, 2).flatten(2))  # [B, Q, C]


class TwoWayBlock(nn.Module):
    """One block: self-attention, tokens to image, MLP, image to tokens; a norm behind each.

    Args:
        channels: C of tokens and cells.
        inner: width of attention between tokens and image.
        heads: of every attention.
        hidden: width of the MLP.
    """

    def __init__(self, channels: int, inner: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.among = Attention(channels, channels, heads)
        self.to_image = Attention(channels, inner, heads)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )
        self.to_tokens = Attention(channels, inner, heads)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(4))

    def forward(
        self, tokens: Tensor, cells: Tensor, asked: Tensor, places: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return both, changed.

        Args:
            tokens: [B, T, C].
            cells: [B, L, C], the image's map as a row.
            asked: [B, T, C], the tokens as they were before the first block: their "positions".
            places: [L, C], position codes of the cells.
        """
        q = tokens + asked
        tokens = self.norms[0](tokens + self.among(q, q, tokens))
        tokens = self.norms[1](tokens + self.to_image(tokens + asked, cells + places, cells))
        tokens = self.norms[2](tokens + self.mlp(tokens))
        cells = self.norms[3](cells + self.to_tokens(cells + places, tokens + asked, tokens))
        return tokens, cells


class TwoWayTransformer(nn.Module):
    """Blocks, and at the end the tokens look at the image once more.

    Args:
        channels, inner, heads, hidden: of a block.
        blocks: how many; SAM has two.
    """

    def __init__(self, channels: int, inner: int, heads: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            TwoWayBlock(channels, inner, heads, hidden) for _ in range(blocks)
        )
        self.last = Attention(channels, inner, heads)
        self.norm = nn.LayerNorm(channels)

    def begin_alike(self, scale: float) -> None:
        """Let every attention between tokens and image begin by comparing (`Attention`)."""
        for block in self.blocks:
            assert isinstance(block, TwoWayBlock)
            block.to_image.begin_alike(scale)
            block.to_tokens.begin_alike(scale)
        self.last.begin_alike(1.0)

    def forward(self, asked: Tensor, cells: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens and cells after all blocks.

        Args:
            asked: [B, T, C], the tokens.
            cells: [B, L, C].
            places: [L, C], position codes of the cells.
        """
        tokens = asked
        for block in self.blocks:
            tokens, cells = block(tokens, cells, asked, places)
        tokens = self.norm(tokens + self.last(tokens + asked, cells + places, cells))
        return tokens, cells
