"""ONE_STEP_SR and how it is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import comfy.model_management as mm
import torch

from ...models.compact_denoiser import CompactDenoiserConfig
from ...models.pixel_autoencoder import PixelAutoencoder
from ...models.pixel_denoiser import PixelDenoiserConfig
from ...models.residual_unet_config import ResidualUNetConfig
from ...models.state_dict import StateDict, UnsupportedModelError
from ...models.vq_autoencoder import VQAutoencoder, VQConfig
from ...sampling.schedules import ResidualShiftSchedule, respace, shorten
from ...sampling.tiled import residual_shift_presets as presets
from .. import files
from ..files import AUTO
from ..loading import Loaded, Recipe, build_network, file_patcher, identify_file, network_dtype
from .patchers import DenoiserNetwork, ResidualShiftModel, ResidualShiftVAE

EMBEDDED = tuple(files.EMBEDDED[files.ONE_STEP])
EmbeddedConfig = PixelDenoiserConfig | CompactDenoiserConfig
"""Our own networks': their files carry their schedule, and their latents are rearranged pixels."""
DenoiserConfig = ResidualUNetConfig | EmbeddedConfig
DENOISERS: dict[type[DenoiserConfig], str] = {
    ResidualUNetConfig: "a ResShift, SinSR or TAD-SR denoiser",
    PixelDenoiserConfig: "an embedded one",
    CompactDenoiserConfig: "an embedded one-step network",
}
VQ_AUTOENCODER = {VQConfig: "a VQ autoencoder"}
PUBLISHED_AUTOENCODERS = {3: "autoencoder_vq_f4.pth", 8: "ffhq512_vq_f8_dim8_face.pth"}
"""By latent channels, the file that the ResShift authors publish."""


@dataclass(frozen=True)
class OneStepSR(Loaded):
    """What ONE_STEP_SR carries: a MODEL patcher, a VAE and what the file alone cannot tell."""

    vae: ResidualShiftVAE
    schedule: ResidualShiftSchedule
    one_step_only: bool
    summary: str
    is_embedded: bool

    def schedule_of(self, steps: int) -> ResidualShiftSchedule:
        """Schedule of a chain of 2 to T steps: respaced as the papers' code does, or with both ends kept for our own weights."""
        if steps == self.schedule.num_steps:
            return self.schedule
        return shorten(self.schedule, steps) if self.is_embedded else respace(self.schedule, steps)

    @property
    def lq_factor(self) -> int:
        """Pixels of the LR image along one latent cell."""
        return self.network.config.lq_factor

    @property
    def scale(self) -> int:
        """Output pixels per LR pixel."""
        return self.vae.downscale_ratio // self.lq_factor

    @property
    def network(self) -> DenoiserNetwork:
        """The denoiser itself."""
        return cast("ResidualShiftModel", self.patcher.model).diffusion_model.network


def load_one_step(name: str, autoencoder: str = AUTO, preset: str = AUTO) -> OneStepSR:
    """The chosen checkpoint with its autoencoder; `preset` says what keys cannot (AUTO: from the file name).

    Raises UnsupportedModelError or ValueError with a sentence when a file is damaged, of another kind or does not fit.
    """
    path = files.find_file(files.ONE_STEP, name)
    return _assembled(path, name, preset, lambda config: _autoencoder(autoencoder, config))


def one_step_from_file(path: str, name: str, vae: ResidualShiftVAE) -> OneStepSR:
    """A checkpoint anywhere on disk, with an autoencoder that is loaded already; what keys cannot tell follows from the name."""
    return _assembled(path, name, AUTO, lambda _: vae)


def one_step_at(path: str, autoencoder: str | None) -> OneStepSR:
    """A checkpoint and its autoencoder anywhere on disk; the embedded family needs none."""

    def vae_for(config: DenoiserConfig) -> ResidualShiftVAE:
        if autoencoder is not None:
            weights = files.load_file(autoencoder)
            identify_file(weights, os.path.basename(autoencoder), VQ_AUTOENCODER)
            return _vq_vae(weights)
        if isinstance(config, EmbeddedConfig):
            return ResidualShiftVAE(PixelAutoencoder(), {})
        raise ValueError(
            f"'{os.path.basename(path)}' works on an autoencoder's latents: expected one; give its file too."
        )

    return _assembled(path, os.path.basename(path), AUTO, vae_for)


def _assembled(path: str, name: str, preset: str, vae_for: Callable[[DenoiserConfig], ResidualShiftVAE]) -> OneStepSR:
    weights = files.load_file(path)
    identified = identify_file(weights, name, DENOISERS)
    if identified.config.has_mask:
        raise UnsupportedModelError(
            f"'{name}' is an inpainting checkpoint ({identified.label}): expected a super-resolution one, since this node "
            "has no mask; choose a realsr, bicsr, face, SinSR or TAD-SR file."
        )
    schedule, one_step_only, summary = _training_facts(name, identified.config, preset, weights)
    vae = vae_for(identified.config)
    patcher = file_patcher(path, Recipe(model=partial(_model, schedule, vae.downscale_ratio)), weights=weights)
    is_embedded = isinstance(identified.config, EmbeddedConfig)
    return OneStepSR(patcher, vae, schedule, one_step_only, f"{identified.label}. {summary}", is_embedded)


def _model(
    schedule: ResidualShiftSchedule, downscale: int, network: torch.nn.Module, weights: StateDict
) -> ResidualShiftModel:
    return ResidualShiftModel(cast("DenoiserNetwork", network), schedule, network_dtype(weights), downscale)


def file_paths(name: str, autoencoder: str) -> list[str]:
    """Files that the choices of the loader may read, for its cache key."""
    autoencoders = files.list_files(files.AUTOENCODER) if autoencoder == AUTO else [autoencoder]
    return [files.find_file(files.ONE_STEP, name), *(files.find_file(files.AUTOENCODER, file) for file in autoencoders)]


def _training_facts(
    name: str, config: DenoiserConfig, preset: str, weights: StateDict
) -> tuple[ResidualShiftSchedule, bool, str]:
    """Schedule, whether one step is all that the weights know, and a sentence that says so."""
    if isinstance(config, EmbeddedConfig):  # our own files carry their schedule
        missing = [key for key in ("sqrt_etas", "kappa", "one_step") if key not in weights]
        if missing:
            raise UnsupportedModelError(
                f"'{name}' is damaged (without {', '.join(missing)}): expected a file as the pack ships or trains it; get it again."
            )
        levels = tuple(float(level) for level in weights["sqrt_etas"])
        one_step = bool(weights["one_step"] > 0)
        schedule = ResidualShiftSchedule(levels, float(weights["kappa"]), tuple(range(len(levels))))
        return schedule, one_step, f"{'One-step student' if one_step else f'Teacher of {len(levels)} steps'}, x4."
    chosen = presets.guess_preset(os.path.basename(name), config) if preset == AUTO else presets.PRESETS[preset]
    return presets.schedule(chosen), chosen.one_step, chosen.summary()


def _vq_vae(weights: StateDict) -> ResidualShiftVAE:
    network, fitting = build_network(weights, mm.vae_offload_device(), lambda _: None)
    return ResidualShiftVAE(cast("VQAutoencoder", network), fitting)


def _autoencoder(name: str, config: DenoiserConfig) -> ResidualShiftVAE:
    if isinstance(config, EmbeddedConfig):
        return ResidualShiftVAE(PixelAutoencoder(), {})
    latent_channels = config.latent_channels
    candidates = _autoencoder_candidates(latent_channels) if name == AUTO else [name]
    for candidate in candidates:
        weights = files.load_file(files.find_file(files.AUTOENCODER, candidate))
        if identify_file(weights, candidate, VQ_AUTOENCODER).config.latent_channels == latent_channels:
            return _vq_vae(weights)
    wanted = PUBLISHED_AUTOENCODERS.get(latent_channels, f"a VQ autoencoder with {latent_channels} channels")
    found = ", ".join(candidates) or "nothing"
    raise UnsupportedModelError(
        f"This checkpoint works on latents of {latent_channels} channels, and models/adaptivesr/autoencoder offers {found}: "
        f"expected {wanted}; it is published with ResShift (see the weights table in the README)."
    )


def _autoencoder_candidates(latent_channels: int) -> list[str]:
    """Files of the autoencoder folder, the published name for these latents first."""
    published = os.path.splitext(PUBLISHED_AUTOENCODERS.get(latent_channels, ""))[0]
    return sorted(files.list_files(files.AUTOENCODER), key=lambda name: (published not in name, name))
