"""The time-aware encoder of StableSR (Wang et al. 2023, section 3.1): half a U-Net over the LR latent and the timestep.

Module and key names are those of the published weights. Every size follows from the shapes of the tensors but one: the
number of attention heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .layers import Attention, Factory, group_norm, scaled_dot_product, timestep_embedding
from .state_dict import StateDict, require

HEADS = 4
"""Attention heads, which keys and shapes do not tell; all published files have 4."""


@dataclass(frozen=True)
class EncoderBlock:
    """One entry of `input_blocks`: a residual block with or without attention, or a convolution that halves the map."""

    channels: int
    attention: bool = False
    halves: bool = False


@dataclass(frozen=True)
class StructEncoderConfig:
    """Sizes of an encoder; `blocks` leaves out the first convolution."""

    in_channels: int
    model_channels: int
    time_channels: int
    blocks: tuple[EncoderBlock, ...]
    out_channels: int
    heads: int = HEADS

    @classmethod
    def from_state_dict(cls, sd: StateDict) -> StructEncoderConfig:
        """The configuration of an encoder's tensors (keys without the checkpoint's prefix).

        Raises UnsupportedModelError that names the tensor which is missing.
        """
        first = require(sd, "input_blocks.0.0.weight")
        places = (key.split(".")[1] for key in sd if key.startswith("input_blocks."))
        last = max(int(place) for place in places if place.isdigit())
        blocks = [_read_block(sd, f"input_blocks.{number}") for number in range(1, 1 + last)]
        return cls(
            in_channels=first.shape[1],
            model_channels=first.shape[0],
            time_channels=require(sd, "time_embed.0.weight").shape[0],
            blocks=tuple(blocks),
            out_channels=require(sd, "fea_tran.0.out_layers.3.weight").shape[0],
        )

    @property
    def levels(self) -> int:
        """Maps that come out, each half as large as the one before."""
        return 1 + sum(block.halves for block in self.blocks)


def _read_block(sd: StateDict, name: str) -> EncoderBlock:
    if f"{name}.0.op.weight" in sd or f"{name}.0.op.bias" in sd:
        return EncoderBlock(require(sd, f"{name}.0.op.weight").shape[0], halves=True)
    channels = require(sd, f"{name}.0.out_layers.3.weight").shape[0]
    return EncoderBlock(channels, attention=any(key.startswith(f"{name}.1.") for key in sd))


class TimedBlock(nn.Module):
    """Two 3x3 convolutions with the time embedding added between them, and a skip: Stable Diffusion's residual block."""

    def __init__(self, in_channels: int, out_channels: int, time_channels: int, make: Factory) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(make.norm(in_channels), nn.SiLU(), make.conv3(in_channels, out_channels))
        self.emb_layers = nn.Sequential(nn.SiLU(), make.linear(time_channels, out_channels))
        self.out_layers = nn.Sequential(
            make.norm(out_channels), nn.SiLU(), nn.Identity(), make.conv3(out_channels, out_channels)
        )
        same = in_channels == out_channels
        self.skip_connection = nn.Identity() if same else make.conv1(in_channels, out_channels)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.in_layers[1:](group_norm(self.in_layers[0], x)) + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers[1:](group_norm(self.out_layers[0], h))  # (B, C_out, h, w)


class EncoderAttention(nn.Module):
    """Attention between all cells of a map. Channels of qkv are ordered head, then q, k or v, then within the head."""

    def __init__(self, channels: int, heads: int, attention: Attention, make: Factory) -> None:
        super().__init__()
        self._heads, self._attention = heads, attention
        self.norm = make.norm(channels)
        self.qkv = make.conv_tokens(channels, 3 * channels)
        self.proj_out = make.conv_tokens(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        rows, channels, height, width = x.shape
        cells = group_norm(self.norm, x).flatten(2)  # (B, C, L)
        split = self.qkv(cells).view(rows, self._heads, 3, channels // self._heads, height * width)
        q, k, v = (part.transpose(2, 3) for part in split.unbind(2))  # (B, heads, L, d) each
        mixed = self._attention(q, k, v).transpose(2, 3).reshape(rows, channels, height * width)
        return x + self.proj_out(mixed).view_as(x)


class Halving(nn.Module):
    """Halves a map, upwards when odd, by a strided convolution."""

    def __init__(self, channels: int, make: Factory) -> None:
        super().__init__()
        self.op = make.conv3(channels, channels, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class EncoderStage(nn.ModuleList):
    """Layers in a row; residual blocks receive the time embedding."""

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, emb) if isinstance(layer, TimedBlock) else layer(x)
        return x


class StructEncoder(nn.Module):
    """Maps of the LR latent at every level of the denoiser, as they are wanted at a timestep."""

    def __init__(
        self,
        config: StructEncoderConfig,
        *,
        operations: Any = torch.nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        attention: Attention | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        make, attend = Factory(operations, device, dtype), attention or scaled_dot_product
        time, width = config.time_channels, config.model_channels
        self.time_embed = nn.Sequential(make.linear(width, time), nn.SiLU(), make.linear(time, time))
        self.input_blocks = nn.ModuleList([EncoderStage([make.conv3(config.in_channels, width)])])
        taps: list[int] = []
        for block in config.blocks:
            layers: list[nn.Module] = []
            if block.halves:
                taps.append(width)
                layers.append(Halving(width, make))
            else:
                layers.append(TimedBlock(width, block.channels, time, make))
            if block.attention:
                layers.append(EncoderAttention(block.channels, config.heads, attend, make))
            width = block.channels
            self.input_blocks.append(EncoderStage(layers))
        self.middle_block = EncoderStage(
            [
                TimedBlock(width, width, time, make),
                EncoderAttention(width, config.heads, attend, make),
                TimedBlock(width, width, time, make),
            ]
        )
        self.fea_tran = nn.ModuleList(TimedBlock(tap, config.out_channels, time, make) for tap in [*taps, width])

    def forward(self, latent: Tensor, timesteps: Tensor) -> list[Tensor]:
        """Maps (B, C_out, ceil(h / 2^i), ceil(w / 2^i)) for levels i = 0, 1, ...

        latent: (B, C, h, w), the LR image enlarged and encoded, in the scale that the denoiser works in, without noise;
        timesteps: (B,), 0 to 999, possibly fractional, those that the denoiser is given.
        """
        emb = self.time_embed(timestep_embedding(timesteps, self.config.model_channels).to(latent.dtype))  # (B, D)
        h, taps = latent, list[Tensor]()
        for block, stage in zip([None, *self.config.blocks], self.input_blocks):
            if block is not None and block.halves:
                taps.append(h)
            h = stage(h, emb)
        taps.append(self.middle_block(h, emb))
        return [transfer(tap, emb) for transfer, tap in zip(self.fea_tran, taps)]
