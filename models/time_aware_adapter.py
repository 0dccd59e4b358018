"""Time-aware adapters: one gate per site that scales a ControlNet's residual by place and timestep (TASR, section 3.2).

Each gate is a map alpha (B, 1, h, w) made from the UNet's feature, the skip connection, the ControlNet's residual and the
time embedding; the caller adds alpha * residual where a plain ControlNet adds the residual. Names: h the feature of the
previous UNet layer (B, C_h, h, w); s the skip (B, C_s, h, w), absent at the middle block; r the residual, already scaled by
the ControlNet's strength; e the UNet's time embedding (B, emb), before its SiLU.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Factory, group_norm, zero_weights
from .time_aware_adapter_config import TimeAwareAdaptersConfig

__all__ = ["TimeAwareAdapters", "TimeAwareAdaptersConfig"]

GROUPS_INSIDE = 16


class FullAdapter(nn.Module):
    """The published design, whose keys and arithmetic a TASR file needs.

    Differs from the paper's figure as the published code does: features enter twice, SiLU for ReLU, GroupNorm with scale
    and shift for AdaLN, three convolutions for two.
    """

    def __init__(self, channels: int, emb_channels: int, make: Factory) -> None:
        super().__init__()
        inner = channels // 4
        self.in_layers = nn.Sequential(make.norm(channels), nn.SiLU(), make.conv3(channels, inner))
        self.emb_layers = nn.Sequential(nn.SiLU(), make.linear(emb_channels, 2 * inner))
        last = make.conv3(inner // 2, 1)
        self.out_layers = nn.Sequential(
            make.norm(inner, groups=GROUPS_INSIDE), nn.SiLU(), make.conv3(inner, inner // 2), nn.SiLU(), last
        )

    @staticmethod
    def features(h: Tensor, s: Tensor | None, r: Tensor) -> Tensor:
        """[h, s + r, h, s, r], at the middle block [h + r, h, r]."""
        return torch.cat([h + r, h, r] if s is None else [h, s + r, h, s, r], dim=1)

    @property
    def last(self) -> nn.Module:
        return self.out_layers[4]

    @property
    def reads_time(self) -> nn.Linear:
        return cast("nn.Linear", self.emb_layers[1])

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        x = self.in_layers[2](F.silu(group_norm(self.in_layers[0], x)))  # (B, m, h, w)
        x = modulated(group_norm(self.out_layers[0], x), self.emb_layers[1](F.silu(emb)))
        return self.out_layers[4](F.silu(self.out_layers[2](F.silu(x))))


class LiteAdapter(nn.Module):
    """Our small design: inputs once, reduced by a 1x1 convolution, then one 3x3 at constant width (72 times fewer weights)."""

    def __init__(self, channels: int, emb_channels: int, width: int, make: Factory) -> None:
        super().__init__()
        self.proj = make.conv1(channels, width)
        self.norm1 = make.norm(width)
        self.conv1 = make.conv3(width, width)
        self.emb = make.linear(emb_channels, 2 * width)
        self.norm2 = make.norm(width)
        self.conv2 = make.conv3(width, 1)

    @staticmethod
    def features(h: Tensor, s: Tensor | None, r: Tensor) -> Tensor:
        """[h, s, r], at the middle block [h, r]."""
        return torch.cat([h, r] if s is None else [h, s, r], dim=1)

    @property
    def last(self) -> nn.Module:
        return self.conv2

    @property
    def reads_time(self) -> nn.Linear:
        return cast("nn.Linear", self.emb)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        x = self.conv1(F.silu(group_norm(self.norm1, self.proj(x))))  # (B, M, h, w)
        return self.conv2(F.silu(modulated(group_norm(self.norm2, x), self.emb(F.silu(emb)))))


class PaperAdapter(nn.Module):
    """The design as the paper words it (section 3.2, fig. 3): [h, r], two convolutions, normalisation by time, ReLU.

    Ours where the paper is silent: a quarter of the channels inside, and no normalisation of the single output map, which
    would erase it.
    """

    def __init__(self, channels: int, emb_channels: int, make: Factory) -> None:
        super().__init__()
        inner = channels // 4
        self.conv1 = make.conv3(channels, inner)
        self.emb = make.linear(emb_channels, 2 * inner)
        self.norm = make.norm(inner, groups=GROUPS_INSIDE)
        self.conv2 = make.conv3(inner, 1)

    @staticmethod
    def features(h: Tensor, s: Tensor | None, r: Tensor) -> Tensor:
        """[h, r] everywhere."""
        return torch.cat([h, r], dim=1)

    @property
    def last(self) -> nn.Module:
        return self.conv2

    @property
    def reads_time(self) -> nn.Linear:
        return cast("nn.Linear", self.emb)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.conv2(F.relu(modulated(group_norm(self.norm, self.conv1(x)), self.emb(F.silu(emb)))))


Adapter = FullAdapter | LiteAdapter | PaperAdapter


def modulated(x: Tensor, scale_shift: Tensor) -> Tensor:
    """x (1 + scale) + shift with (scale, shift) the halves of (B, 2 C), one pair per sample and channel."""
    scale, shift = scale_shift[:, :, None, None].chunk(2, dim=1)
    return x * (1 + scale) + shift


class TimeAwareAdapters(nn.Module):
    """All adapters of a network; keys are `{site}.0.<layer>`, as in the published file."""

    def __init__(
        self,
        config: TimeAwareAdaptersConfig,
        *,
        operations: Any = nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        make = Factory(operations, device, dtype)
        for site, channels in enumerate(config.inputs):
            self.add_module(str(site), nn.ModuleList([_adapter(config, channels, make)]))
        if config.alpha_max != 2.0:  # files of the published design have no such entry
            self.register_buffer("alpha_max", torch.full((), config.alpha_max, device=device))

    def site(self, index: int) -> Adapter:
        """The adapter of a site."""
        return cast("Adapter", self.get_submodule(f"{index}.0"))

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Uniform initialisation within 1 / sqrt(fan in), norms 1, and a last convolution of zeros: alpha = alpha_max / 2."""
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                bound = 1 / math.sqrt(parameter[0].numel())
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
            else:
                nn.init.constant_(parameter, 1.0 if name.endswith("weight") else 0.0)
        for index in range(len(self.config.inputs)):
            zero_weights(self.site(index).last)

    def forget_time(self) -> None:
        """Takes the timestep from all gates, and keeps it from them in training: the weights that read it are zero and stay so."""
        for index in range(len(self.config.inputs)):
            nn.init.zeros_(self.site(index).reads_time.weight).requires_grad_(False)

    def forward_site(
        self,
        index: int,
        h: Tensor,
        skip: Tensor | None,
        residual: Tensor,
        emb: Tensor,
        *,
        alpha_max: float | None = None,
    ) -> Tensor:
        """alpha (B, 1, h, w) in (0, alpha_max) at site `index`: alpha_max sigmoid(adapter) (TASR fig. 2b with alpha_max 1).

        ValueError if the tensors do not have the channels that this site's adapter was made for.
        """
        adapter = self.site(index)
        x = adapter.features(h, skip, residual.to(h.dtype))
        if x.shape[1] != self.config.inputs[index] or emb.shape[1] != self.config.emb_channels:
            raise ValueError(
                f"The time-aware adapter of site {index} takes {self.config.inputs[index]} channels and a time embedding of "
                f"{self.config.emb_channels}, got {x.shape[1]} and {emb.shape[1]}: the adapter belongs to another base "
                "model; connect the model it was trained with (Stable Diffusion 2.1 for the published file)."
            )
        top = self.config.alpha_max if alpha_max is None else alpha_max
        return top * torch.sigmoid(adapter(x, emb.to(h.dtype)))


def _adapter(config: TimeAwareAdaptersConfig, channels: int, make: Factory) -> Adapter:
    if config.design == "full":
        return FullAdapter(channels, config.emb_channels, make)
    if config.design == "lite":
        return LiteAdapter(channels, config.emb_channels, config.width, make)
    return PaperAdapter(channels, config.emb_channels, make)
