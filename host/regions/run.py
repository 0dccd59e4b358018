"""All of a region run behind one call: sigmas, noise, guider, memory; and its forecast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import comfy.model_management as mm
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from torch import Tensor

from ...imaging.tiles import Region
from ...sampling.adaptive.plan import Forecast, forecast
from ...sampling.noise import gaussian_region
from ..gains.models import PARTS
from ..loading import base_model, latent_format
from ..runtime import rows_that_fit
from .events import RegionDisplay
from .fitting import choice_report, tiles_of
from .sampler import (
    MOST_ROWS,
    RegionOptions,
    RegionSampler,
    check_latent,
    noise_space,
    place_of,
    regions_of,
    row_bytes,
)

WRAPPER = "adaptivesr_region_memory"


@dataclass(frozen=True)
class Schedule:
    """How the noise falls, by the names of the host's KSampler."""

    seed: int
    steps: int
    cfg: float
    scheduler: str
    denoise: float


def sample_latent(
    model: ModelPatcher,
    positive: list[Any],
    negative: list[Any],
    latent: dict[str, Any],
    schedule: Schedule,
    options: RegionOptions,
    display: RegionDisplay | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Samples a LATENT and gives a report. Noise is what the host's KSampler draws for the seed, or that of the canvas's place."""
    samples = _fitting(model, latent)
    noise_space(model.get_model_object("model_sampling"))
    sigmas = comfy.samplers.KSampler(
        model, schedule.steps, model.load_device, "euler", schedule.scheduler, schedule.denoise, model.model_options
    ).sigmas
    place = place_of(base_model(model), options)
    if place is None:
        noise = cast("Tensor", comfy.sample.prepare_noise(samples, schedule.seed, latent.get("batch_index")))
    else:
        channels, height, width = samples.shape[1:]
        noise = gaussian_region(channels, *place, height, width, seed=schedule.seed).expand(len(samples), -1, -1, -1)
    result, report = sample_canvas(
        model,
        (positive, negative),
        samples,
        noise,
        sigmas,
        cfg=schedule.cfg,
        seed=schedule.seed,
        options=options,
        mask=latent.get("noise_mask"),
        display=display,
    )
    kept = {key: value for key, value in latent.items() if not key.startswith("downscale_ratio_")}
    settings = {
        "scheduler": schedule.scheduler,
        "cfg": schedule.cfg,
        "denoise": schedule.denoise,
        "seed": schedule.seed,
    }
    sizes = {"tile_px": options.tile_px, "overlap_px": options.overlap_px}
    return {**kept, "samples": result}, {**settings, **sizes, **report}


def sample_canvas(
    model: ModelPatcher,
    conditions: tuple[list[Any], list[Any]],
    samples: Tensor,
    noise: Tensor,
    sigmas: Tensor,
    *,
    cfg: float,
    seed: int,
    options: RegionOptions,
    mask: Tensor | None = None,
    display: RegionDisplay | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Samples latents (B, C, h, w) under the positive and negative conditioning from this noise, and gives the sampler's report."""
    guider = comfy.samplers.CFGGuider(with_region_memory(model, samples, options))
    guider.set_conds(*conditions)
    guider.set_cfg(cfg)
    sampler = RegionSampler(options, display)
    result = guider.sample(
        noise,
        samples,
        sampler,
        sigmas,
        denoise_mask=mask,
        callback=latent_preview.prepare_callback(model, len(sigmas) - 1),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    return result.to(mm.intermediate_device()), sampler.report


def _fitting(model: ModelPatcher, latent: dict[str, Any]) -> Tensor:
    """Checks that latents (B, C, h, w) have the model's channels; empty ones are adapted as the host does."""
    check_latent(latent["samples"])
    ratio = [latent["downscale_ratio_spacial"]] if latent.get("downscale_ratio_spacial") is not None else []
    samples = comfy.sample.fix_empty_latent_channels(model, latent["samples"], *ratio)
    check_latent(samples)
    channels = latent_format(model).latent_channels
    if samples.shape[1] != channels:
        raise ValueError(
            f"Got a LATENT of {samples.shape[1]} channels for a MODEL of {channels}: expected latents of the model's own kind; "
            "encode the picture with the VAE that belongs to the model."
        )
    return samples


def with_region_memory(model: ModelPatcher, samples: Tensor, options: RegionOptions) -> ModelPatcher:
    """Returns a clone of the MODEL for which the host makes room for a call of regions, and not for the whole canvas."""
    region = regions_of(base_model(model), samples.shape[2:], options)[0]
    rows = wanted_rows(model, samples.shape[1], region, options)

    def prepare(
        executor: WrapperExecutor, patcher: ModelPatcher, shape: Sequence[int], *args: Any, **kwargs: Any
    ) -> tuple[Any, ...]:
        return executor(patcher, [rows, shape[1], region.height, region.width], *args, **kwargs)

    clone = model.clone()
    if options.gain is not None and options.gain.patchers():
        clone.set_additional_models(PARTS, options.gain.patchers())
    clone.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, WRAPPER, prepare)
    return clone


def wanted_rows(model: ModelPatcher, channels: int, region: Region, options: RegionOptions) -> int:
    """Tells how many regions one call has: as chosen, or what fits beside the model on a device that holds nothing else."""
    if options.rows:
        return options.rows
    device = model.load_device
    if device.type == "cpu":
        return rows_that_fit(device, 1.0)
    room = cast("int", mm.get_total_memory(device)) - mm.minimum_inference_memory() - model.model_size()
    return max(1, min(MOST_ROWS, int(room / row_bytes(base_model(model), channels, region))))


def plan(
    model: ModelPatcher, width: int, height: int, images: int, steps: int, options: RegionOptions, *, passes: int = 1
) -> tuple[Forecast, dict[str, Any], dict[str, Any]]:
    """Forecasts a run on pictures of width x height pixels, what it needs of memory by the host's estimate, and its tiles.

    passes is 2 with guidance; it counts in the cost of the tiles alone.
    """
    latents = latent_format(model)
    noise_space(model.get_model_object("model_sampling"))
    downscale, channels = latents.spacial_downscale_ratio, latents.latent_channels
    size = max(1, height // downscale), max(1, width // downscale)
    found = tiles_of(base_model(model), size, options.tile_px, options.overlap_px)
    regions = found.regions
    rows = wanted_rows(model, channels, regions[0], options)
    call = rows * row_bytes(base_model(model), channels, regions[0])
    canvas = images * base_model(model).memory_required([2, channels, *size])
    weights = model.model_size()
    memory = {
        "rows_per_call": rows,
        "model_gb": round(weights / 2**30, 3),
        "call_gb": round(call / 2**30, 3),
        "total_gb": round((weights + call) / 2**30, 3),
        "untiled_call_gb": round(canvas / 2**30, 3),
    }
    work = forecast(regions, images=images, steps=steps, rows_per_call=rows)
    return work, memory, choice_report(base_model(model), found, passes * steps * images)
