"""A one-step denoiser in the shape of a compact enlarger: a plain stack of convolutions at the size of the LR image.

The stack is that of Real-ESRGAN's small networks (Wang et al. 2021; convolutions of 3x3 with PReLU, a pixel shuffle at the
end), so published weights of that shape can start it. The call is that of `pixel_denoiser`: f(x_t / s_t, t, y0) -> x0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .pixel_denoiser import LATENT_CHANNELS, ResidualDenoiser, noise_level_features, rows_of

SLOPE = 0.25  # PReLU's usual start


@dataclass(frozen=True)
class CompactDenoiserConfig:
    """Sizes of a compact denoiser, all readable from its state dict."""

    channels: int = 64
    blocks: int = 16
    time_channels: int = 64
    num_steps: int = 15

    latent_channels = LATENT_CHANNELS
    lq_factor = 1  # LR-condition pixels per latent cell
    size_multiple = 1  # any size: no window, no stride
    has_mask = False

    @property
    def receptive_field(self) -> int:
        """LR pixels on each side that can influence an output cell: y (2, bicubic) in the scaled r_t, body, tail."""
        return 2 + self.blocks + 1

    @classmethod
    def from_state_dict(cls, sd: Mapping[str, object]) -> CompactDenoiserConfig:
        """Sizes from output dimensions and key presence; ValueError names the first key that is missing."""
        return cls(
            channels=rows_of(sd, "head.weight"),
            blocks=sum(1 for key in sd if key.startswith("body.") and key.endswith(".weight")),
            time_channels=rows_of(sd, "film.weight", dim=1),
            num_steps=rows_of(sd, "sqrt_etas"),
        )


class CompactDenoiser(ResidualDenoiser):
    """Predicts the clean latent in one step; see the module docstring."""

    def __init__(
        self,
        config: CompactDenoiserConfig,
        operations: ModuleType | Any = torch.nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(config.num_steps, device)
        self.config = config
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        c, conv = config.channels, operations.Conv2d
        self.head = conv(3, c, 3, padding=1, **factory)
        self.embed_latent = conv(LATENT_CHANNELS, c, 1, bias=False, **factory)
        self.film = operations.Linear(config.time_channels, 2 * c, **factory)
        self.body = nn.ModuleList([conv(c, c, 3, padding=1, **factory) for _ in range(config.blocks)])
        self.slopes = nn.ParameterList(
            [nn.Parameter(torch.full((c,), SLOPE, **factory)) for _ in range(config.blocks + 1)]
        )
        self.tail = conv(c, LATENT_CHANNELS, 3, padding=1, **factory)

    def silence(self) -> None:
        """Makes the first prediction y, whatever noise and noise level: the kernels of these two and of the output become 0."""
        for layer in (self.embed_latent, self.film, self.tail):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def body_features(self, latent: Tensor, sqrt_eta: Tensor, lq: Tensor) -> Tensor:
        """What the tail reads, (B, C, h, w), from the scaled r_t, sqrt(eta) (B,) and the LR image."""
        features = noise_level_features(sqrt_eta, self.config.time_channels).to(lq.dtype)
        scale, shift = self.film(features)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.head(lq) + self.embed_latent(latent), 1 + scale)
        h = F.prelu(h, self.slopes[0].to(h))
        for conv, slope in zip(self.body, list(self.slopes)[1:]):
            h = F.prelu(conv(h), slope.to(h))
        return h

    def _network(self, latent: Tensor, sqrt_eta: Tensor, lq: Tensor) -> Tensor:
        return self.tail(self.body_features(latent, sqrt_eta, lq))
