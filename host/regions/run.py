"""All of a region run behind one call: sigmas, noise, guider, memory; and its forecast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.model_management as mm
import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
from torch import Tensor

from ...imaging.tiles import Region
from ...sampling.adaptive.plan import Forecast, forecast
from ..gains.models import PARTS
from ..runtime import rows_that_fit
from .events import RegionDisplay
from .sampler import MOST_ROWS, RegionOptions, RegionSampler, check_latent, noise_space, regions_of, row_bytes

WRAPPER = "adaptivesr_region_memory"


@dataclass(frozen=True)
class Schedule:
    """How the noise falls, in the host's words."""

    seed: int
    steps: int
    cfg: float
    scheduler: str
    denoise: float


def sample_latent(
    model: Any,
    positive: Any,
    negative: Any,
    latent: dict[str, Any],
    schedule: Schedule,
    options: RegionOptions,
    display: RegionDisplay | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The sampled LATENT and a report. Noise is what the host's KSampler draws for the seed."""
    samples = _fitting(model, latent)
    noise_space(model.get_model_object("model_sampling"))
    sigmas = comfy.samplers.KSampler(
        model, schedule.steps, model.load_device, "euler", schedule.scheduler, schedule.denoise, model.model_options
    ).sigmas
    noise = comfy.sample.prepare_noise(samples, schedule.seed, latent.get("batch_index"))
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
    model: Any,
    conditions: tuple[Any, Any],
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
    """Latents (B, C, h, w) sampled under the positive and negative conditioning from this noise, and the sampler's report."""
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


def _fitting(model: Any, latent: dict[str, Any]) -> Tensor:
    """Latents (B, C, h, w) of the model's channels; empty ones are adapted as the host does."""
    check_latent(latent["samples"])
    ratio = [latent["downscale_ratio_spacial"]] if latent.get("downscale_ratio_spacial") is not None else []
    samples = comfy.sample.fix_empty_latent_channels(model, latent["samples"], *ratio)
    check_latent(samples)
    channels = model.get_model_object("latent_format").latent_channels
    if samples.shape[1] != channels:
        raise ValueError(
            f"Got a LATENT of {samples.shape[1]} channels for a MODEL of {channels}: expected latents of the model's own kind; "
            "encode the picture with the VAE that belongs to the model."
        )
    return samples


def with_region_memory(model: Any, samples: Tensor, options: RegionOptions) -> Any:
    """A clone of the MODEL for which the host makes room for a call of regions, and not for the whole canvas."""
    downscale = model.get_model_object("latent_format").spacial_downscale_ratio
    region = regions_of(samples.shape[2:], downscale, options)[0]
    rows = wanted_rows(model, samples.shape[1], region, options)

    def prepare(executor: Any, patcher: Any, noise_shape: Any, conds: Any, *args: Any, **kwargs: Any) -> Any:
        return executor(patcher, [rows, noise_shape[1], region.height, region.width], conds, *args, **kwargs)

    clone = model.clone()
    if options.gain is not None and options.gain.patchers():
        clone.set_additional_models(PARTS, options.gain.patchers())
    clone.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING, WRAPPER, prepare)
    return clone


def wanted_rows(model: Any, channels: int, region: Region, options: RegionOptions) -> int:
    """Regions in one call: as chosen, or what fits beside the model on a device that holds nothing else."""
    if options.rows:
        return options.rows
    device = model.load_device
    if device.type == "cpu":
        return rows_that_fit(device, 1.0)
    room = mm.get_total_memory(device) - mm.minimum_inference_memory() - model.model_size()
    return max(1, min(MOST_ROWS, int(room / row_bytes(model.model, channels, region))))


def plan(
    model: Any, width: int, height: int, images: int, steps: int, options: RegionOptions
) -> tuple[Forecast, dict[str, Any]]:
    """Forecast of a run on pictures of width x height pixels, and what it needs of memory by the host's estimate."""
    latent = model.get_model_object("latent_format")
    noise_space(model.get_model_object("model_sampling"))
    downscale, channels = latent.spacial_downscale_ratio, latent.latent_channels
    regions = regions_of((max(1, height // downscale), max(1, width // downscale)), downscale, options)
    rows = wanted_rows(model, channels, regions[0], options)
    call = rows * row_bytes(model.model, channels, regions[0])
    canvas = images * model.model.memory_required(
        [2, channels, max(1, height // downscale), max(1, width // downscale)]
    )
    weights = model.model_size()
    memory = {
        "rows_per_call": rows,
        "model_gb": round(weights / 2**30, 3),
        "call_gb": round(call / 2**30, 3),
        "total_gb": round((weights + call) / 2**30, 3),
        "untiled_call_gb": round(canvas / 2**30, 3),
    }
    return forecast(regions, images=images, steps=steps, rows_per_call=rows), memory
