"""The whole pack in one call: a picture of any size enlarged in one step, or by a diffusion MODEL whose regions decide their steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, cast

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor

from ..imaging.color import ColorFix, match_color
from ..imaging.resize import pad_to_multiple
from ..sampling.adaptive.choices import JumpRule
from ..sampling.adaptive.types import NoiseSpace
from .adaptive_presets import ORIENTATIONS, PRESETS, UpscalePreset
from .conditioning import empty_prompt
from .gains.choices import GainBackEnd, GainLimits
from .gains.plan import make_plan
from .progress import stage
from .regions.events import RegionDisplay
from .regions.run import Schedule, sample_latent
from .regions.sampler import RegionOptions, noise_space
from .resshift import upscale
from .resshift.loading import EMBEDDED, OneStepSR, load_one_step
from .resshift.patchers import ResidualShiftModel
from .vae import decode, encode

ENLARGING, ENCODED, SAMPLED = 0.2, 0.25, 0.95
"""Ends of the stages on the progress bar, where a MODEL repaints."""


@dataclass(frozen=True)
class Parts:
    """What is connected."""

    one_step: OneStepSR | None = None
    model: ModelPatcher | None = None
    vae: VAE | None = None
    positive: list[Any] | None = None
    negative: list[Any] | None = None


@dataclass(frozen=True)
class UpscaleChoices:
    """Choices of a run; denoise, cfg and tile_px 0 = by preset and model."""

    preset: str = "Balanced"
    seed: int = 0
    denoise: float = 0.0
    cfg: float = 0.0
    tile_px: int = 0


def adaptive_upscale(
    rgb: Tensor,
    size: tuple[int, int],
    parts: Parts,
    choices: UpscaleChoices,
    display: RegionDisplay | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """RGB (B, 3, H, W) in [0, 1] -> (B, 3, height, width) of exactly `size` = (width, height), and a report.

    Without anything connected by the embedded one-step weights. A MODEL repaints what they, or ONE_STEP_SR, have enlarged.
    `display` shows the MODEL's regions, or the tiles where there is none.
    """
    _check(parts)
    start = perf_counter()
    preset = PRESETS[choices.preset]
    one_step = parts.one_step or load_one_step(next(iter(EMBEDDED)))
    share = 1.0 if parts.model is None else ENLARGING
    tiles = display if parts.model is None else None
    result, work = enlarge(one_step, rgb, size, preset, choices.seed, share, tiles)
    report: dict[str, Any] = {"way": "one step", **work}
    if parts.model is not None:
        result, sampled = repaint(result.clamp(0, 1), parts, preset, choices, display)
        report = {"way": "regions", **sampled, "sampling_seconds": sampled["seconds"], "enlarged": work}
    color = preset.color if parts.model is None else ColorFix.WAVELET
    if color is not None:
        result = match_color(result.clamp(0, 1), rgb.clamp(0, 1), color)
    facts = {"preset": choices.preset, "input": work["input"], "output": work["output"]}
    return result, {**report, **facts, "seconds": round(perf_counter() - start, 3)}


def _check(parts: Parts) -> None:
    if parts.model is None:
        given = {"vae": parts.vae, "positive": parts.positive, "negative": parts.negative}
        alone = [name for name, value in given.items() if value is not None]
        if alone:
            raise ValueError(
                f"Got {' and '.join(alone)} without a MODEL: expected them together; connect model, or disconnect the others to upscale "
                "in one step."
            )
        return
    if parts.vae is None:
        raise ValueError(
            "Got a MODEL without a VAE: expected both; connect the VAE of the same checkpoint, or disconnect model to upscale in one "
            "step."
        )
    if isinstance(parts.model.model, ResidualShiftModel):
        raise ValueError(
            "Got the MODEL of Load One-Step SR: expected a diffusion model such as SD 1.5 or SDXL; connect that loader's one_step_sr "
            "output instead."
        )
    if parts.positive is None and "context_dim" not in parts.model.model.model_config.unet_config:
        raise ValueError(
            "Got a MODEL whose empty prompt is not known here, and no prompt: expected 'positive' from a text encoder; connect one."
        )


# --- One step ---------------------------------------------------------------------------------------------------------


def enlarge(
    sr: OneStepSR,
    rgb: Tensor,
    size: tuple[int, int],
    preset: UpscalePreset,
    seed: int,
    share: float = 1.0,
    display: RegionDisplay | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """The picture by ONE_STEP_SR, not clamped; the embedded one-step weights average as many orientations as the preset has.

    share is that of the node's progress bar. `display` shows the tiles, where the picture is enlarged once.
    """
    stage(0.0, share)
    steps = 1 if sr.one_step_only else min(preset.chain_steps, sr.schedule.num_steps)
    settings = upscale.UpscaleSettings(steps, preset.stochastic, overlap_px=preset.overlap, seed=seed)
    if not (sr.is_embedded and sr.one_step_only) or preset.orientations == 1:
        return upscale.upscale_rgb(sr, rgb, size, settings, display)
    total, reports = torch.zeros(()), []
    for index in range(preset.orientations):
        stage(*(share * place / preset.orientations for place in (index, index + 1)))
        turned_size = (size[1], size[0]) if index >= ORIENTATIONS // 2 else size
        result, report = upscale.upscale_rgb(sr, turned(rgb, index), turned_size, settings)
        total = total + turned_back(result, index)
        reports.append(report)
    summed = {name: sum(report[name] for report in reports) for name in ("network_calls", "latent_mpx", "seconds")}
    if reports[0]["tflop"] is not None:
        summed["tflop"] = round(sum(report["tflop"] for report in reports), 6)
    return total / preset.orientations, {**reports[0], **summed, "orientations": preset.orientations}


def turned(image: Tensor, index: int) -> Tensor:
    """Flip or turn 0 to 7 of (..., H, W); 0 changes nothing, from 4 on the sides are exchanged."""
    return _flipped(image.mT if index & 4 else image, index)


def turned_back(image: Tensor, index: int) -> Tensor:
    """Inverse of `turned`."""
    flipped = _flipped(image, index)
    return flipped.mT if index & 4 else flipped


def _flipped(image: Tensor, index: int) -> Tensor:
    return image.flip([dim for dim, bit in ((-1, 1), (-2, 2)) if index & bit])


# --- Regions ----------------------------------------------------------------------------------------------------------


def repaint(
    large: Tensor, parts: Parts, preset: UpscalePreset, choices: UpscaleChoices, display: RegionDisplay | None = None
) -> tuple[Tensor, dict[str, Any]]:
    """The enlarged picture (B, 3, H, W) in [0, 1] sampled anew by the MODEL, region by region with gains, and their report."""
    height, width = large.shape[2:]
    model, vae = cast("ModelPatcher", parts.model), cast("VAE", parts.vae)
    stage(ENLARGING, ENCODED)
    latent = encode(vae, pad_to_multiple(large, cast("int", vae.spacial_compression_encode())))
    empty = empty_prompt(model)
    positive, negative = (empty if prompt is None else prompt for prompt in (parts.positive, parts.negative))
    cfg = choices.cfg or (preset.cfg if parts.positive is not None else 1.0)
    scheduler = "simple" if noise_space(model.get_model_object("model_sampling")) is NoiseSpace.FLOW else "normal"
    gain = make_plan(GainBackEnd.PROXIES.value, preset.tau, JumpRule.LADDER.value, "", GainLimits())
    overlap = min(preset.region_overlap, choices.tile_px // 2) if choices.tile_px else preset.region_overlap
    options = RegionOptions(choices.tile_px, overlap, gain=gain)
    schedule = Schedule(choices.seed, preset.steps, cfg, scheduler, choices.denoise or preset.denoise)
    # Every image gets the noise of the first one, so that a batch gives what its images give alone.
    start = {"samples": latent, "batch_index": [0] * len(latent)}
    stage(ENCODED, SAMPLED)
    sampled, report = sample_latent(model, positive, negative, start, schedule, options, display)
    stage(SAMPLED, 1.0)
    return decode(vae, sampled["samples"])[..., :height, :width], report


def counted(number: int, noun: str) -> str:
    """The number with its noun, in the plural but for one."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def describe(report: Mapping[str, Any]) -> str:
    """The report in a line."""
    if report["way"] == "regions":
        regions = counted(report["tiles"], "region")
        work = f"{counted(report['region_calls'], 'region call')} in {regions}, {report['skipped']:.0%} saved"
    else:
        work = counted(report["network_calls"], "network call")
    return f"{report['preset']}, {report['way']}: {report['output']}, {work}, {report['seconds']:.1f} s"
