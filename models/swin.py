"""The Swin layer of the ResShift denoiser: windowed attention under GroupNorm, with the published (odd) shift mask.

Yue et al. 2023 (ResShift), section 3.3, after Liu et al. 2021 (Swin Transformer). Axes: B batch, C channels,
h w latent cells, R S rows and columns of windows, L tokens of a window, d channels of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .layers import Attention, Factory, group_norm

MASKED_LOGIT = -100.0  # added between the two token groups of a masked window


@dataclass(frozen=True)
class SwinConfig:
    """The facts shared by all Swin layers of one network."""

    embed_dim: int
    depth: int
    heads: int
    window: int
    mlp_hidden: int


def relative_position_index(window: int, device: torch.device | None = None) -> Tensor:
    """Row of the bias table for every pair of tokens of a window, (L, L) int64 (Liu et al. 2021, section 3.2)."""
    token = torch.arange(window * window, device=device)
    row, column = token // window, token % window
    d_row = row[:, None] - row[None, :] + window - 1
    d_column = column[:, None] - column[None, :] + window - 1
    return d_row * (2 * window - 1) + d_column


def last_row_mask(window: int, shift: int, device: torch.device | None = None) -> Tensor:
    """The additive mask (L, L) of every window in the LAST window row of a shifted map; other windows have none.

    Deviates from Liu et al. 2021 on purpose: the published networks were trained with a mask whose labels are
    transposed inside each window, so tokens are parted by column whatever side wrapped. Reproduced as trained.
    """
    column = torch.arange(window * window, device=device) % window
    wrapped = column >= window - shift
    return (wrapped[:, None] != wrapped[None, :]).float() * MASKED_LOGIT


class WindowAttention(nn.Module):
    """Multi-head attention inside each window, with a learned bias per relative position."""

    def __init__(self, dim: int, heads: int, window: int, attention: Attention, make: Factory) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.attention = attention
        self.relative_position_bias_table = make.parameter((2 * window - 1) ** 2, heads)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.qkv = make.linear(dim, 3 * dim)
        self.proj = make.linear(dim, dim)

    def forward(self, windows: Tensor, shift: int) -> Tensor:
        qkv = self.qkv(windows)  # (B, R, S, L, 3C)
        index = relative_position_index(self.window, qkv.device)
        bias = self.relative_position_bias_table.to(qkv)[index].permute(2, 0, 1)[None]  # (1, heads, L, L)
        if shift == 0:
            return self.proj(self._attend(qkv, bias))
        masked = bias + last_row_mask(self.window, shift, qkv.device).to(qkv.dtype)
        parts = [self._attend(qkv[:, -1:], masked)]
        if qkv.shape[1] > 1:
            parts.insert(0, self._attend(qkv[:, :-1], bias))
        return self.proj(torch.cat(parts, dim=1))  # (B, R, S, L, C)

    def _attend(self, qkv: Tensor, bias: Tensor) -> Tensor:
        rows, columns = qkv.shape[1:3]
        q, k, v = rearrange(qkv, "b r s l (three heads d) -> three (b r s) heads l d", three=3, heads=self.heads)
        out = self.attention(q, k, v, bias)  # (B R S, heads, L, d)
        return rearrange(out, "(b r s) heads l d -> b r s l (heads d)", r=rows, s=columns)


class Mlp(nn.Module):
    """Two 1x1 convolutions around an exact GELU."""

    def __init__(self, dim: int, hidden: int, make: Factory) -> None:
        super().__init__()
        self.fc1 = make.conv1(dim, hidden)
        self.fc2 = make.conv1(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class SwinBlock(nn.Module):
    """Attention and MLP with residuals; both norms are GroupNorm over the whole map, not LayerNorm."""

    def __init__(self, config: SwinConfig, window: int, shift: int, attention: Attention, make: Factory) -> None:
        super().__init__()
        self.window = window
        self.shift = shift
        self.norm1 = make.norm(config.embed_dim)
        self.attn = WindowAttention(config.embed_dim, config.heads, window, attention, make)
        self.norm2 = make.norm(config.embed_dim)
        self.mlp = Mlp(config.embed_dim, config.mlp_hidden, make)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attend(group_norm(self.norm1, x))
        return x + self.mlp(group_norm(self.norm2, x))  # (B, C, h, w)

    def _attend(self, x: Tensor) -> Tensor:
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (2, 3))
        windows = rearrange(x, "b c (r i) (s j) -> b r s (i j) c", i=self.window, j=self.window)
        windows = self.attn(windows, self.shift)
        x = rearrange(windows, "b r s (i j) c -> b c (r i) (s j)", i=self.window)
        return x.roll((self.shift, self.shift), (2, 3)) if self.shift else x


class PointwiseConv(nn.Module):
    """A 1x1 convolution under the published key `proj`."""

    def __init__(self, in_channels: int, out_channels: int, make: Factory) -> None:
        super().__init__()
        self.proj = make.conv1(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class SwinLayer(nn.Module):
    """Swin blocks between two 1x1 convolutions; there is no residual around the layer.

    resolution is the side of this level's map in TRAINING: a window at least as large never shifts, whatever
    the size of the map at hand.
    """

    def __init__(self, channels: int, config: SwinConfig, resolution: int, attention: Attention, make: Factory) -> None:
        super().__init__()
        window = min(config.window, resolution)
        shift = window // 2 if resolution > config.window else 0
        self.patch_embed = PointwiseConv(channels, config.embed_dim, make)
        self.blocks = nn.ModuleList(
            [SwinBlock(config, window, shift * (i % 2), attention, make) for i in range(config.depth)]
        )
        self.patch_unembed = PointwiseConv(config.embed_dim, channels, make)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        for block in self.blocks:
            x = block(x)
        return self.patch_unembed(x)  # (B, C, h, w)
