"""The gain regressor: what a diffusion step gained by several quality metrics, told from latents (AdaDiffSR, section 3.2).

The paper gives its kind (convolutions, global average pooling) and its size, 2.19 M parameters; the layers are ours. Any size
of region works.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Factory, group_norm, normalised_bytes, timestep_embedding
from .state_dict import StateDict, UnsupportedModelError, require, sequence_length

STRIDES = (1, 2, 2, 2, 1, 1, 1)
POOLED = (2, 3, 6)
"""Convolutions whose maps are averaged into the features."""
GROUPS = 8
STATISTICS = 12


@dataclass(frozen=True)
class MmleConfig:
    """Sizes of a gain regressor, all readable from its state dict."""

    latent_channels: int = 4
    widths: tuple[int, ...] = (64, 96, 128, 192, 256, 256, 256)
    time_channels: int = 64
    hidden: int = 256
    metrics: int = 6
    statistics: int = 0
    """Channels made of `latent_statistics`; 0 without them, as in the network of the paper's size."""
    silent: bool = False
    """The weights behind the convolutions are all zero, so that these need not be run."""

    def __post_init__(self) -> None:
        if len(self.widths) != len(STRIDES) or any(width < 1 or width % GROUPS for width in self.widths):
            raise UnsupportedModelError(
                f"A gain regressor has {len(STRIDES)} convolutions with widths that are multiples of {GROUPS}, got {self.widths}."
            )
        if self.time_channels < 4 or self.time_channels % 4:
            raise UnsupportedModelError(
                f"A gain regressor's time vector has a multiple of 4 channels, got {self.time_channels}."
            )

    @property
    def features(self) -> int:
        """Length of the vector behind the convolutions, without the time."""
        return sum(self.widths[i] for i in POOLED)

    @classmethod
    def from_state_dict(cls, sd: StateDict) -> MmleConfig:
        """From the shapes of a canonical state dict. UnsupportedModelError names the first thing that does not fit."""
        count = sequence_length(sd, "convs.{}.weight")
        widths = tuple(int(require(sd, f"convs.{i}.weight").shape[0]) for i in range(max(1, count)))
        inputs = int(require(sd, "convs.0.weight").shape[1])
        if inputs % 3 or len(widths) != len(STRIDES):
            raise UnsupportedModelError(
                f"A gain regressor takes three latents through {len(STRIDES)} convolutions; the file has {len(widths)}, the first "
                f"with {inputs} channels."
            )
        hidden, features = require(sd, "fc1.weight").shape
        statistics = int(require(sd, "stats.weight").shape[0]) if "stats.weight" in sd else 0
        rest = sum(widths[i] for i in POOLED) + statistics
        metrics = int(require(sd, "fc2.weight").shape[0])
        feature_weights = require(sd, "fc1.weight")[:, : rest - statistics]
        silent = statistics > 0 and not feature_weights.is_meta and not bool(feature_weights.any())
        return cls(inputs // 3, widths, int(features) - rest, int(hidden), metrics, statistics, silent)


def _mean_square(x: Tensor) -> Tensor:
    """(N,) of rows; a norm passes over them once and keeps nothing between. 0 of rows without values."""
    rows = x.flatten(1)
    return torch.linalg.vector_norm(rows, dim=1).square() / max(1, rows.shape[1])


def _to_neighbours(latent: Tensor) -> Tensor:
    """Differences of neighbouring cells in a row; one cell wide, latents have neighbours in columns only."""
    axis = -1 if latent.shape[-1] > 1 else -2
    return latent.narrow(axis, 1, latent.shape[axis] - 1) - latent.narrow(axis, 0, latent.shape[axis] - 1)


def latent_statistics(x0: Tensor, x0_prev: Tensor, reference: Tensor) -> Tensor:
    """Logarithms (N, 12), about -2 to 2, of what gains are made of: how far the three latents differ, and how detailed they are (ours).

    A norm forgets sizes, which metrics such as PSNR are all about. Rows: RMS of x0 - o, last x0 - o and x0 - last x0; RMS
    difference of neighbouring cells, and of neighbouring channels, of x0, last x0 and o; of channels, of the three differences.
    """
    latents = [x0.float(), x0_prev.float(), reference.float()]
    differences = [latents[0] - latents[2], latents[1] - latents[2], latents[0] - latents[1]]
    values = [
        *differences,
        *(_to_neighbours(latent) for latent in latents),
        *(latent[:, 1:] - latent[:, :-1] for latent in (*latents, *differences)),
    ]
    squares = torch.stack([_mean_square(value) for value in values], dim=1)  # (N, 12)
    return 0.25 * torch.log(squares + 1e-8) + 1.5


class Mmle(nn.Module):
    """(x0, last x0, reference, t, last t) -> gains in (-1, 1) of every metric."""

    def __init__(
        self,
        config: MmleConfig,
        operations: Any = torch.nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        make = Factory(operations, device, dtype)
        channels = (3 * config.latent_channels, *config.widths)
        self.convs = nn.ModuleList([make.conv3(a, b, s) for (a, b), s in zip(pairwise(channels), STRIDES)])
        self.norms = nn.ModuleList([make.norm(width, groups=GROUPS) for width in config.widths])
        self.stats = make.linear(STATISTICS, config.statistics) if config.statistics else None
        self.fc1 = make.linear(config.features + config.statistics + config.time_channels, config.hidden)
        self.fc2 = make.linear(config.hidden, config.metrics)

    def forward(self, x0: Tensor, x0_prev: Tensor, reference: Tensor, t: Tensor, t_prev: Tensor) -> Tensor:
        """Gains (N, metrics) float32 of latents (N, C, h, w) at timesteps (N,) of 1000; t_prev is the greater one."""
        statistics = None if self.stats is None else latent_statistics(x0, x0_prev, reference)
        if self.config.silent:
            pooled = x0.new_zeros(len(x0), self.config.features, dtype=torch.float32)
        else:
            pooled = self._pooled(torch.cat([x0, x0_prev, reference], dim=1))
        return self.from_features(pooled, statistics, t, t_prev, x0.dtype)

    def _pooled(self, h: Tensor) -> Tensor:
        """Means (N, features) of the convolutions' maps of (N, 3 C, h, w)."""
        pooled: list[Tensor] = []
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            h = F.silu(group_norm(norm, conv(h)))
            if i in POOLED:
                pooled.append(h.float().mean((2, 3)))
        return torch.cat(pooled, dim=1)

    def from_features(
        self, pooled: Tensor, statistics: Tensor | None, t: Tensor, t_prev: Tensor, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Gains of what is known of the latents: means of the convolutions' maps (N, features), `latent_statistics` (N, 12)."""
        half = self.config.time_channels // 2
        parts = [pooled, timestep_embedding(t, half), timestep_embedding(t_prev.float() - t.float(), half)]
        if self.stats is not None and statistics is not None:
            parts.insert(1, F.silu(self.stats(statistics.to(dtype))).float())
        features = torch.cat(parts, dim=1).to(dtype)  # (N, features + statistics + time)
        return torch.tanh(self.fc2(F.silu(self.fc1(features))).float())


def activation_bytes(config: MmleConfig, height: int, width: int, dtype_size: int) -> int:
    """Peak of one region of (height, width) cells: the first map, before and after its float32 norm."""
    inputs, first = 3 * config.latent_channels + 1, config.widths[0]
    normalised = normalised_bytes(dtype_size)
    return (inputs * dtype_size + first * (dtype_size + normalised)) * height * width
