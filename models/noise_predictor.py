"""The noise predictor of InvSR: a convolutional encoder with attention that sees the LR image and a start index.

Yue et al. 2025 (InvSR), section 3.2: it gives a Gaussian over the latent noise map that diffusion is to be started with.
Module and key names are those of the published weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Attention, Factory, group_norm, scaled_dot_product, timestep_embedding
from .state_dict import StateDict, UnsupportedModelError, require, sequence_length
from .vq_blocks import VQDownsample

HEAD_DIM = 64
"""Channels of one attention head in the published network; shapes do not tell it."""
GROUPS = 32
"""Groups of every normalisation in the published network; shapes do not tell it."""
EPS = 1e-6
LATENT_CHANNELS = 4
LATENT_DOWNSCALE = 8  # pixels of the enlarged image along one latent cell of the Stable Diffusion autoencoder
MOST_LEVELS = 4
LOGVAR_RANGE = (-30.0, 20.0)
TIME_KEY = "encoder.time_embedding.linear_1.weight"
"""Tells this network from the autoencoder's encoder, which has the same names otherwise."""


@dataclass(frozen=True)
class NoisePredictorConfig:
    """Hyper-parameters of NoisePredictor; per-level tuples run from the image's resolution to the latent's."""

    channels: tuple[int, ...]
    layers: tuple[int, ...]
    sinusoid_dim: int
    time_channels: int
    out_channels: int
    mid_attention: bool
    head_dim: int = HEAD_DIM
    groups: int = GROUPS

    @classmethod
    def from_state_dict(cls, sd: StateDict, *, head_dim: int = HEAD_DIM, groups: int = GROUPS) -> NoisePredictorConfig:
        """Reads the shapes of a canonical state dict; UnsupportedModelError names what does not fit."""
        time_channels, sinusoid_dim = require(sd, TIME_KEY).shape
        levels = sequence_length(sd, "encoder.down_blocks.{}.resnets.0.conv1.weight")
        if not 1 <= levels <= MOST_LEVELS:
            require(sd, "encoder.down_blocks.0.resnets.0.conv1.weight")
            raise UnsupportedModelError(
                f"This noise predictor has {levels} levels: expected 1 to {MOST_LEVELS} (2 are the published x4 network)."
            )
        blocks = [f"encoder.down_blocks.{level}" for level in range(levels)]
        config = cls(
            channels=tuple(require(sd, f"{block}.resnets.0.conv1.weight").shape[0] for block in blocks),
            layers=tuple(sequence_length(sd, f"{block}.resnets.{{}}.conv1.weight") for block in blocks),
            sinusoid_dim=sinusoid_dim,
            time_channels=time_channels,
            out_channels=require(sd, "encoder.conv_out.weight").shape[0],
            mid_attention="encoder.mid_block.attentions.0.to_q.weight" in sd,
            head_dim=head_dim,
            groups=groups,
        )
        config.check()
        return config

    def check(self) -> None:
        """Raises UnsupportedModelError for widths or outputs that no network of this kind has."""
        odd = [width for width in self.channels if width % self.head_dim or width % self.groups]
        if odd:
            raise UnsupportedModelError(
                f"This noise predictor has levels of {', '.join(map(str, odd))} channels: expected multiples of {self.head_dim} "
                f"and {self.groups}; the file is damaged or comes from a modified network."
            )
        if self.out_channels not in (LATENT_CHANNELS, 2 * LATENT_CHANNELS):
            raise UnsupportedModelError(
                f"This noise predictor gives {self.out_channels} channels: expected {2 * LATENT_CHANNELS} (mean and log-variance) "
                f"or {LATENT_CHANNELS} (the noise itself)."
            )

    @property
    def is_distribution(self) -> bool:
        """Whether the output is a mean and a log-variance, and not the noise itself."""
        return self.out_channels == 2 * LATENT_CHANNELS

    @property
    def factor(self) -> int:
        """Pixels of the LR image along one latent cell."""
        return 1 << (len(self.channels) - 1)

    @property
    def scale(self) -> int:
        """Output pixels per LR pixel: the number of levels fixes it."""
        return LATENT_DOWNSCALE // self.factor

    @property
    def label(self) -> str:
        """What a user should read about the network."""
        published = self.channels == (256, 512) and self.layers == (3, 3)
        kind = "published layout" if published else f"custom, {'-'.join(map(str, self.channels))} channels"
        return f"InvSR noise predictor, x{self.scale} ({kind})"


def activation_bytes(config: NoisePredictorConfig, height: int, width: int, dtype_size: int) -> int:
    """Upper estimate of the peak activations for ONE latent of (height, width) cells, with fused attention."""
    pixels = height * width * config.factor**2
    # Attention is the dearest: its input, the tokens and their contiguous copy, q, k, v and theirs, what comes out and its copy.
    maps = max(11 * width / 4**level for level, width in enumerate(config.channels))
    return int(maps * pixels * dtype_size)


@dataclass(frozen=True)
class DiagonalGaussian:
    """A normal distribution of independent values, (B, C, h, w) each; float32."""

    mean: Tensor
    logvar: Tensor

    @classmethod
    def from_moments(cls, moments: Tensor) -> DiagonalGaussian:
        """Mean and log-variance are the halves of the channels; the log-variance is clamped to [-30, 20]."""
        mean, logvar = moments.float().chunk(2, dim=1)
        return cls(mean, logvar.clamp(*LOGVAR_RANGE))

    @property
    def std(self) -> Tensor:
        """The deviation exp(logvar / 2)."""
        return (0.5 * self.logvar).exp()

    def sample(self, noise: Tensor) -> Tensor:
        """mean + std noise, for standard normal noise."""
        return self.mean + self.std * noise

    def kl(self, *, with_mean: bool = True) -> Tensor:
        """KL divergence (B,) to N(0, I), 1/2 sum(mean^2 + var - 1 - logvar) (Kingma & Welling 2014, appendix B).

        Without the mean it measures the variance alone.
        """
        terms = self.logvar.exp() - 1.0 - self.logvar
        if with_mean:
            terms = terms + self.mean.square()
        return 0.5 * terms.flatten(1).sum(1)


class TimedSizes(Protocol):
    """What blocks that see the time want to know of a network."""

    @property
    def sinusoid_dim(self) -> int: ...
    @property
    def time_channels(self) -> int: ...
    @property
    def groups(self) -> int: ...


class TimeEmbedding(nn.Module):
    """Two linear layers on the sinusoid."""

    def __init__(self, config: TimedSizes, make: Factory) -> None:
        super().__init__()
        self.linear_1 = make.linear(config.sinusoid_dim, config.time_channels)
        self.linear_2 = make.linear(config.time_channels, config.time_channels)

    def forward(self, sinusoid: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(sinusoid)))


class ResnetBlock(nn.Module):
    """Two 3x3 convolutions with a residual; the time embedding is added between them."""

    def __init__(
        self, in_channels: int, out_channels: int, config: TimedSizes, make: Factory, eps: float = EPS
    ) -> None:
        super().__init__()
        self.norm1 = make.norm(in_channels, eps, groups=config.groups)
        self.conv1 = make.conv3(in_channels, out_channels)
        self.time_emb_proj = make.linear(config.time_channels, out_channels)
        self.norm2 = make.norm(out_channels, eps, groups=config.groups)
        self.conv2 = make.conv3(out_channels, out_channels)
        self.conv_shortcut = None if in_channels == out_channels else make.conv1(in_channels, out_channels)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.silu(group_norm(self.norm1, x)))
        h = h + self.time_emb_proj(F.silu(emb))[:, :, None, None]
        h = self.conv2(F.silu(group_norm(self.norm2, h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class SelfAttention(nn.Module):
    """Attention of all positions to all, in heads, with a residual."""

    def __init__(self, channels: int, config: NoisePredictorConfig, attention: Attention, make: Factory) -> None:
        super().__init__()
        self._attention, self._heads = attention, channels // config.head_dim
        self.group_norm = make.norm(channels, EPS, groups=config.groups)
        self.to_q = make.linear(channels, channels)
        self.to_k = make.linear(channels, channels)
        self.to_v = make.linear(channels, channels)
        self.to_out = nn.ModuleList([make.linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        tokens = group_norm(self.group_norm, x).flatten(2).transpose(1, 2)  # (B, L, C)
        q, k, v = (self._split(layer(tokens)) for layer in (self.to_q, self.to_k, self.to_v))
        out = self._attention(q, k, v).transpose(1, 2).flatten(2)  # (B, L, C)
        return x + self.to_out[0](out).transpose(1, 2).reshape(x.shape)

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(2, (self._heads, -1)).transpose(1, 2)  # (B, heads, L, d)


class DownBlock(nn.Module):
    """The layers of one resolution, each a residual block and attention, and the change to the next."""

    def __init__(
        self, level: int, inner: int, config: NoisePredictorConfig, attention: Attention, make: Factory
    ) -> None:
        super().__init__()
        outer, count = config.channels[level], config.layers[level]
        widths = [inner, *[outer] * count]
        self.resnets = nn.ModuleList([ResnetBlock(widths[i], outer, config, make) for i in range(count)])
        self.attentions = nn.ModuleList([SelfAttention(outer, config, attention, make) for _ in range(count)])
        last = level == len(config.channels) - 1
        self.downsamplers = None if last else nn.ModuleList([VQDownsample(outer, make)])

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        for resnet, attention in zip(self.resnets, self.attentions):
            x = attention(resnet(x, emb))
        return x if self.downsamplers is None else self.downsamplers[0](x)


class MidBlock(nn.Module):
    """Two residual blocks, around attention where the network has it."""

    def __init__(self, config: NoisePredictorConfig, attention: Attention, make: Factory) -> None:
        super().__init__()
        width = config.channels[-1]
        self.resnets = nn.ModuleList([ResnetBlock(width, width, config, make) for _ in range(2)])
        self.attentions = (
            nn.ModuleList([SelfAttention(width, config, attention, make)]) if config.mid_attention else None
        )

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        x = self.resnets[0](x, emb)
        if self.attentions is not None:
            x = self.attentions[0](x)
        return self.resnets[1](x, emb)


class TimeAwareEncoder(nn.Module):
    """Everything of the network; the published keys have it under `encoder`."""

    def __init__(self, config: NoisePredictorConfig, attention: Attention, make: Factory) -> None:
        super().__init__()
        self.time_embedding = TimeEmbedding(config, make)
        self.conv_in = make.conv3(3, config.channels[0])
        before = [config.channels[0], *config.channels[:-1]]
        self.down_blocks = nn.ModuleList(
            [DownBlock(level, inner, config, attention, make) for level, inner in enumerate(before)]
        )
        self.mid_block = MidBlock(config, attention, make)
        self.conv_norm_out = make.norm(config.channels[-1], EPS, groups=config.groups)
        self.conv_out = make.conv3(config.channels[-1], config.out_channels)

    def forward(self, x: Tensor, sinusoid: Tensor) -> Tensor:
        emb = self.time_embedding(sinusoid).to(x.dtype)  # (B, time_channels)
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x, emb)
        x = self.mid_block(x, emb)
        return self.conv_out(F.silu(group_norm(self.conv_norm_out, x)))


class NoisePredictor(nn.Module):
    """LR image and start index -> moments of the start noise, at one latent cell per `config.factor` LR pixels."""

    def __init__(
        self,
        config: NoisePredictorConfig,
        *,
        operations: Any = torch.nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        attention: Attention | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = TimeAwareEncoder(config, attention or scaled_dot_product, Factory(operations, device, dtype))

    def forward(self, image: Tensor, timesteps: Tensor) -> Tensor:
        """Raw output (B, 8, h, w): mean and log-variance, not clamped (or (B, 4, h, w), the noise itself).

        image is (B, 3, H, W) in [0, 1] at LR resolution; timesteps (B,) are indices tau - 1, integer or float, not rescaled.
        h = floor(H / factor).
        """
        return self.encoder(image * 2 - 1, timestep_embedding(timesteps, self.config.sinusoid_dim))

    def distribution(self, output: Tensor) -> DiagonalGaussian:
        """What the raw output says; a network that gives the noise itself is certain of it."""
        if self.config.is_distribution:
            return DiagonalGaussian.from_moments(output)
        return DiagonalGaussian(output.float(), torch.full_like(output, -torch.inf, dtype=torch.float32))
