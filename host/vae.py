"""Pictures to latents and back by a VAE of the host, in tiles where they are large."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import comfy.model_management as mm
from comfy.sd import VAE
from torch import Tensor

from ..imaging.tile_plan import snug_grid
from ..imaging.tiles import Merger, Region, gaussian_window

UNTILED_PX = 1024 * 1024
TILE_PX, OVERLAP_PX = 1024, 128
"""Pictures of more pixels go through the VAE in tiles of so many. The host's VAE Encode (Tiled) goes over a picture three times, with
tiles of three shapes whose seams it averages; these are four times as large and blended where they overlap, so once will do.
"""


def encode(vae: VAE, image: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> latents, in tiles where it is large."""
    mm.throw_exception_if_processing_interrupted()
    pixels = image.movedim(1, -1)
    if image.shape[2] * image.shape[3] <= UNTILED_PX:
        return vae.encode(pixels)
    if vae.latent_dim != 2:
        return vae.encode_tiled(pixels)
    cell = cast("int", vae.spacial_compression_encode())
    pixels = vae.vae_encode_crop_pixels(pixels)

    def run(region: Region) -> Tensor:
        rows, columns = region.scaled(cell).slices
        return vae.encode(pixels[:, rows, columns])

    return _in_tiles(run, pixels.shape[1] // cell, pixels.shape[2] // cell, cell, 1)


def decode(vae: VAE, latent: Tensor) -> Tensor:
    """Latents -> (B, 3, H, W) in [0, 1], in tiles where it is large."""
    mm.throw_exception_if_processing_interrupted()
    cell = cast("int", vae.spacial_compression_decode())
    if latent.shape[-2] * latent.shape[-1] * cell**2 <= UNTILED_PX:
        return _channels_first(vae.decode(latent))
    if vae.latent_dim != 2:
        return _channels_first(vae.decode_tiled(latent))

    height, width = latent.shape[2:]

    def run(region: Region) -> Tensor:
        return _channels_first(vae.decode(latent[(..., *region.slices)]))

    return _in_tiles(run, height, width, cell, cell)


def _channels_first(pixels: Tensor) -> Tensor:
    return pixels[..., :3].movedim(-1, 1).float()


def _in_tiles(run: Callable[[Region], Tensor], height: int, width: int, cell: int, scale: int) -> Tensor:
    """What run makes (B, C, scale h, scale w) of each region of a latent of (height, width) cells, blended by a Gaussian window."""
    regions = snug_grid(height, width, TILE_PX // cell, OVERLAP_PX // cell)
    window = gaussian_window(scale * regions[0].height, scale * regions[0].width)
    merger: Merger | None = None
    for region in regions:
        mm.throw_exception_if_processing_interrupted()
        tile = run(region)
        if merger is None:
            merger = Merger((*tile.shape[:2], scale * height, scale * width), window, tile.device)
        for image, part in enumerate(tile):
            merger.add(part, region.scaled(scale), image)
    return cast("Merger", merger).finish()
