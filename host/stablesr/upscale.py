"""The whole of StableSR behind one call: enlarging, its encoder beside the MODEL, regions, CFW and colours, for images of any size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, cast

import comfy.sample
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor

from ...imaging.color import ColorFix, match_color
from ...imaging.resize import bicubic_resize, pad_to_multiple, resize
from ...sampling.adaptive.choices import MergeMode
from ..images import check_room
from ..progress import stage
from ..regions.events import RegionDisplay
from ..regions.fitting import kind_of
from ..regions.run import sample_canvas
from ..regions.sampler import RegionOptions
from ..runtime import to_intermediate
from ..sigmas import spaced_sigmas
from ..vae import decode, encode
from .cfw import Decoding, LoadedCFW, check_vae, decode_fused
from .choices import PRESETS
from .loading import LoadedStableSR, apply_stablesr, check_base

MULTIPLE = 32
"""Sides of the canvas in pixels are multiples of it, as in the public scripts."""
LONGEST = 2
"""A picture that is small and narrow is enlarged until its longer side has so many times a region's."""
ENCODED, SAMPLED = 0.05, 0.9
"""Ends of the stages on the progress bar."""


@dataclass(frozen=True)
class StableSRParts:
    """What a run needs; without CFW the VAE decodes alone."""

    model: ModelPatcher
    positive: list[Any]
    negative: list[Any]
    stablesr: LoadedStableSR
    vae: VAE
    cfw: LoadedCFW | None = None


@dataclass(frozen=True)
class StableSRSettings:
    """Choices of a run. steps 0: the preset's. tile_px 0: the trained size, which overlaps by half (the paper's aggregation)."""

    preset: str
    scale: float = 4.0
    seed: int = 0
    steps: int = 0
    cfg: float = 1.0
    w: float = 0.5
    color: ColorFix | None = ColorFix.ADAIN
    tile_px: int = 0
    decode_tile_px: int = 0


@dataclass(frozen=True)
class CanvasSizes:
    """Sizes (height, width) in pixels: of the result, and of the enlarged picture that is sampled."""

    result: tuple[int, int]
    enlarged: tuple[int, int]


def canvas_of(height: int, width: int, scale: float, tile_px: int) -> CanvasSizes:
    """The factor is `scale`, or what lifts the shorter side to a region's if that is more; of strips it lifts the longer to twice that."""
    wanted = min(tile_px / min(height, width), LONGEST * tile_px / max(height, width))
    factor = max(wanted, scale)
    result, enlarged = ((max(1, round(height * by)), max(1, round(width * by))) for by in (scale, factor))
    return CanvasSizes(result, enlarged)


def upscale_rgb(
    parts: StableSRParts, rgb: Tensor, settings: StableSRSettings, display: RegionDisplay
) -> tuple[Tensor, dict[str, Any], str]:
    """RGB (B, 3, H, W) in [0, 1] -> (B, 3, round(s H), round(s W)), not clamped; a report; and a remark (or "").

    Enlarged bicubically, extended by reflection, encoded; sampled from the latent with the noise of the first level on it; decoded;
    given the enlarged picture's colours; cropped, and reduced where the shorter side had to be larger than the result's.
    """
    began, preset = perf_counter(), PRESETS[settings.preset]
    tile = settings.tile_px or kind_of(parts.model.model).trained_px
    _check(parts)
    canvas = canvas_of(rgb.shape[2], rgb.shape[3], settings.scale, tile)
    check_room(len(rgb), *canvas.enlarged)
    large = pad_to_multiple(bicubic_resize(to_intermediate(rgb), *canvas.enlarged).clamp(0, 1), MULTIPLE)
    stage(0.0, ENCODED)
    latent = encode(parts.vae, large)
    stage(ENCODED, SAMPLED)
    sampled, report, remark = _sampled(parts, latent, settings, tile, display)
    stage(SAMPLED, 1.0)
    image, decoded = _decoded(parts, sampled, large, settings)
    if settings.color is not None:
        image = match_color(image, large, settings.color)
    image = image[..., : canvas.enlarged[0], : canvas.enlarged[1]]
    facts = {
        "preset": settings.preset,
        "sampler": preset.sampler,
        "input": f"{len(rgb)} x {rgb.shape[3]}x{rgb.shape[2]}",
        "enlarged": f"{canvas.enlarged[1]}x{canvas.enlarged[0]}",
        "output": f"{canvas.result[1]}x{canvas.result[0]}",
    }
    whole = {**report, **facts, "sampling_seconds": report["seconds"], "seconds": round(perf_counter() - began, 3)}
    return resize(image, *canvas.result), whole, " ".join(filter(None, (remark, decoded)))


def _check(parts: StableSRParts) -> None:
    """Raises ValueError for parts that do not fit, before the long part of a run."""
    check_base(parts.model, parts.stablesr.parts)
    if parts.cfw is not None:
        check_vae(parts.vae, parts.cfw.network.config)


def _sampled(
    parts: StableSRParts, latent: Tensor, settings: StableSRSettings, tile_px: int, display: RegionDisplay
) -> tuple[Tensor, dict[str, Any], str]:
    preset = PRESETS[settings.preset]
    model, positive, negative, remark = apply_stablesr(
        parts.model, parts.positive, parts.negative, parts.stablesr, {"samples": latent}, 1.0
    )
    options = RegionOptions(tile_px, tile_px // 2, MergeMode.AGGREGATE, sampler=preset.sampler)
    # Every image gets the noise of the first one, so that a batch gives what its images give alone.
    noise = cast("Tensor", comfy.sample.prepare_noise(latent, settings.seed, [0] * len(latent)))
    sampled, report = sample_canvas(
        model,
        (positive, negative),
        latent,
        noise,
        spaced_sigmas(parts.model, settings.steps or preset.steps),
        cfg=settings.cfg,
        seed=settings.seed,
        options=options,
        display=display,
    )
    return sampled, {**report, "cfg": settings.cfg, "seed": settings.seed, "tile_px": tile_px}, remark


def _decoded(parts: StableSRParts, latent: Tensor, large: Tensor, settings: StableSRSettings) -> tuple[Tensor, str]:
    if parts.cfw is None:
        return decode(parts.vae, latent), ""
    decoding = Decoding(settings.w, settings.decode_tile_px)
    image, remark = decode_fused(parts.vae, parts.cfw, latent, large, decoding)
    return to_intermediate(image), remark


def describe(report: Mapping[str, Any]) -> str:
    """A run's report in one line."""
    by = "" if report["enlarged"] == report["output"] else f" by way of {report['enlarged']}"
    return (
        f"{report['input']} to {report['output']}{by}, {report['sampler']}, {report['tiles']} regions: {report['calls']} model calls, "
        f"{report['latent_mpx']:.3f} latent Mpx, {report['seconds']:.1f} s"
    )
