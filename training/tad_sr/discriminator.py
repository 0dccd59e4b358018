"""The time-aware discriminator of TAD-SR (arXiv 2408.07476, section IV-B, eqs. 9-12) with the published keys."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm

from ...models.layers import Factory, group_norm, timestep_embedding, zero_weights

# Not recoverable from a state dict.
HEAD_GROUPS = 4
LEAK = 0.2


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Sizes of the discriminator: one head per feature map, `channels[i]` wide, stored under the number `scales[i]`."""

    channels: tuple[int, ...]
    scales: tuple[int, ...]
    embed_dim: int
    c_dim: int
    kernel_size: int = 9

    @classmethod
    def for_channels(cls, channels: Sequence[int], *, embed_dim: int, c_dim: int = 64) -> DiscriminatorConfig:
        """A fresh discriminator for feature maps of these widths; TAD-SR has 160, 320, 320, 640, 640 with embed_dim 160."""
        return cls(tuple(channels), tuple(range(len(channels))), embed_dim, c_dim)

    @classmethod
    def from_state_dict(cls, sd: Mapping[str, Tensor]) -> DiscriminatorConfig:
        """Reads the sizes off the weights."""
        found = (re.fullmatch(r"heads\.(\d+)\.cls\.weight_orig", key) for key in sd)
        scales = sorted(int(match[1]) for match in found if match)
        if not scales:
            raise ValueError(
                "Not a time-aware discriminator: no key heads.<i>.cls.weight_orig. The first keys are "
                f"{sorted(sd)[:5]}."
            )
        first = scales[0]
        return cls(
            channels=tuple(_shape(sd, f"out_layers.{i}.3.weight")[0] for i in scales),
            scales=tuple(scales),
            embed_dim=_shape(sd, f"emb_layers.{first}.1.weight")[1],
            c_dim=_shape(sd, f"heads.{first}.cls.weight_orig")[0],
            kernel_size=_shape(sd, f"heads.{first}.main.1.fn.0.weight_orig")[2],
        )


def _shape(sd: Mapping[str, Tensor], key: str) -> tuple[int, ...]:
    if key not in sd:
        raise ValueError(f"The discriminator's state dict lacks {key}; it is incomplete or of another model.")
    return tuple(sd[key].shape)


class TimeAwareDiscriminator(nn.Module):
    """Judges frozen teacher features, modulated by the time at which the latent was perturbed.

    Training mode runs one power iteration of every spectral norm per forward; evaluation uses the stored vectors.
    """

    def __init__(
        self,
        config: DiscriminatorConfig,
        *,
        operations: Any = nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        make = Factory(operations, device, dtype)
        self.emb_layers = nn.ModuleDict()
        self.out_layers = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        # A dict gives the published keys and leaves room for a subset of the scales.
        for scale, channels in zip(config.scales, config.channels):
            name = str(scale)
            self.emb_layers[name] = nn.Sequential(nn.SiLU(), make.linear(config.embed_dim, 2 * channels))
            # Zero-initialised at the end: the discriminator starts blind.
            last = zero_weights(make.conv3(channels, channels))
            # The published widths are multiples of 32; smaller networks have as many groups as fit.
            norm = make.norm(channels, groups=math.gcd(32, channels))
            self.out_layers[name] = nn.Sequential(norm, nn.SiLU(), nn.Identity(), last)
            self.heads[name] = Head(channels, config, make)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """A fresh start that follows from a CPU generator: torch's usual bounds, and blind."""
        for layer in self.modules():
            own = dict(layer.named_parameters(recurse=False))
            kernel = own.get("weight_orig", own.get("weight"))
            if kernel is None:
                continue
            if kernel.ndim == 1:
                kernel.fill_(1.0)
                own["bias"].zero_()
                continue
            bound = (kernel.numel() // kernel.shape[0]) ** -0.5
            for value in own.values():
                value.copy_(bound * (2 * torch.rand(value.shape, generator=generator) - 1))
            for value in layer.buffers(recurse=False):  # the power iteration's vectors
                value.copy_(F.normalize(torch.randn(value.shape, generator=generator), dim=0, eps=1e-12))
        for layers in self.out_layers.values():
            zero_weights(list(layers.children())[-1])

    def forward(self, features: Sequence[Tensor], t: Tensor) -> Tensor:
        """Logits (B, K) of all heads side by side, so that big maps weigh more, as in the released code.

        `features[i]` is (B, channels[i], h_i, w_i); `t` is (B,) int64, the perturbation's time index.
        """
        return torch.cat(self.head_logits(features, t), dim=1)

    def head_logits(self, features: Sequence[Tensor], t: Tensor) -> list[Tensor]:
        """Logits of each head, (B, c_dim * h_i * w_i), index = c * h_i * w_i + position."""
        names = list(self.heads)
        if len(features) != len(names):
            raise ValueError(f"Expected {len(names)} feature maps, one per head, got {len(features)}.")
        embedding = timestep_embedding(t, self.config.embed_dim).to(features[0].dtype)  # (B, embed_dim)
        return [self.heads[name](self._modulate(name, f, embedding)) for name, f in zip(names, features)]

    def _modulate(self, name: str, feature: Tensor, embedding: Tensor) -> Tensor:
        """gamma(t) norm(F) + beta(t), then SiLU and a convolution (TAD-SR, eq. 10), flattened to (B, C, N)."""
        scale, shift = self.emb_layers[name](embedding)[..., None, None].chunk(2, dim=1)  # (B, C, 1, 1)
        norm, *rest = self.out_layers[name].children()
        h = group_norm(norm, feature) * (1.0 + scale) + shift  # (B, C, h, w)
        for layer in rest:
            h = layer(h)
        return h.flatten(2)  # (B, C, N)


class Head(nn.Module):
    """A pointwise block, a residual block over a window of positions, and a classifier; all spectrally normalised."""

    def __init__(self, channels: int, config: DiscriminatorConfig, make: Factory) -> None:
        super().__init__()
        self.main = nn.Sequential(_block(channels, 1, make), Residual(_block(channels, config.kernel_size, make)))
        self.cls = _normalised_conv(channels, config.c_dim, 1, make)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, C, N) -> (B, c_dim * N)."""
        return self.cls(self.main(tokens)).flatten(1)


class Residual(nn.Module):
    """(fn(x) + x) / sqrt(2)."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """Any shape that `fn` keeps."""
        return (self.fn(x) + x) / math.sqrt(2.0)


def _block(channels: int, kernel_size: int, make: Factory) -> nn.Sequential:
    return nn.Sequential(
        _normalised_conv(channels, channels, kernel_size, make),
        make.operations.GroupNorm(math.gcd(HEAD_GROUPS, channels), channels, device=make.device, dtype=make.dtype),
        nn.LeakyReLU(LEAK),
    )


def _normalised_conv(in_channels: int, out_channels: int, kernel_size: int, make: Factory) -> nn.Module:
    conv = make.operations.Conv1d(
        in_channels,
        out_channels,
        kernel_size,
        padding=kernel_size // 2,
        padding_mode="circular",
        device=make.device,
        dtype=make.dtype,
    )
    # The published keys (weight_orig, weight_u, weight_v) are those of this function, not of torch's newer parametrization.
    return spectral_norm(conv)
