"""The injection network: how much of the input's features a region gets back, by its gains (AdaDiffSR, section 3.4).

o_hat = alpha o + beta, alpha and beta being maps that follow from o and the gains. The paper gives the equation and a size,
4.64 M parameters; the layers are ours. At its start the network is the identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Factory, group_norm, normalised_bytes, zero_weights
from .state_dict import StateDict, UnsupportedModelError, require, sequence_length

GROUPS = 8
ALPHA_RANGE = (0.5, 1.5)
BETA_LIMIT = 0.5
"""What may be injected at run time, whatever the network says."""


@dataclass(frozen=True)
class PfjConfig:
    """Sizes of an injection network, all readable from its state dict."""

    latent_channels: int = 4
    stem: int = 120
    inner: int = 200
    blocks: int = 5
    hidden: int = 256
    metrics: int = 6

    def __post_init__(self) -> None:
        if self.stem % GROUPS or self.inner % GROUPS or self.blocks < 1:
            raise UnsupportedModelError(
                f"An injection network has blocks, and widths that are multiples of {GROUPS}; got {self.blocks} blocks and widths "
                f"{self.stem} and {self.inner}."
            )

    @classmethod
    def from_state_dict(cls, sd: StateDict) -> PfjConfig:
        """From the shapes of a canonical state dict. UnsupportedModelError names the first thing that does not fit."""
        stem, channels = require(sd, "stem.weight").shape[:2]
        hidden, metrics = require(sd, "gain1.weight").shape
        blocks = sequence_length(sd, "blocks.{}.conv1.weight")
        return cls(
            int(channels), int(stem), int(require(sd, "down.weight").shape[0]), blocks, int(hidden), int(metrics)
        )


class FilmBlock(nn.Module):
    """Norm, SiLU, conv, norm modulated by the gains, SiLU, conv, plus the input."""

    def __init__(self, channels: int, hidden: int, make: Factory) -> None:
        super().__init__()
        self.norm1 = make.norm(channels, groups=GROUPS)
        self.conv1 = make.conv3(channels, channels)
        self.film = make.linear(hidden, 2 * channels)
        self.norm2 = make.norm(channels, groups=GROUPS)
        self.conv2 = make.conv3(channels, channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(group_norm(self.norm1, x)))
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)  # (N, C, 1, 1) each
        return x + self.conv2(F.silu(torch.addcmul(shift, group_norm(self.norm2, h), 1 + scale)))


class Pfj(nn.Module):
    """(reference latent, gains) -> (alpha, beta)."""

    def __init__(
        self,
        config: PfjConfig,
        operations: Any = torch.nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        make = Factory(operations, device, dtype)
        self.gain1 = make.linear(config.metrics, config.hidden)
        self.gain2 = make.linear(config.hidden, config.hidden)
        self.stem = make.conv3(config.latent_channels, config.stem)
        self.down = make.conv3(config.stem, config.inner, stride=2)
        self.blocks = nn.ModuleList([FilmBlock(config.inner, config.hidden, make) for _ in range(config.blocks)])
        self.up = make.conv3(config.inner, config.stem)
        self.norm = make.norm(config.stem, groups=GROUPS)
        self.out = zero_weights(make.conv3(config.stem, 2 * config.latent_channels))

    def forward(self, reference: Tensor, gains: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and beta (N, C, h, w) for latents of the same shape and gains (N, metrics), 0 where a gain is undefined."""
        gains = gains.to(reference)
        embedding = F.silu(self.gain2(F.silu(self.gain1(gains))))  # (N, hidden)
        stem = self.stem(reference)
        h = self.down(stem)
        for block in self.blocks:
            h = block(h, embedding)
        # To the stem's size, so that odd sides work: even ones are doubled.
        h = self.up(F.interpolate(h, size=stem.shape[-2:], mode="nearest")) + stem
        a, beta = cast("tuple[Tensor, Tensor]", self.out(F.silu(group_norm(self.norm, h))).chunk(2, dim=1))
        return 1 + a, beta


def inject(reference: Tensor, alpha: Tensor, beta: Tensor, strength: float = 1.0) -> Tensor:
    """o + strength ((alpha - 1) o + beta), with alpha and beta held within what training saw; 0 is off."""
    low, high = ALPHA_RANGE
    change = (alpha.clamp(low, high) - 1) * reference + beta.clamp(-BETA_LIMIT, BETA_LIMIT)
    return reference + strength * change


def activation_bytes(config: PfjConfig, height: int, width: int, dtype_size: int) -> int:
    """Peak of one region of (height, width) cells: the stem beside the enlarged inner map, or beside the last norm in float32."""
    stem, inner = config.stem, config.inner
    enlarged = dtype_size * (2 * stem + inner + inner / 4)  # the inner map in half the size is still there
    last = stem * (2 * dtype_size + normalised_bytes(dtype_size))
    return int((max(enlarged, last) + config.latent_channels * dtype_size) * height * width)
