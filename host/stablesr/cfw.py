"""CFW and how it is loaded, and decoding with it: the LR image's encoder features fused into the host's KL decoder."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import comfy.ldm.modules.diffusionmodules.model as host_autoencoder
import comfy.model_management as mm
import torch
from comfy.ldm.models.autoencoder import AutoencodingEngine
from comfy.sd import VAE
from torch import Tensor, nn

from ...imaging.resize import bicubic_resize, resize
from ...imaging.tile_plan import snug_grid
from ...imaging.tiles import Merger, Region, gaussian_window
from ...models.cfw import CFW, LEVELS, CFWConfig, autoencoder_weights, feature_bytes, fuse_bytes, fusion_weights
from ...models.state_dict import StateDict, UnsupportedModelError
from .. import files
from ..images import SMALLER_PICTURE, check_room
from ..loading import Loaded, Recipe, file_patcher, identify_file
from ..runtime import HostRuntime

CELL = 8  # pixels of a latent cell of the autoencoders that CFW belongs to
LATENT_CHANNELS = 4
SMALLEST_TILE = 64
FALLBACK_TILES = (1024, 512, 256)
"""Sides in pixels that are tried when memory cannot hold more or runs out; below them the error is final."""
PEAK_ELEMENTS = 725
"""Numbers that a pixel of a tile needs at the peak: 1.52 GB for 1024 x 1024 in float16, counted by `dev.py fullsize stablesr`."""


@dataclass(frozen=True)
class LoadedCFW(Loaded):
    """What CFW carries: the fusion layers in a patcher of their own, to be loaded beside a VAE."""

    summary: str

    @property
    def network(self) -> CFW:
        """The fusion layers."""
        return self.patcher.model


@dataclass(frozen=True)
class Decoding:
    """Choices of a run: fusion strength in [0, 1], largest tile side (0: the whole picture) and least overlap in output pixels."""

    w: float = 0.5
    tile_px: int = 0
    overlap_px: int = 64

    def regions(self, height: int, width: int) -> tuple[Region, ...]:
        """Tiles of a latent of (height, width) cells, no larger than they must be."""
        size = self.tile_px // CELL or max(height, width)
        return snug_grid(height, width, size, -(-self.overlap_px // CELL) if self.tile_px else 0)

    def smaller(self, longest_px: int) -> Decoding | None:
        """What is tried after an out-of-memory error on a picture whose longer side has that many pixels; None: nothing."""
        now = min(self.tile_px or longest_px, longest_px)
        tile = next((side for side in FALLBACK_TILES if side < now), None)
        return replace(self, tile_px=tile, overlap_px=min(self.overlap_px, tile // 4)) if tile else None


# --- Loading ----------------------------------------------------------------------------------------------------------


def load_cfw(name: str) -> tuple[LoadedCFW, VAE]:
    """The fusion layers of a file and the VAE beside them; a file without one gives the host's empty VAE.

    Raises UnsupportedModelError with a sentence when the file is damaged or of another kind.
    """
    return loaded_from_file(files.find_file(files.CFW, name), name)


def loaded_from_file(path: str, name: str) -> tuple[LoadedCFW, VAE]:
    """As `load_cfw`, of a file by its path."""
    weights = files.load_file(path)
    identified = identify_file(weights, name, {CFWConfig: "a StableSR CFW file such as vqgan_cfw_00011.ckpt"})
    autoencoder = autoencoder_weights(weights)
    beside = "with its VAE" if autoencoder else "without a VAE: use the one of the SD 2.1 checkpoint"
    loaded = LoadedCFW(file_patcher(path, RECIPE, weights=weights), f"{identified.label}; {beside}.")
    return loaded, _vae(autoencoder, name)


def _vae(weights: StateDict, name: str) -> VAE:
    """The host's VAE of a file's weights; its constructor raises whatever it meets in damaged ones."""
    try:
        return VAE(sd=weights)
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise UnsupportedModelError(
            f"'{name}' holds a VAE that cannot be built ({' '.join(reason)[:150]}): expected that of Stable Diffusion 2.1; the file is "
            "damaged, get it again from its publisher."
        ) from error


def _vae_devices() -> tuple[torch.device, torch.device]:
    return mm.vae_device(), mm.vae_offload_device()


def _vae_dtype(_weights: StateDict) -> torch.dtype:
    """As the host stores the autoencoder itself."""
    return mm.vae_dtype(mm.vae_device(), [torch.bfloat16, torch.float32])


RECIPE = Recipe(fusion_weights, _vae_dtype, _vae_devices)


# --- Fusing -----------------------------------------------------------------------------------------------------------


@contextmanager
def fusing(autoencoder: nn.Module, cfw: CFW, w: float) -> Iterator[dict[int, Tensor]]:
    """While open, `autoencoder.encoder` leaves its features (by level) in the dict, and the decoder fuses and removes them.

    Both happen at the inputs of down.{1,2}.downsample and up.{1,2}.upsample. The hooks act in this thread only, and are gone
    when the block is left, whatever happens inside.
    """
    features: dict[int, Tensor] = {}
    owner = threading.get_ident()

    def keep(level: int, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if threading.get_ident() == owner:
            features[level] = inputs[0]

    def fuse(level: int, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if threading.get_ident() != owner or level not in features:
            return None
        return cfw(level, features.pop(level), inputs[0], w), *inputs[1:]

    handles: list[Any] = []
    try:
        for level in LEVELS:
            down, up = _resamplers(autoencoder, level)
            handles.append(down.register_forward_pre_hook(partial(keep, level)))
            handles.append(up.register_forward_pre_hook(partial(fuse, level)))
        yield features
    finally:
        for handle in handles:
            handle.remove()


def _resamplers(autoencoder: Any, level: int) -> tuple[Any, Any]:
    """Gives the modules that change a map's size behind a level of the host's encoder and decoder."""
    return autoencoder.encoder.down[level].downsample, autoencoder.decoder.up[level].upsample


def fused_widths(autoencoder: Any) -> list[tuple[int, int]]:
    """(Encoder, decoder) channels at LEVELS of an autoencoder that `check_vae` has passed."""
    return [
        (down.conv.in_channels, up.conv.in_channels)
        for down, up in (_resamplers(autoencoder, level) for level in LEVELS)
    ]


def check_vae(vae: VAE, config: CFWConfig | None, node: str = "CFW Decode") -> None:
    """Raises ValueError with a sentence unless the VAE is a KL autoencoder, and of the shape that the fusion was made for if given."""
    problem = _mismatch(vae, config)
    if problem:
        raise ValueError(
            f"{node} got a VAE {problem}: expected the KL autoencoder of SD 1.x or 2.x, 4 latent channels of 8 x 8 pixels; "
            "connect the VAE of the SD 2.1 checkpoint, or the one that Load CFW gives."
        )


def _mismatch(vae: VAE, config: CFWConfig | None) -> str:
    model = vae.first_stage_model
    if model is None:
        return "without weights"
    known = isinstance(model, AutoencodingEngine)
    plain = (
        known and type(model.encoder) is host_autoencoder.Encoder and type(model.decoder) is host_autoencoder.Decoder
    )
    if not plain or vae.latent_dim != 2:
        return f"of another kind ({type(model).__name__})"
    if vae.latent_channels != LATENT_CHANNELS or vae.downscale_ratio != CELL:
        return f"with {vae.latent_channels} latent channels of {vae.downscale_ratio} x {vae.downscale_ratio} pixels"
    if config is None:
        return ""
    for level, found in zip(LEVELS, fused_widths(model)):
        sizes = config.of(level)
        if found != (sizes.encoder_channels, sizes.channels):
            return f"whose level {level} has {found[0]} and {found[1]} channels where this CFW file takes {sizes.encoder_channels} and {sizes.channels}"
    return ""


# --- Decoding ---------------------------------------------------------------------------------------------------------


def decode_fused(vae: VAE, loaded: LoadedCFW, samples: Tensor, rgb: Tensor, settings: Decoding) -> tuple[Tensor, str]:
    """Pictures (B, 3, 8 h, 8 w) in [0, 1] of latents (B, 4, h, w), and a remark (or "").

    rgb holds the LR image(s) (1 or B, 3, any size) in [0, 1]. At w = 0 without tiles it is the host's own decoding. When memory
    runs out, smaller tiles are tried. Raises ValueError with a sentence for inputs that do not fit.
    """
    check_vae(vae, loaded.network.config)
    _check_inputs(samples, rgb, settings)
    check_room(len(samples), CELL * samples.shape[2], CELL * samples.shape[3], SMALLER_PICTURE)
    if settings.w == 0.0 and settings.tile_px == 0:
        return vae.decode(samples).movedim(-1, 1), ""
    reference = fit_reference(rgb, CELL * samples.shape[2], CELL * samples.shape[3])
    fitting = _fitting(vae, settings, *samples.shape[2:])
    pixels, used = _decode_in_memory(vae, loaded, samples, reference, fitting)
    if used == settings:
        return pixels, ""
    why = "The memory is too small" if used == fitting else "Memory ran out"
    return pixels, f"{why}: decoded in tiles of {used.tile_px} pixels."


def _fitting(vae: VAE, settings: Decoding, height: int, width: int) -> Decoding:
    """The settings, with tiles that the memory holds. On a CPU nothing tells in time that it does not: the system ends the process."""
    room = mm.get_free_memory(vae.device) if mm.is_device_cpu(vae.device) else mm.get_total_memory(vae.device)
    area = settings.regions(height, width)[0].area * CELL**2
    smaller = settings.smaller(CELL * max(height, width))
    if smaller is None or PEAK_ELEMENTS * area * mm.dtype_size(vae.vae_dtype) <= cast("float", room):
        return settings
    return _fitting(vae, smaller, height, width)


def _decode_in_memory(
    vae: VAE, loaded: LoadedCFW, samples: Tensor, reference: Tensor, settings: Decoding
) -> tuple[Tensor, Decoding]:
    """The pictures and the settings with which memory was enough."""
    regions = settings.regions(*samples.shape[2:])
    smaller = settings.smaller(CELL * max(samples.shape[2:]))
    runtime = HostRuntime(len(samples) * len(regions))
    try:
        _load(vae, loaded, regions[0])
        run = partial(_decode_one, vae, loaded, w=settings.w, regions=regions, runtime=runtime)
        return torch.cat([run(z, y) for z, y in zip(samples, reference.expand(len(samples), -1, -1, -1))]), settings
    except Exception as error:
        if smaller is None or not runtime.is_out_of_memory(error):
            raise
    # outside of the except block, so that the failed call's tensors are free before the next one
    logging.warning("CFW Decode ran out of memory; decoding in tiles of %d pixels.", smaller.tile_px)
    return _decode_in_memory(vae, loaded, samples, reference, smaller)


def _load(vae: VAE, loaded: LoadedCFW, tile: Region) -> None:
    """Has the host load both networks, with room for one tile."""
    height, width = CELL * tile.height, CELL * tile.width
    size, config = mm.dtype_size(vae.vae_dtype), loaded.network.config
    peak = max(
        vae.memory_used_encode((1, 3, height, width), vae.vae_dtype),
        vae.memory_used_decode((1, LATENT_CHANNELS, tile.height, tile.width), vae.vae_dtype),
        fuse_bytes(config, height, width, size),
    )
    needed = peak + feature_bytes(config, height, width, size)
    mm.load_models_gpu([vae.patcher, loaded.patcher], memory_required=int(needed), force_full_load=vae.disable_offload)


def _decode_one(
    vae: VAE,
    loaded: LoadedCFW,
    latent: Tensor,
    reference: Tensor,
    *,
    w: float,
    regions: tuple[Region, ...],
    runtime: HostRuntime,
) -> Tensor:
    """One picture (1, 3, H, W) in [0, 1] of a latent (4, h, w); tiles are weighted by a Gaussian window and clamped together."""

    def tile(region: Region) -> Tensor:
        pixels = reference[(None, ..., *region.scaled(CELL).slices)]
        decoded = _decode_tile(vae, loaded.network, latent[(None, ..., *region.slices)], pixels, w)
        runtime.step(1)
        return decoded.float().to(vae.output_device)

    if len(regions) == 1:
        return vae.process_output(tile(regions[0]))
    shape = (1, 3, CELL * latent.shape[1], CELL * latent.shape[2])
    window = gaussian_window(CELL * regions[0].height, CELL * regions[0].width)
    merger = Merger(shape, window, vae.output_device)
    for region in regions:
        merger.add(tile(region)[0], region.scaled(CELL), 0)
    return vae.process_output(merger.finish())


def _decode_tile(vae: VAE, network: CFW, latent: Tensor, pixels: Tensor, w: float) -> Tensor:
    """A tile (1, 3, H, W) as the decoder gives it, of its latent and its part of the LR image in [0, 1]."""
    model = cast("AutoencodingEngine", vae.first_stage_model)
    latent = latent.to(vae.device, vae.vae_dtype)
    if w == 0.0:
        return model.decode(latent)
    with fusing(model, network, w):
        model.encoder(vae.process_input(pixels).to(vae.device, vae.vae_dtype))
        return model.decode(latent)


def fit_reference(image: Tensor, height: int, width: int) -> Tensor:
    """The LR image (B, C, H, W) at the output's size: cropped where VAE Encode cropped it, else enlarged bicubically or reduced."""
    rows, columns = image.shape[-2:]
    if 0 <= rows - height < CELL and 0 <= columns - width < CELL:  # the host's VAE drops what does not fill a cell
        return image[..., (rows - height) // 2 :, (columns - width) // 2 :][..., :height, :width]
    scaled = resize if rows > height or columns > width else bicubic_resize
    return scaled(image, height, width).clamp(0, 1)


def fit_alpha(alpha: Tensor | None, pictures: Tensor) -> Tensor | None:
    """The LR image's transparency (1 or B, 1, any size) for decoded pictures (B, 3, H, W)."""
    if alpha is None:
        return None
    return fit_reference(alpha, *pictures.shape[-2:]).expand(len(pictures), -1, -1, -1)


def _check_inputs(samples: Tensor, rgb: Tensor, settings: Decoding) -> None:
    if samples.ndim != 4 or samples.shape[1] != LATENT_CHANNELS:
        raise ValueError(
            f"CFW Decode got a latent of shape {tuple(samples.shape)}: expected (batch, {LATENT_CHANNELS}, height, width) as SD 1.x "
            "and 2.x make it; connect the latent that was sampled with StableSR."
        )
    if len(rgb) not in (1, len(samples)):
        raise ValueError(
            f"CFW Decode got {len(samples)} latents and {len(rgb)} LR images: expected one LR image, or one for each latent."
        )
    if settings.tile_px and (settings.tile_px < SMALLEST_TILE or not 0 <= settings.overlap_px < settings.tile_px):
        raise ValueError(
            f"CFW Decode got a tile of {settings.tile_px} pixels and an overlap of {settings.overlap_px}: expected 0 for no tiles, or "
            f"a tile of at least {SMALLEST_TILE} and an overlap below it."
        )
