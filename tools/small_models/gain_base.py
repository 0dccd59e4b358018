"""A small frozen base and pictures, on which the training of the gain models is tested."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...training.gains.base import Seen


class SmallBase:
    """A frozen denoiser on latents that are the pixels; it reads the low-resolution picture, enlarged."""

    device = torch.device("cpu")
    sigmas = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.2, 0.05, 0.0])
    timesteps = (999.0, 800.0, 600.0, 400.0, 200.0, 0.0)
    pixels_per_cell, scale = 1, 4

    def __init__(self) -> None:
        torch.manual_seed(3)
        self.network = nn.Conv2d(6, 3, 3, padding=1).requires_grad_(False)
        self.calls = 0

    def see(self, lr: Tensor) -> Seen:
        reference = F.interpolate(lr * 2 - 1, scale_factor=4, mode="bilinear")
        return Seen(reference, reference)

    def encode(self, picture: Tensor) -> Tensor:
        return picture * 2 - 1

    def decode(self, latent: Tensor) -> Tensor:
        return latent / 2 + 0.5

    def start(self, seen: Seen, noise: Tensor) -> Tensor:
        return seen.reference + self.sigmas[0] * noise

    def predict(self, x: Tensor, sigma: Tensor, seen: Seen) -> Tensor:
        self.calls += 1
        share = (1 / (1 + sigma**2)).view(-1, 1, 1, 1)
        return (
            (1 - share) * seen.condition + share * x + 0.1 * torch.tanh(self.network(torch.cat([x, seen.condition], 1)))
        )


class SmoothPictures:
    """Smooth pictures with more or less texture, by the generator."""

    side = 16

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
        coarse = F.interpolate(torch.rand(size, 3, 4, 4, generator=generator), size=self.side, mode="bilinear")
        grain = torch.rand(size, 3, self.side, self.side, generator=generator) - 0.5
        target = (coarse + torch.linspace(0, 0.5, size).view(-1, 1, 1, 1) * grain).clamp(0, 1)
        return target, F.avg_pool2d(target, 4)
