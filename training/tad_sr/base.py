"""What distillation needs of a residual-shift model: a denoiser with feature maps, its schedule, and its latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ...imaging.resize import bicubic_upsample
from ...models.pixel_autoencoder import PixelAutoencoder
from ...models.pixel_denoiser import PixelDenoiser, ResidualDenoiser, upsampled_latent
from ...models.residual_unet import ResidualUNet
from ...models.vq_autoencoder import VQAutoencoder
from ...sampling.samplers import Denoise
from ...sampling.schedules import ResidualShiftSchedule

Denoiser = PixelDenoiser | ResidualUNet
"""Both are called f(x, t, lq), and name what a discriminator sees: `features(x, t, lq, taps=)`, `config.tap_channels(taps)`."""


class Latents(Protocol):
    """The space a denoiser works in. Pictures are (B, 3, H, W) in [-1, 1]."""

    downscale: int
    """Pixels of a picture along one latent cell."""

    def encode(self, picture: Tensor) -> Tensor:
        """z (B, C, h, w), without gradients."""
        ...

    def start(self, lr: Tensor, scale: int) -> Tensor:
        """y: the latent of the LR picture enlarged by `scale`, without gradients."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """The picture, not clamped; differentiable."""
        ...


class PixelLatents:
    """Rearranged pixels: the embedded family's latents."""

    downscale = PixelAutoencoder.downscale

    def __init__(self) -> None:
        self._codec = PixelAutoencoder()

    def encode(self, picture: Tensor) -> Tensor:
        return self._codec.encode(picture)

    def start(self, lr: Tensor, scale: int) -> Tensor:
        return upsampled_latent(lr)

    def decode(self, z: Tensor) -> Tensor:
        return self._codec.decode(z)


class VQLatents:
    """Latents of a frozen VQ autoencoder (ResShift, section 3.1: unscaled)."""

    def __init__(self, autoencoder: VQAutoencoder) -> None:
        self._autoencoder = autoencoder.requires_grad_(False)
        self.downscale = autoencoder.downscale

    @torch.no_grad()
    def encode(self, picture: Tensor) -> Tensor:
        return self._full(self._autoencoder.encode(picture.to(self._dtype)))

    def start(self, lr: Tensor, scale: int) -> Tensor:
        return self.encode(lr if scale == 1 else bicubic_upsample(lr, scale))

    def decode(self, z: Tensor) -> Tensor:
        """Through the codebook, with straight-through gradients."""
        return self._full(self._autoencoder.decode(z.to(self._dtype)))

    @staticmethod
    def _full(tensor: Tensor) -> Tensor:
        """Losses are computed in float32 whatever the autoencoder runs in."""
        return tensor.to(torch.promote_types(tensor.dtype, torch.float32))

    @property
    def _dtype(self) -> torch.dtype:
        return next(self._autoencoder.parameters()).dtype


@dataclass(frozen=True)
class LatentModel:
    """A denoiser with its noise schedule and its latents."""

    network: Denoiser
    schedule: ResidualShiftSchedule
    latents: Latents

    @property
    def scale(self) -> int:
        """Output pixels per LR pixel."""
        return self.latents.downscale // self.network.config.lq_factor

    def denoise(self, lr: Tensor) -> Denoise:
        """The network as a function of scaled latent and time, for an LR picture (B, 3, h f, w f) in [-1, 1]."""
        return bound(self.network, lr)


def bound(network: nn.Module, lr: Tensor) -> Denoise:
    """A denoiser as a function of the scaled latent and the time index."""
    return lambda x, t: network(x, t, lr)


def embedded_model(network: PixelDenoiser) -> LatentModel:
    """A model of the embedded family."""
    return LatentModel(network, schedule_of(network), PixelLatents())


def schedule_of(network: ResidualDenoiser) -> ResidualShiftSchedule:
    """The schedule that travels in a network's buffers."""
    levels = tuple(network.sqrt_etas.tolist())
    return ResidualShiftSchedule(levels, float(network.kappa), tuple(range(len(levels))))
