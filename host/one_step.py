"""Loading ONE_STEP_SR and running it on images."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import comfy.model_management as mm
import torch
from torch import Tensor

from ..imaging.resize import resize
from ..models import registry
from ..models.pixel_autoencoder import PixelAutoencoder
from ..models.state_dict import StateDict, UnsupportedModelError, check_fit
from ..pipelines import residual_shift_presets as presets
from ..pipelines.one_step_sr import Chain, Plan, Tiling, upscale
from ..sampling.schedules import ResidualShiftSchedule, respace
from . import files
from .residual_shift import OPERATIONS, ResidualShiftVAE, host_attention, make_patcher, network_dtype
from .runtime import HostRuntime, rows_that_fit

EMBEDDED = {
    "embedded: one step": "embedded_student.safetensors",
    "embedded: teacher, 15 steps": "embedded_teacher.safetensors",
}
AUTO = "auto"
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

    def is_dynamic(self) -> bool:
        """Asked by the host's cache."""
        return self.patcher.is_dynamic()

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
    identified = _identify(weights, name, ("residual_unet", "pixel_denoiser"))
    config: Any = identified.config
    if config.has_mask:
        raise UnsupportedModelError(
            f"'{name}' is an inpainting checkpoint ({identified.label}): expected a super-resolution one, since this node "
            "has no mask; choose a realsr, bicsr, face, SinSR or TAD-SR file."
        )
    schedule, one_step_only, summary = _training_facts(name, identified, preset, weights)
    vae = _autoencoder(autoencoder, config.latent_channels, identified.kind)
    patcher = _denoiser_patcher(path, schedule, vae.downscale_ratio, weights=weights)
    return OneStepSR(patcher, vae, schedule, one_step_only, f"{identified.label}. {summary}")


def model_path(name: str) -> str:
    """File behind an entry of the loader's list."""
    return str(files.EMBEDDED_WEIGHTS / EMBEDDED[name]) if name in EMBEDDED else files.find_file(files.ONE_STEP, name)


def file_paths(name: str, autoencoder: str) -> list[str]:
    """Files that the choices of the loader may read, for its cache key."""
    autoencoders = files.list_files(files.AUTOENCODER) if autoencoder == AUTO else [autoencoder]
    return [model_path(name), *(files.find_file(files.AUTOENCODER, file) for file in autoencoders)]


def _identify(weights: StateDict, name: str, kinds: tuple[str, ...]) -> registry.Identified:
    try:
        identified = registry.identify(weights)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"'{name}': {error}") from error
    if identified.kind not in kinds:
        raise UnsupportedModelError(
            f"'{name}' holds a {identified.label}: expected {' or '.join(kinds).replace('_', ' ')}; "
            "move the file to the folder of its kind."
        )
    return identified


def _training_facts(
    name: str, identified: registry.Identified, preset: str, weights: StateDict
) -> tuple[ResidualShiftSchedule, bool, str]:
    """Schedule, whether one step is all that the weights know, and a sentence that says so."""
    if identified.kind == "pixel_denoiser":  # our own files carry their schedule
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
    network, fitting = _build(
        files.load_file(path) if weights is None else weights, mm.unet_offload_device(), network_dtype
    )
    patcher = make_patcher(network, fitting, schedule, downscale, disable_dynamic=disable_dynamic)
    patcher.cached_patcher_init = (_denoiser_patcher, (path, schedule, downscale))
    return patcher


def _build(
    weights: StateDict, device: torch.device, dtype_of: Callable[[StateDict], torch.dtype | None]
) -> tuple[torch.nn.Module, StateDict]:
    """A network of the host's layers and the tensors to load into it, which are known to fit."""
    identified = registry.identify(weights)
    # Checked on a plain copy without memory: the host's layers may have no weights before they are loaded.
    fitting = check_fit(registry.build(identified, device="meta"), weights)
    network = registry.build(
        identified, operations=OPERATIONS, device=device, dtype=dtype_of(fitting), attention=host_attention
    )
    return network, fitting


def _autoencoder(name: str, latent_channels: int, kind: str) -> ResidualShiftVAE:
    if kind == "pixel_denoiser":
        return ResidualShiftVAE(PixelAutoencoder(), {})
    candidates = _autoencoder_candidates(latent_channels) if name == AUTO else [name]
    for candidate in candidates:
        weights = files.load_file(files.find_file(files.AUTOENCODER, candidate))
        identified = _identify(weights, candidate, ("vq_autoencoder",))
        if identified.config.latent_channels == latent_channels:
            return ResidualShiftVAE(*_build(weights, mm.vae_offload_device(), lambda _: None))
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


class HostDenoiser:
    """`pipelines.protocols.Denoiser` of a loaded patcher."""

    def __init__(self, sr: OneStepSR) -> None:
        self._network, self._device = sr.network, sr.patcher.load_device
        self._dtype = sr.patcher.model.get_dtype_inference()
        self.lq_factor, self.size_multiple = sr.lq_factor, sr.network.config.size_multiple

    def __call__(self, x: Tensor, timesteps: Tensor, lq: Tensor, *, full_precision: bool = False) -> Tensor:
        dtype = torch.float32 if full_precision else self._dtype
        x, lq = x.to(self._device, dtype), lq.to(self._device, dtype)
        return self._network(x, timesteps.to(self._device), lq).float().to(mm.intermediate_device())


class HostAutoencoder:
    """`pipelines.protocols.Autoencoder` of a loaded VAE."""

    def __init__(self, vae: ResidualShiftVAE) -> None:
        self._vae = vae
        self.downscale, self.latent_channels = vae.downscale_ratio, vae.latent_channels

    def encode(self, image: Tensor) -> Tensor:
        return self._run(self._vae.first_stage_model.encode, image)

    def decode(self, latent: Tensor) -> Tensor:
        return self._run(self._vae.first_stage_model.decode, latent)

    def _run(self, function: Any, tensor: Tensor) -> Tensor:
        result = function(tensor.to(self._vae.device, self._vae.vae_dtype))
        return result.float().to(self._vae.output_device)


@dataclass(frozen=True)
class Settings:
    """Choices of a run: steps 0 = as trained, tile and overlap in pixels of the network's input, rows 0 = automatic."""

    steps: int = 0
    stochastic: bool = True
    tile_px: int = 256
    overlap_px: int = 32
    rows: int = 0
    seed: int = 0


def target_size(width: int, height: int, scale: float, target_width: int, target_height: int) -> tuple[int, int]:
    """(width, height) of the result: exact sides where given (one alone keeps the aspect), else the scale."""
    if target_width and target_height:
        return target_width, target_height
    if target_width:
        return target_width, max(1, round(height * target_width / width))
    if target_height:
        return max(1, round(width * target_height / height)), target_height
    return max(1, round(width * scale)), max(1, round(height * scale))


def upscale_rgb(sr: OneStepSR, rgb: Tensor, size: tuple[int, int], settings: Settings) -> tuple[Tensor, dict[str, Any]]:
    """RGB (B, 3, H, W) in [0, 1] -> (B, 3, height, width) of exactly `size` = (width, height), not clamped, and a report."""
    start = perf_counter()
    width, height = size
    if sr.scale == 1:  # a restorer: it sees the image at its final size
        rgb = resize(rgb, height, width).clamp(0, 1)
    chain, schedule = chain_for(sr, settings)
    tiling = _tiling(sr, settings)
    denoiser, autoencoder = HostDenoiser(sr), HostAutoencoder(sr.vae)
    plan = Plan.of(rgb, denoiser, autoencoder, tiling, 1 if chain is Chain.ONE_STEP else schedule.num_steps)
    _load(sr, tiling)
    result, work = upscale(
        rgb * 2 - 1,
        denoiser=denoiser,
        autoencoder=autoencoder,
        schedule=schedule,
        chain=chain,
        seed=settings.seed,
        tiling=tiling,
        runtime=HostRuntime(plan.total_rows),
    )
    result = resize(result.add_(1).div_(2), height, width)
    report = {
        "model": sr.summary,
        "chain": chain.value,
        "steps": plan.steps,
        "input": f"{plan.batch} x {plan.width_px}x{plan.height_px}",
        "output": f"{width}x{height}",
        **asdict(work),
        "latent_mpx": round(work.latent_cells / 1e6, 6),
        "decoded_per_output": round(work.decoded_px / (plan.batch * plan.height_px * plan.width_px * plan.scale**2), 4),
        "seconds": round(perf_counter() - start, 3),
    }
    return result, report


def chain_for(sr: OneStepSR, settings: Settings) -> tuple[Chain, ResidualShiftSchedule]:
    """Chain and its schedule; refuses step counts that the weights were not trained for."""
    steps = settings.steps or (1 if sr.one_step_only else sr.schedule.num_steps)
    if steps == 1:
        return Chain.ONE_STEP, sr.schedule
    if sr.one_step_only:
        raise ValueError(
            f"Got steps = {steps} for weights that know one step only ({sr.summary}): expected 0 or 1; load a multi-step "
            "teacher, or choose its preset in the loader."
        )
    if steps > sr.schedule.num_steps:
        raise ValueError(
            f"Got steps = {steps} for a chain of {sr.schedule.num_steps} ({sr.summary}): expected 0 (all), 1 or up to "
            f"{sr.schedule.num_steps}."
        )
    schedule = sr.schedule if steps == sr.schedule.num_steps else respace(sr.schedule, steps)
    return Chain.STOCHASTIC if settings.stochastic else Chain.DETERMINISTIC, schedule


def _tiling(sr: OneStepSR, settings: Settings) -> Tiling:
    """Tiles in latent cells: the side goes up to what the network can take, the rows come from the host's memory."""
    multiple = sr.network.config.size_multiple
    cells = max(1, settings.tile_px // sr.lq_factor)
    size = cells + -cells % multiple
    overlap = settings.overlap_px // sr.lq_factor
    if overlap > size // 2:
        raise ValueError(
            f"Got an overlap of {settings.overlap_px} pixels for tiles of {size * sr.lq_factor}: expected at most half a tile, "
            "beyond which every pixel would be computed many times; lower overlap or raise tile."
        )
    if settings.rows:
        return Tiling(size, overlap, settings.rows, settings.rows)
    latent = (1, sr.vae.latent_channels, size, size)
    denoise = rows_that_fit(sr.patcher.load_device, sr.patcher.model.memory_required(latent))
    autoencode = rows_that_fit(sr.vae.device, sr.vae.memory_used_decode(latent, sr.vae.vae_dtype))
    return Tiling(size, overlap, denoise, autoencode)


def _load(sr: OneStepSR, tiling: Tiling) -> None:
    latent = (1, sr.vae.latent_channels, tiling.size, tiling.size)
    denoise = tiling.denoise_rows * sr.patcher.model.memory_required(latent)
    autoencode = tiling.autoencode_rows * sr.vae.memory_used_decode(latent, sr.vae.vae_dtype)
    mm.load_models_gpu([sr.patcher, sr.vae.patcher], memory_required=max(denoise, autoencode))
