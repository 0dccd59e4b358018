"""The host's networks as `training.invsr.steps.OneStepBase`, and the networks that a run of InvSR starts with."""

from __future__ import annotations

from typing import Any

import comfy.model_management as mm
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor, nn

from ...models import registry
from ...models.judges.latent_lpips import LatentLPIPS, own_tensors
from ...models.noise_predictor import NoisePredictor
from ...models.state_dict import UnsupportedModelError, check_fit
from ...training.checkpointing import recompute
from .. import files
from ..invsr.loading import NoisePredictorModel
from ..invsr.noise import BASE, check_base
from ..invsr.upscale import HostVAE
from .networks import FrozenNetworks, frozen_parts

LPIPS_FILE = "vgg16_sdturbo_lpips.pth"


class TurboNetworks(FrozenNetworks):
    """A frozen SD-Turbo."""

    @property
    def sigmas(self) -> Tensor:
        return ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()

    def predict(self, z: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """Noise (B, 4, h, w)."""
        with self.cast():
            return self._unet(z, t, context=text).float()

    def save_memory(self) -> None:
        """Gradient checkpointing of the UNet, through which the predictor's gradients come."""
        unet: Any = self._unet
        blocks = (*unet.input_blocks, unet.middle_block, *unet.output_blocks)
        recompute(layer for block in blocks for layer in block)


def turbo_of(model: ModelPatcher, vae: VAE, precision: torch.dtype, *, checkpointing: bool) -> TurboNetworks:
    """Frozen copies of MODEL (with its patches) and VAE, which passed `check_turbo`."""
    base = TurboNetworks(*frozen_parts(model, vae), precision)
    if checkpointing:
        base.save_memory()
    return base


def check_turbo(model: ModelPatcher, vae: VAE) -> None:
    """ValueError with a sentence for a MODEL or VAE that InvSR cannot start."""
    check_base(model)
    network = model.model.diffusion_model
    if not isinstance(network, UNetModel) or network.num_classes is not None or network.in_channels != 4:
        raise ValueError(
            f"The MODEL is a {type(network).__name__} of another kind: expected a text-to-image UNet of 4 channels without a label; "
            f"load {BASE}."
        )
    HostVAE(vae)


def latent_lpips(name: str, device: torch.device) -> LatentLPIPS:
    """The frozen metric in a file of models/adaptivesr/latent_lpips; UnsupportedModelError for another."""
    weights = files.load_file(files.find_file(files.LATENT_LPIPS, name))
    identified = registry.identify(weights)
    if identified.kind != "latent_lpips":
        raise UnsupportedModelError(f"'{name}' is of another kind ({identified.label}): expected {LPIPS_FILE}.")
    network = LatentLPIPS()
    network.load_state_dict(check_fit(network, own_tensors(weights)))
    return network.float().to(device).eval().requires_grad_(False)


def predictor_copy(start: NoisePredictorModel) -> NoisePredictor:
    """A copy of a loaded predictor in float32, which can learn."""
    mm.load_models_gpu([start.patcher], force_full_load=True)
    source: nn.Module = start.patcher.model
    network = NoisePredictor(start.config)
    network.load_state_dict({key: value.detach().float().cpu().clone() for key, value in source.state_dict().items()})
    return network
