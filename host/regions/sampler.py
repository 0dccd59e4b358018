"""The region sampler as a SAMPLER of the host: one canvas, regions at noise levels of their own, on any MODEL of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import comfy.model_management as mm
import comfy.model_sampling
import comfy.samplers
import comfy.utils
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_base import BaseModel
from comfy.samplers import CFGGuider
from torch import Tensor

from ...imaging.tiles import Region
from ...sampling.adaptive.choices import MergeMode
from ...sampling.adaptive.plan import policy_for
from ...sampling.adaptive.sampler import canvas_noise, sample_regions
from ...sampling.adaptive.steppers import stepper_for
from ...sampling.adaptive.types import (
    MeasuredCall,
    NoiseField,
    NoiseSpace,
    RegionObserver,
    RegionResult,
    RegionWork,
    Row,
    rows_of,
)
from ...sampling.batching import BatchSize
from ..gains.feature_injection import InjectionRun
from ..gains.plan import GainPlan, GainRun, outlined
from ..runtime import is_out_of_memory, rows_that_fit
from .conditions import CanvasConditions
from .controls import adapter_bytes
from .denoiser import KeptLatent, RegionDenoiser, check_model_patches
from .events import RegionDisplay, RegionLayout
from .fitting import arithmetic, tiles_of

MOST_ROWS = 16
PREVIEW_SHARE = 0.05
"""Of the running time, what previews may take."""

Callback = Callable[[int, Tensor, Tensor, int], None]
"""The host's (step, x0, x, total)."""


@dataclass(frozen=True)
class RegionOptions:
    """Choices of a run: tile (0 = by the model's kind) and overlap in pixels, rows 0 = automatic, budget (M, H, W) in [0, 1] or None, or gains.

    place_px: (top, left) of the canvas on a larger one, in pixels, whose noise it gets (None: noise of its own).
    """

    tile_px: int = 512
    overlap_px: int = 128
    merge: MergeMode = MergeMode.CONSENSUS
    rows: int = 0
    sampler: str = "euler"
    budget: Tensor | None = None
    gain: GainPlan | None = None
    place_px: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.budget is not None and self.gain is not None:
            raise ValueError(
                "Got both 'budget' and 'gain', which each decide about the steps of a region: expected one of them; disconnect "
                "the other."
            )


def regions_of(model: BaseModel, latent_size: Sequence[int], options: RegionOptions) -> tuple[Region, ...]:
    """Returns the regions of a canvas of (h, w) cells."""
    return tiles_of(model, latent_size, options.tile_px, options.overlap_px).regions


def row_bytes(model: BaseModel, channels: int, region: Region) -> float:
    """Returns the host's estimate of memory for one region in a call, positive and negative together."""
    return model.memory_required([2, channels, region.height, region.width])


def place_of(model: BaseModel, options: RegionOptions) -> tuple[int, int] | None:
    """(top, left) of the canvas on a larger one, in cells. Raises ValueError for a place between cells."""
    if options.place_px is None:
        return None
    (top, left), cell = options.place_px, model.latent_format.spacial_downscale_ratio
    if top % cell or left % cell:
        raise ValueError(
            f"Got noise_top {top} and noise_left {left}: expected multiples of the {cell} pixels that a cell of the latent has."
        )
    return top // cell, left // cell


def check_latent(latent: Tensor) -> None:
    """Raises ValueError with a sentence for anything but finite maps (B, C, h, w)."""
    nested = getattr(latent, "is_nested", False)
    if not nested and latent.ndim == 5 and latent.shape[2] == 1:
        raise ValueError(
            f"Got a LATENT of one frame, {tuple(latent.shape)} (Qwen-Image, Wan and their like): expected maps (batch, channels, height, "
            "width), without an axis of time; such models cannot be cut into regions here, use the host's KSampler for them."
        )
    if nested or latent.ndim != 4:
        shape = "several latents in one" if nested else f"shape {tuple(latent.shape)}"
        raise ValueError(
            f"Got a LATENT of {shape}: expected maps (batch, channels, height, width); models of video, audio or 3D cannot be "
            "cut into regions here, use the host's KSampler for them."
        )
    if not bool(torch.isfinite(latent).all()):
        raise ValueError(
            "Got a LATENT with NaN or infinite values: expected finite ones; look at the picture that was encoded, and run the VAE in "
            "float32 (--fp32-vae)."
        )


def text_width(model: BaseModel) -> int | None:
    """The channels of text that a UNet reads; None for other networks, and for UNets without text."""
    config = model.model_config.unet_config
    width = config.get("context_dim") if isinstance(model.diffusion_model, UNetModel) else None
    return width if isinstance(width, int) else None


def noise_space(model_sampling: object) -> NoiseSpace:
    """Tells what the model's noisy latents are. Raises ValueError that names the kind of model where regions are not defined."""
    kinds = comfy.model_sampling
    outside = tuple(getattr(kinds, name) for name in ("IMG_TO_IMG", "IMG_TO_IMG_FLOW") if hasattr(kinds, name))
    if isinstance(model_sampling, kinds.CONST) and not isinstance(model_sampling, outside):
        return NoiseSpace.FLOW
    if isinstance(model_sampling, kinds.EPS) and not isinstance(model_sampling, outside):
        return NoiseSpace.VARIANCE_EXPLODING
    names = (c.__name__ for c in type(model_sampling).__mro__ if c.__module__ == kinds.__name__)
    kind = next((name for name in names if not name.startswith("ModelSampling")), "unknown")
    raise ValueError(
        f"This MODEL predicts '{kind}': expected eps, v, x0, EDM or flow prediction (SD 1.x, 2.x, SDXL, SD3, Flux and their "
        "like); use the host's KSampler for it."
    )


class RegionSampler(comfy.samplers.Sampler):
    """Samples a guider's model region by region; `report` describes the last run, `display` shows it meanwhile."""

    def __init__(self, options: RegionOptions, display: RegionDisplay | None = None) -> None:
        self.options = options
        self.display = display or RegionDisplay(None)
        self.report: dict[str, Any] = {}

    def sample(
        self,
        model_wrap: CFGGuider,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callback | None,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        """Samples for the guider: latents (B, C, h, w) in the model's scale, noise of the same shape -> sampled latents."""
        start = perf_counter()
        check_latent(noise)
        check_model_patches(extra_args["model_options"])
        model, options = model_wrap.inner_model, self.options
        stepper = stepper_for(options.sampler, noise_space(model.model_sampling))
        latent = torch.zeros_like(noise) if latent_image is None else latent_image
        check_latent(latent)
        if len(sigmas) < 2:  # no step is left: as the host's samplers, which give what they would begin with
            return self._begin(model_wrap, sigmas, noise, latent) if len(sigmas) else latent
        tiles = tiles_of(model, noise.shape[2:], options.tile_px, options.overlap_px)
        regions = tiles.regions
        own_steps = [] if options.merge is MergeMode.AGGREGATE else rows_of(regions, len(noise))
        gain = None if options.gain is None else options.gain.start(model_wrap, sigmas, latent, own_steps)
        steps, size = len(sigmas) - 1, (noise.shape[2], noise.shape[3])
        policy = policy_for(options.budget, regions, size, steps) if gain is None else gain.policy
        injection = InjectionRun.start(model_wrap, gain, noise.device)
        conditions = CanvasConditions(model_wrap.conds, noise.shape, noise.device, injection, text_width(model))
        kept = self._kept_around(denoise_mask, latent, noise, sigmas, extra_args)
        denoiser = RegionDenoiser(model_wrap, extra_args, conditions, kept)
        row = row_bytes(model, noise.shape[1], regions[0])
        # Adapters run where few of the UNet's maps are alive, so that the larger of both is what counts.
        row = max(row, adapter_bytes(model_wrap.conds, regions[0], mm.dtype_size(model.get_dtype_inference())))
        rows = options.rows or rows_that_fit(noise.device, row, most=MOST_ROWS)
        observer = _HostObserver(callback, regions, gain, self.display)
        if noise.is_cuda:
            torch.cuda.reset_peak_memory_stats(noise.device)
        work = RegionWork()
        self.display.start(
            RegionLayout(size, regions, len(noise), steps, steps), None if gain is None else gain.letter, work
        )
        x = model.model_sampling.noise_scaling(sigmas[0], noise.clone(), latent, self.max_denoise(model_wrap, sigmas))
        result = sample_regions(
            denoiser,
            x,
            sigmas.tolist(),
            regions=regions,
            stepper=stepper,
            merge=options.merge,
            policy=policy,
            noise=_step_noise(x, extra_args.get("seed"), model.model_sampling, place_of(model, options)),
            rows_per_call=BatchSize(rows),
            observer=observer,
            full_precision=denoiser.full_precision(),
            work=work,
            window=None if options.tile_px else tiles.window,
        )
        if float(sigmas[-1]) == 0.0:
            observer.finish(result)
        self.report = report(options, result, regions, noise, steps, perf_counter() - start)
        operations = arithmetic(model_wrap, (regions[0].height, regions[0].width), result.work.rows)
        self.report["tflop"] = None if operations is None else round(operations / 1e12, 3)
        if gain is not None:
            self.report |= gain.report(result, steps * len(regions) * len(noise))
        self.display.finish(self.report)
        return model.model_sampling.inverse_noise_scaling(sigmas[-1], result.samples)

    def _begin(self, guider: CFGGuider, sigmas: Tensor, noise: Tensor, latent: Tensor) -> Tensor:
        sampling = guider.inner_model.model_sampling
        x = sampling.noise_scaling(sigmas[0], noise.clone(), latent, self.max_denoise(guider, sigmas))
        return sampling.inverse_noise_scaling(sigmas[-1], x)

    def _kept_around(
        self, mask: Tensor | None, latent: Tensor, noise: Tensor, sigmas: Tensor, extra_args: dict[str, Any]
    ) -> KeptLatent | None:
        """Tells what a noise mask keeps, under the noise that the host's sampler of this name puts there."""
        if mask is None:
            return None
        if self.options.sampler == "ddim":
            generator = torch.Generator().manual_seed(((extra_args.get("seed") or 0) + 1) % 2**64)
            noise = torch.randn(noise.shape, generator=generator).to(noise)
        return KeptLatent(mask, latent, noise, sigmas)


def _step_noise(x: Tensor, seed: int | None, model_sampling: object, place: tuple[int, int] | None) -> NoiseField:
    """Draws the noise of random samplers; some flow models want it scaled, as the host does at the start."""
    field = canvas_noise(x, seed or 0, place)
    scale = getattr(model_sampling, "noise_scale", 1.0)
    return field if scale == 1.0 else lambda level: field(level) * scale


class _HostObserver(RegionObserver):
    """Moves the host's progress bar and the live map, measures gains, and hands previews to the host's callback.

    Previews take a small share of the time; regions that gains have ended are framed in them until the result is there.
    """

    def __init__(
        self, callback: Callback | None, regions: Sequence[Region], gain: GainRun | None, display: RegionDisplay
    ) -> None:
        self._callback, self._regions, self._gain, self._display = callback, regions, gain, display
        self._bar = comfy.utils.ProgressBar(1)  # the run tells with every call how many it plans
        self._next, self.shows_canvas = 0.0, callback is not None

    def is_out_of_memory(self, error: Exception) -> bool:
        return is_out_of_memory(error)

    def measured(self, rows: Sequence[Row], x0: Tensor, levels: Sequence[int]) -> MeasuredCall | None:
        return None if self._gain is None else self._gain.observe.measured(rows, x0, levels)

    def called(self, rows: Sequence[Row], done: int, planned: int) -> None:
        self._display.advanced(rows)
        self._bar.update_absolute(done, planned)

    def moved(self, row: Row, level: int, reason: str) -> None:
        self._display.moved(row, level, reason)

    def previewed(self, x0: Tensor, done: int, planned: int) -> None:
        start = perf_counter()
        if self._callback is None or (start < self._next and done < planned):
            return
        shown = x0 if self._gain is None else outlined(x0, self._gain.finished(), self._regions)
        self._callback(done - 1, shown, shown, planned)
        end = perf_counter()
        self._next = end + (end - start) / PREVIEW_SHARE

    def finish(self, result: RegionResult) -> None:
        """Gives the finished canvas, from which the host makes its second output."""
        if self._callback is not None:
            self._callback(result.work.rows - 1, result.samples, result.samples, result.work.rows)


def report(
    options: RegionOptions, result: RegionResult, regions: Sequence[Region], noise: Tensor, steps: int, seconds: float
) -> dict[str, Any]:
    """Reports what was done, counted; `skipped` is the share of calls saved against all steps in every region."""
    work, fixed = result.work, steps * len(regions) * len(noise)
    reasons = [reason for image in result.exit_reasons for reason in image]
    peak = torch.cuda.max_memory_allocated(noise.device) / 2**30 if noise.is_cuda else None
    return {
        "sampler": options.sampler,
        "merge": options.merge.value,
        "steps": steps,
        "images": len(noise),
        "canvas": list(noise.shape[2:]),
        "tiles": len(regions),
        "calls": work.calls,
        "region_calls": work.rows,
        "latent_mpx": round(work.latent_cells / 1e6, 6),
        "skipped": round(1 - work.rows / fixed, 4),
        "seconds": round(seconds, 3),
        "peak_gb": peak if peak is None else round(peak, 3),
        "batch_sizes": {str(size): count for size, count in sorted(work.batch_sizes.items())},
        "halvings": work.halvings,
        "float32_retries": work.float32_retries,
        "exit_reasons": {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
        "regions": [[r.y, r.x, r.height, r.width] for r in regions],
        "steps_per_region": result.calls_per_region,
    }
