"""The embedded model's latent space: pixels rearranged by a factor of four, nothing learned and nothing lost."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PixelAutoencoder(nn.Module):
    """Space-to-depth by four: exact, without parameters, so fidelity is never capped by a small codec."""

    downscale: int = 4
    latent_channels: int = 48

    def encode(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) pixels in [-1, 1], H and W multiples of 4, to (B, 48, H/4, W/4)."""
        if image.shape[-2] % self.downscale or image.shape[-1] % self.downscale:
            raise ValueError(
                f"image is {tuple(image.shape[-2:])} pixels, expected multiples of {self.downscale}: pad it first"
            )
        return F.pixel_unshuffle(image, self.downscale)  # (B, 48, h, w)

    def decode(self, z: Tensor) -> Tensor:
        """(B, 48, h, w) to (B, 3, 4h, 4w) pixels in [-1, 1], not clamped."""
        return F.pixel_shuffle(z, self.downscale)
