"""ONE_STEP_SR and how it is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, cast

import comfy.model_management as mm
import torch

from ...models import registry
from ...models.pixel_autoencoder import PixelAutoencoder
from ...models.state_dict import StateDict, UnsupportedModelError
from ...sampling.schedules import ResidualShiftSchedule, respace, shorten
from ...sampling.tiled import residual_shift_presets as presets
from .. import files
from ..building import build_network, identify_file
from .patchers import ResidualShiftVAE, make_patcher, network_dtype

EMBEDDED = {
    "embedded: one step": "embedded_student.safetensors",
    "embedded: teacher, 15 steps": "embedded_teacher.safetensors",
}
AUTO = "auto"
DENOISERS = {
    "residual_unet": "a ResShift, SinSR or TAD-SR denoiser",
    "pixel_denoiser": "an embedded one",
    "compact_denoiser": "an embedded one-step network",
}
PUBLISHED_AUTOENCODERS = {3: "autoencoder_vq_f4.pth", 8: "ffhq512_vq_f8_dim8_face.pth"}
"""By latent channels, the file that the ResShift authors publish."""


@dataclass(frozen=True)
class OneStepSR:
    """What ONE_STEP_SR carries: a MODEL patcher, a VAE and what the file alone cannot tell."""

    patcher: Any
    vae: ResidualShiftVAE
    schedule: ResidualShiftSchedule
    one_step_only: bool
    summary: str
    is_embedded: bool

    def is_dynamic(self) -> bool:
        """Asked by the host's cache."""
        return self.patcher.is_dynamic()

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
    def network(self) -> torch.nn.Module:
        """The denoiser itself."""
        return self.patcher.model.diffusion_model.network


def load_one_step(name: str, autoencoder: str = AUTO, preset: str = AUTO) -> OneStepSR:
    """The chosen checkpoint with its autoencoder; `preset` says what keys cannot (AUTO: from the file name).

    Raises UnsupportedModelError or ValueError with a sentence when a file is damaged, of another kind or does not fit.
    """
    path = model_path(name)
    weights = files.load_file(path)
    identified = _denoiser(weights, name)
    facts = _training_facts(name, identified, preset, weights)
    vae = _autoencoder(autoencoder, cast("Any", identified.config).latent_channels, identified.kind)
    return _assembled(path, weights, identified, facts, vae)


def one_step_from_file(path: str, name: str, vae: ResidualShiftVAE) -> OneStepSR:
    """A checkpoint anywhere on disk, with an autoencoder that is loaded already; what keys cannot tell follows from the name."""
    weights = files.load_file(path)
    identified = _denoiser(weights, name)
    return _assembled(path, weights, identified, _training_facts(name, identified, AUTO, weights), vae)


def one_step_at(path: str, autoencoder: str | None) -> OneStepSR:
    """A checkpoint and its autoencoder anywhere on disk; the embedded family needs none."""
    if autoencoder is None:
        if registry.identify(files.load_file(path)).kind not in registry.WITH_SCHEDULE:
            raise ValueError(
                f"'{os.path.basename(path)}' works on an autoencoder's latents: expected one; give its file too."
            )
        return one_step_from_file(path, os.path.basename(path), ResidualShiftVAE(PixelAutoencoder(), {}))
    weights = files.load_file(autoencoder)
    identify_file(weights, os.path.basename(autoencoder), {"vq_autoencoder": "a VQ autoencoder"})
    vae = ResidualShiftVAE(*build_network(weights, mm.vae_offload_device(), lambda _: None))
    return one_step_from_file(path, os.path.basename(path), vae)


def _denoiser(weights: StateDict, name: str) -> registry.Identified:
    identified = identify_file(weights, name, DENOISERS)
    if cast("Any", identified.config).has_mask:
        raise UnsupportedModelError(
            f"'{name}' is an inpainting checkpoint ({identified.label}): expected a super-resolution one, since this node "
            "has no mask; choose a realsr, bicsr, face, SinSR or TAD-SR file."
        )
    return identified


def _assembled(
    path: str,
    weights: StateDict,
    identified: registry.Identified,
    facts: tuple[ResidualShiftSchedule, bool, str],
    vae: ResidualShiftVAE,
) -> OneStepSR:
    schedule, one_step_only, summary = facts
    patcher = _denoiser_patcher(path, schedule, vae.downscale_ratio, weights=weights)
    return OneStepSR(
        patcher,
        vae,
        schedule,
        one_step_only,
        f"{identified.label}. {summary}",
        identified.kind in registry.WITH_SCHEDULE,
    )


def model_path(name: str) -> str:
    """File behind an entry of the loader's list."""
    return str(files.EMBEDDED_WEIGHTS / EMBEDDED[name]) if name in EMBEDDED else files.find_file(files.ONE_STEP, name)


def file_paths(name: str, autoencoder: str) -> list[str]:
    """Files that the choices of the loader may read, for its cache key."""
    autoencoders = files.list_files(files.AUTOENCODER) if autoencoder == AUTO else [autoencoder]
    return [model_path(name), *(files.find_file(files.AUTOENCODER, file) for file in autoencoders)]


def _training_facts(
    name: str, identified: registry.Identified, preset: str, weights: StateDict
) -> tuple[ResidualShiftSchedule, bool, str]:
    """Schedule, whether one step is all that the weights know, and a sentence that says so."""
    if identified.kind in registry.WITH_SCHEDULE:  # our own files carry their schedule
        levels = tuple(float(level) for level in weights["sqrt_etas"])
        one_step = bool(weights["one_step"] > 0)
        schedule = ResidualShiftSchedule(levels, float(weights["kappa"]), tuple(range(len(levels))))
        return schedule, one_step, f"{'One-step student' if one_step else f'Teacher of {len(levels)} steps'}, x4."
    config: Any = identified.config
    chosen = presets.guess_preset(os.path.basename(name), config) if preset == AUTO else presets.PRESETS[preset]
    return presets.schedule(chosen), chosen.one_step, chosen.summary()


def _denoiser_patcher(
    path: str,
    schedule: ResidualShiftSchedule,
    downscale: int,
    *,
    weights: StateDict | None = None,
    disable_dynamic: bool = False,
) -> Any:
    """MODEL patcher of a file. The host calls it again, without weights, when it needs an unshared copy."""
    network, fitting = build_network(
        files.load_file(path) if weights is None else weights, mm.unet_offload_device(), network_dtype
    )
    patcher = make_patcher(network, fitting, schedule, downscale, disable_dynamic=disable_dynamic)
    patcher.cached_patcher_init = (_denoiser_patcher, (path, schedule, downscale))
    return patcher


def _autoencoder(name: str, latent_channels: int, kind: str) -> ResidualShiftVAE:
    if kind in registry.WITH_SCHEDULE:
        return ResidualShiftVAE(PixelAutoencoder(), {})
    candidates = _autoencoder_candidates(latent_channels) if name == AUTO else [name]
    for candidate in candidates:
        weights = files.load_file(files.find_file(files.AUTOENCODER, candidate))
        identified = identify_file(weights, candidate, {"vq_autoencoder": "a VQ autoencoder"})
        if identified.config.latent_channels == latent_channels:
            return ResidualShiftVAE(*build_network(weights, mm.vae_offload_device(), lambda _: None))
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
