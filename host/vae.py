"""Pictures to latents and back by a VAE of the host, in tiles where they are large."""

from __future__ import annotations

from typing import cast

import comfy.model_management as mm
from comfy.sd import VAE
from torch import Tensor

UNTILED_PX = 1024 * 1024
TILE_PX, OVERLAP_PX = 512, 64
"""Larger pictures go through the VAE in tiles, those of the host's VAE Decode (Tiled)."""


def encode(vae: VAE, image: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> latents, in tiles where it is large."""
    mm.throw_exception_if_processing_interrupted()
    pixels = image.movedim(1, -1)
    if image.shape[2] * image.shape[3] <= UNTILED_PX:
        return vae.encode(pixels)
    return vae.encode_tiled(pixels, tile_x=TILE_PX, tile_y=TILE_PX, overlap=OVERLAP_PX)


def decode(vae: VAE, latent: Tensor) -> Tensor:
    """Latents -> (B, 3, H, W) in [0, 1], in tiles where it is large."""
    mm.throw_exception_if_processing_interrupted()
    cell = cast("int", vae.spacial_compression_decode())
    if latent.shape[2] * latent.shape[3] * cell**2 <= UNTILED_PX:
        pixels = vae.decode(latent)
    else:
        tile = TILE_PX // cell
        pixels = vae.decode_tiled(latent, tile_x=tile, tile_y=tile, overlap=OVERLAP_PX // cell)
    return pixels[..., :3].movedim(-1, 1).float()
