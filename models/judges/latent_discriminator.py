"""InvSR's discriminator: a UNet on latents that knows the time and the text, and judges at four places.

Yue et al. 2025 (InvSR), section 3.3. Nobody has published its weights; module and key names are those of the published code's
training checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import Attention, Factory, group_norm, scaled_dot_product, timestep_embedding
from ..noise_predictor import ResnetBlock, TimeEmbedding

LATENT_CHANNELS = 4
RESNET_EPS, TRANSFORMER_EPS = 1e-5, 1e-6
FEED_FORWARD = 4
"""Width of a feed-forward layer in units of its input."""


@dataclass(frozen=True)
class LatentDiscriminatorConfig:
    """Sizes; tuples run from the latent's resolution down. The defaults are InvSR's, 112 M parameters."""

    channels: tuple[int, ...] = (128, 256, 512)
    layers: tuple[int, ...] = (1, 2, 2)
    heads: tuple[int, ...] = (0, 16, 16)
    """Attention heads of a level; 0: it has residual blocks only."""
    side_channels: int = 32
    """Of the features of the latent that enter every level."""
    text_channels: int = 1024
    text_heads: int = 64
    time_channels: int = 512
    groups: int = 32

    @property
    def sinusoid_dim(self) -> int:
        return self.channels[0]


class TextPool(nn.Module):
    """One vector for all tokens: attention of their mean to them and to itself."""

    def __init__(self, config: LatentDiscriminatorConfig, attention: Attention, make: Factory) -> None:
        super().__init__()
        width = config.text_channels
        self._attention, self._heads = attention, config.text_heads
        self.positional_embedding = make.parameter(1, width)
        self.k_proj = make.linear(width, width)
        self.q_proj = make.linear(width, width)
        self.v_proj = make.linear(width, width)

    def forward(self, text: Tensor) -> Tensor:
        """(B, L, C) -> (B, C)."""
        mean = text.mean(1, keepdim=True) + self.positional_embedding.to(text)
        tokens = torch.cat([mean, text], dim=1)  # (B, L + 1, C)
        layers = ((self.q_proj, mean), (self.k_proj, tokens), (self.v_proj, tokens))
        return attended(self._attention, self._heads, layers)[:, 0]


class TextEmbedding(nn.Module):
    """The text's part of the embedding that all residual blocks see."""

    def __init__(self, config: LatentDiscriminatorConfig, attention: Attention, make: Factory) -> None:
        super().__init__()
        self.norm1 = make.layer_norm(config.text_channels)
        self.pool = TextPool(config, attention, make)
        self.proj = make.linear(config.text_channels, config.time_channels)
        self.norm2 = make.layer_norm(config.time_channels)

    def forward(self, text: Tensor) -> Tensor:
        return self.norm2(self.proj(self.pool(self.norm1(text))))


class TokenAttention(nn.Module):
    """Attention of the tokens to those of a source; what is projected in has no bias."""

    def __init__(self, channels: int, source: int, heads: int, attention: Attention, make: Factory) -> None:
        super().__init__()
        self._attention, self._heads = attention, heads
        self.to_q = make.linear(channels, channels, bias=False)
        self.to_k = make.linear(source, channels, bias=False)
        self.to_v = make.linear(source, channels, bias=False)
        self.to_out = nn.ModuleList([make.linear(channels, channels)])

    def forward(self, tokens: Tensor, source: Tensor) -> Tensor:
        layers = ((self.to_q, tokens), (self.to_k, source), (self.to_v, source))
        return self.to_out[0](attended(self._attention, self._heads, layers))


class GatedProjection(nn.Module):
    """a GELU(b) of two linear layers in one (Shazeer 2020, GEGLU)."""

    def __init__(self, channels: int, inner: int, make: Factory) -> None:
        super().__init__()
        self.proj = make.linear(channels, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """The gated projection and the way back."""

    def __init__(self, channels: int, make: Factory) -> None:
        super().__init__()
        inner = FEED_FORWARD * channels
        layers = [GatedProjection(channels, inner, make), nn.Identity(), make.linear(inner, channels)]
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerLayer(nn.Module):
    """Attention of places to each other and to the text, and a feed-forward layer, each with a residual."""

    def __init__(self, channels: int, text: int, heads: int, attention: Attention, make: Factory) -> None:
        super().__init__()
        self.norm1 = make.layer_norm(channels)
        self.attn1 = TokenAttention(channels, channels, heads, attention, make)
        self.norm2 = make.layer_norm(channels)
        self.attn2 = TokenAttention(channels, text, heads, attention, make)
        self.norm3 = make.layer_norm(channels)
        self.ff = FeedForward(channels, make)

    def forward(self, tokens: Tensor, text: Tensor) -> Tensor:
        normed = self.norm1(tokens)
        tokens = tokens + self.attn1(normed, normed)
        tokens = tokens + self.attn2(self.norm2(tokens), text)
        return tokens + self.ff(self.norm3(tokens))


class TextTransformer(nn.Module):
    """The transformer layer on a map, with a residual around it."""

    def __init__(
        self, channels: int, heads: int, config: LatentDiscriminatorConfig, attention: Attention, make: Factory
    ):
        super().__init__()
        self.norm = make.norm(channels, TRANSFORMER_EPS, groups=config.groups)
        self.proj_in = make.conv1(channels, channels)
        layer = TransformerLayer(channels, config.text_channels, heads, attention, make)
        self.transformer_blocks = nn.ModuleList([layer])
        self.proj_out = make.conv1(channels, channels)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        h = self.proj_in(group_norm(self.norm, x))
        tokens = self.transformer_blocks[0](h.flatten(2).transpose(1, 2), text)  # (B, hw, C)
        return x + self.proj_out(tokens.transpose(1, 2).reshape(h.shape))


class Resampling(nn.Module):
    """A 3x3 convolution that halves a map, or one behind a change of size."""

    def __init__(self, channels: int, make: Factory, stride: int = 1) -> None:
        super().__init__()
        self.conv = make.conv3(channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class LevelBlocks(nn.Module):
    """The residual blocks of a level, each with its transformer where the level has any, under the published names."""

    def __init__(
        self,
        widths: list[int],
        out: int,
        heads: int,
        config: LatentDiscriminatorConfig,
        attention: Attention,
        make: Factory,
    ) -> None:
        """widths are what enters each residual block; a middle block has one transformer less than residual blocks."""
        super().__init__()
        self.resnets = nn.ModuleList([ResnetBlock(width, out, config, make, RESNET_EPS) for width in widths])
        if heads:
            made = (TextTransformer(out, heads, config, attention, make) for _ in widths)
            self.attentions = nn.ModuleList(made)

    def block(self, index: int, x: Tensor, emb: Tensor, text: Tensor) -> Tensor:
        """One residual block with what follows it."""
        x = self.resnets[index](x, emb)
        attentions = self._modules.get("attentions")
        if isinstance(attentions, nn.ModuleList) and index < len(attentions):
            x = attentions[index](x, text)
        return x


class LatentDiscriminator(nn.Module):
    """Latent, time and text -> logits of four heads, coarse to fine."""

    def __init__(
        self,
        config: LatentDiscriminatorConfig,
        *,
        operations: Any = nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        attention: Attention | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        make, attention = Factory(operations, device, dtype), attention or scaled_dot_product
        widths, side = config.channels, config.side_channels
        self.conv_in = make.conv3(LATENT_CHANNELS, widths[0])
        self.feature_in = make.conv3(LATENT_CHANNELS, side)
        self.time_embedding = TimeEmbedding(config, make)
        self.add_embedding = TextEmbedding(config, attention, make)
        self.down_blocks, self.up_blocks, self.out_blocks = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        skips, before, last = [widths[0]], widths[0], len(widths) - 1
        for level, (out, count, heads) in enumerate(zip(widths, config.layers, config.heads)):
            entering = [before + side, *[out] * (count - 1)]
            block = LevelBlocks(entering, out, heads, config, attention, make)
            skips += [out] * (count + (level < last))
            if level < last:
                block.downsamplers = nn.ModuleList([Resampling(out, make, stride=2)])
            self.down_blocks.append(block)
            before = out
        self.mid_block = LevelBlocks([before] * 2, before, config.heads[-1], config, attention, make)
        del self.mid_block.attentions[1]  # it stands between the two residual blocks only
        self.out_blocks.append(head(before, make))
        for level in reversed(range(len(widths))):
            out, count = widths[level], config.layers[level] + 1
            entering = [(before if i == 0 else out) + skips.pop() for i in range(count)]
            block = LevelBlocks(entering, out, config.heads[level], config, attention, make)
            if level:
                block.upsamplers = nn.ModuleList([Resampling(out, make)])
            self.up_blocks.append(block)
            self.out_blocks.append(head(out, make))
            before = out

    def forward(self, latent: Tensor, timesteps: Tensor, text: Tensor) -> list[Tensor]:
        """Logits (B, 1, h', w') behind the middle and behind every level up.

        latent is (B, 4, h, w), timesteps (B,) are indices tau - 1, text is (B, L, C).
        """
        sinusoid = timestep_embedding(timesteps, self.config.sinusoid_dim).to(latent.dtype)
        emb = self.time_embedding(sinusoid) + self.add_embedding(text)  # (B, time_channels)
        x, skips = self._down(latent, emb, text)
        for index in range(2):
            x = self.mid_block.block(index, x, emb, text)
        logits = [self.out_blocks[0](x)]
        for block, out in zip(levels(self.up_blocks), self.out_blocks[1:]):
            for index in range(len(block.resnets)):
                x = block.block(index, torch.cat([x, skips.pop()], dim=1), emb, text)
            if skips:  # nearest, to the size of what comes next: twice, or one less where a side was odd
                x = block.get_submodule("upsamplers.0")(F.interpolate(x, size=skips[-1].shape[-2:], mode="nearest"))
            logits.append(out(x))
        return logits

    def _down(self, latent: Tensor, emb: Tensor, text: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The way down, and all that the way up takes from it."""
        x, side = self.conv_in(latent), self.feature_in(latent)
        skips = [x]
        for block in levels(self.down_blocks):
            seen = side
            if side.shape[-2:] != x.shape[-2:]:
                seen = F.interpolate(side, size=x.shape[-2:], mode="bicubic", align_corners=False)
            x = torch.cat([x, seen], dim=1)
            for index in range(len(block.resnets)):
                x = block.block(index, x, emb, text)
                skips.append(x)
            if block is not self.down_blocks[-1]:
                x = block.get_submodule("downsamplers.0")(x)
                skips.append(x)
        return x, skips


def levels(blocks: nn.ModuleList) -> list[LevelBlocks]:
    """The levels of a list as what they are."""
    return cast("list[LevelBlocks]", list(blocks))


def head(channels: int, make: Factory) -> nn.Sequential:
    """Two normalised 3x3 convolutions that end in one logit per place."""
    groups = min(32, channels // 4)
    layers = [
        *(make.norm(channels, RESNET_EPS, groups=groups), nn.SiLU(), make.conv3(channels, channels)),
        *(make.norm(channels, RESNET_EPS, groups=groups), nn.SiLU(), make.conv3(channels, 1)),
    ]
    return nn.Sequential(*layers)


def attended(attention: Attention, heads: int, layers: tuple[tuple[nn.Module, Tensor], ...]) -> Tensor:
    """Attention (B, L, C) of queries, keys and values, each a layer and the tokens (B, L, C') that it projects."""
    q, k, v = (layer(tokens).unflatten(2, (heads, -1)).transpose(1, 2) for layer, tokens in layers)
    return attention(q, k, v).transpose(1, 2).flatten(2)
