"""The embedded base as MODEL and VAE of the host: its UNet of Stable Diffusion 2 in other sizes, on rearranged pixels."""

from __future__ import annotations

from typing import Any

import comfy.model_base
import comfy.model_management as mm
import comfy.model_patcher
import comfy.supported_models
from comfy.latent_formats import SD15, LatentFormat
from comfy.model_patcher import ModelPatcher

from ..models.latent_base import LATENT_SCALE, SIZES
from ..models.latent_control import EMBEDDED_CHANNELS
from ..models.pixel_autoencoder import PixelAutoencoder
from ..models.state_dict import StateDict, check_fit
from .files import EMBEDDED_WEIGHTS, load_file
from .loading import network_dtype
from .networks import UNetShape, VelocityUNet, unet
from .resshift.patchers import ResidualShiftLatents, ResidualShiftVAE

SHAPE = UNetShape(**SIZES)
FILE = str(EMBEDDED_WEIGHTS / "embedded_latent_base.safetensors")


class EmbeddedLatents(ResidualShiftLatents):
    """Rearranged pixels, scaled to about unit variance."""

    scale_factor = LATENT_SCALE
    half_range = LATENT_SCALE

    def __init__(self) -> None:
        super().__init__(EMBEDDED_CHANNELS, PixelAutoencoder.downscale)
        self.latent_rgb_factors = [[share / LATENT_SCALE for share in row] for row in self.latent_rgb_factors]


def latents_of(channels: int) -> LatentFormat:
    """The format of the latents that a ControlNet of so many channels reads."""
    return EmbeddedLatents() if channels == EMBEDDED_CHANNELS else SD15()


def load_latent_base(path: str = FILE) -> tuple[ModelPatcher, ResidualShiftVAE]:
    """MODEL and VAE, of the weights that ship unless another file is named; UnsupportedModelError if that does not fit."""
    return latent_base_patcher(path), ResidualShiftVAE(PixelAutoencoder(), {})


def latent_base_patcher(path: str, *, weights: StateDict | None = None, disable_dynamic: bool = False) -> ModelPatcher:
    """MODEL of a file; the host calls it again when it needs an unshared copy."""
    fitting = check_fit(unet(SHAPE, kind=VelocityUNet, device="meta"), load_file(path) if weights is None else weights)
    device, offload = mm.get_torch_device(), mm.unet_offload_device()
    config: Any = comfy.supported_models.SD20({**SHAPE.whole(), "adm_in_channels": None})
    config.latent_format = EmbeddedLatents()
    dtype = network_dtype(fitting)
    config.set_inference_dtype(dtype, mm.unet_manual_cast(dtype, device))
    model = comfy.model_base.BaseModel(config, device=offload, unet_model=VelocityUNet)
    model.diffusion_model.requires_grad_(False).eval()
    kind = ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = kind(model, load_device=device, offload_device=offload)
    model.diffusion_model.load_state_dict(fitting, strict=True, assign=patcher.is_dynamic())
    patcher.cached_patcher_init = (latent_base_patcher, (path,))
    return patcher
