"""The whole of InvSR behind one call: predictor, VAE, MODEL and colours, for images of any size."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from time import perf_counter
from typing import Any

import comfy.model_management as mm
import comfy.samplers
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor

from ...imaging.padding import Padding, to_chop
from ...sampling.adaptive.types import rows_of
from ...sampling.inversion import indices
from ...sampling.tiled.invsr import (
    InvSRNetworks,
    InvSRWork,
    Start,
    canvas_padding,
    chop_regions,
    code_parts,
    upscale_canvas,
    upscale_chopped,
)
from ...sampling.tiled.start_noise import PATCH_MULTIPLE, Patches
from ..images import SMALLER_PICTURE, check_room
from ..regions.events import RegionDisplay, RegionLayout
from ..regions.run import sample_canvas
from ..regions.sampler import RegionOptions
from ..runtime import HostRuntime, to_intermediate
from .choices import Order
from .loading import HostPredictor, NoisePredictorModel, with_rows
from .noise import start_sigmas

LATENT_CHANNELS, DOWNSCALE = 4, 8
SPATIAL = ("control", "area", "mask", "concat_latent_image", "reference_latents")
"""Entries of CONDITIONING that belong to places of the picture."""


@dataclass(frozen=True)
class InvSRSettings:
    """Choices of a run; rows 0 = automatic, patches in LR pixels.

    fitted: the canvas is sampled in regions that fit model and canvas, whatever the size of the predictor's patches.
    """

    taus: tuple[int, ...]
    cfg: float = 1.0
    seed: int = 0
    strength: float = 1.0
    order: Order = Order.LATENT_REGIONS
    patches: Patches = field(default_factory=lambda: Patches(rows=0))
    fitted: bool = False


class HostVAE:
    """`sampling.tiled.protocols.PictureCodec` of a VAE of the host, which loads itself and falls back to tiles of its own."""

    def __init__(self, vae: VAE) -> None:
        kind = (vae.latent_channels, vae.latent_dim, vae.spacial_compression_decode())
        if kind != (LATENT_CHANNELS, 2, DOWNSCALE):
            raise ValueError(
                f"InvSR got a VAE of {vae.latent_channels} latent channels at 1/{vae.spacial_compression_decode()} size: expected the "
                f"{LATENT_CHANNELS} channels at 1/{DOWNSCALE} of SD-Turbo; connect the VAE of the same checkpoint."
            )
        self._vae = vae
        self.downscale, self.latent_channels = DOWNSCALE, LATENT_CHANNELS

    def encode(self, image: Tensor) -> Tensor:
        mm.throw_exception_if_processing_interrupted()
        return to_intermediate(self._vae.encode((image * 0.5 + 0.5).movedim(1, -1)))

    def decode(self, latent: Tensor) -> Tensor:
        mm.throw_exception_if_processing_interrupted()
        return to_intermediate(self._vae.decode(latent)[..., :3].movedim(-1, 1)) * 2 - 1


class _Sampler:
    """A guider's MODEL as `sampling.tiled.protocols.LatentSampler`; counts what it does."""

    def __init__(
        self,
        model: ModelPatcher,
        conditions: tuple[Any, Any],
        sigmas: Tensor,
        settings: InvSRSettings,
        scale: int,
        display: RegionDisplay,
    ) -> None:
        self._model, self._conditions, self._sigmas = model, conditions, sigmas
        self._settings, self._scale, self._display = settings, scale, display
        self.regions: int | None = None  # of the canvas; None: those of the predictor
        self.calls, self.cells, self.halvings, self.float32_retries = 0, 0, 0, 0


class RegionLatents(_Sampler):
    """A canvas, region by region, blended after every step."""

    def __call__(self, latent: Tensor, noise: Tensor) -> Tensor:
        patches = self._settings.patches
        tile_px = 0 if self._settings.fitted else patches.size * self._scale
        options = RegionOptions(tile_px, patches.overlap * self._scale, rows=patches.rows)
        result, report = sample_canvas(
            self._model,
            self._conditions,
            latent,
            noise,
            self._sigmas,
            cfg=self._settings.cfg,
            seed=self._settings.seed,
            options=options,
            display=self._display,
        )
        self.calls += report["calls"]
        self.regions = report["tiles"]
        self.cells += round(report["latent_mpx"] * 1e6)
        self.halvings += report["halvings"]
        self.float32_retries += report["float32_retries"]
        return to_intermediate(result)


class PatchLatents(_Sampler):
    """A batch of patches by the host's Euler sampler."""

    def __call__(self, latent: Tensor, noise: Tensor) -> Tensor:
        guider = comfy.samplers.CFGGuider(self._model)
        guider.set_conds(*self._conditions)
        guider.set_cfg(self._settings.cfg)
        euler = comfy.samplers.sampler_object("euler")
        steps = len(self._sigmas) - 1
        self.calls += steps
        self.cells += steps * len(latent) * latent.shape[2] * latent.shape[3]
        result = guider.sample(noise, latent, euler, self._sigmas, disable_pbar=True, seed=self._settings.seed)
        return to_intermediate(result)


class ChopRuntime(HostRuntime):
    """The host's side of a pixel chop, whose steps are patches that are done, one after another: shows them."""

    def __init__(self, padding: Padding, images: int, settings: InvSRSettings, display: RegionDisplay) -> None:
        regions = chop_regions(padding, settings.patches.size)
        super().__init__(images * len(regions))
        self._waiting, self._display, self._steps = iter(rows_of(regions, images)), display, len(settings.taus)
        display.start(RegionLayout((padding.height, padding.width), regions, images, self._steps, self._steps))

    def step(self, rows: int) -> None:
        super().step(rows)
        self._display.called(list(islice(self._waiting, rows)), self._steps)


def upscale_rgb(
    model: ModelPatcher,
    conditions: tuple[Any, Any],
    vae: VAE,
    predictor: NoisePredictorModel,
    rgb: Tensor,
    settings: InvSRSettings,
    display: RegionDisplay | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """RGB (B, 3, H, W) in [0, 1] -> (B, 3, s H, s W), not clamped, and a report."""
    began, rgb = perf_counter(), to_intermediate(rgb)
    scale, is_chop = predictor.config.scale, settings.order is Order.PIXEL_CHOP
    check_room(len(rgb), scale * rgb.shape[2], scale * rgb.shape[3], SMALLER_PICTURE)
    sigmas = start_sigmas(model, settings.taus)
    padding = padding_of(rgb, settings, predictor)
    _refuse_places(conditions, padding, is_chop)
    display = display or RegionDisplay(None)
    sampler = (PatchLatents if is_chop else RegionLatents)(model, conditions, sigmas, settings, scale, display)
    autoencoder = HostVAE(vae)
    patches = with_rows(predictor, settings.patches)
    runtime = (
        ChopRuntime(padding, len(rgb), settings, display)
        if is_chop
        else HostRuntime(_rows(padding, len(rgb), settings, predictor))
    )
    networks = InvSRNetworks(HostPredictor(predictor), autoencoder, sampler, runtime)
    start = Start(indices(settings.taus)[0], settings.seed, settings.strength)
    image, work = (upscale_chopped if is_chop else upscale_canvas)(rgb, networks, start, patches)
    report = _report(rgb, settings, scale, work, sampler, perf_counter() - began)
    display.finish(report)
    return image, report


def padding_of(rgb: Tensor, settings: InvSRSettings, predictor: NoisePredictorModel) -> Padding:
    """What is added around the images."""
    height, width = rgb.shape[-2:]
    if settings.order is Order.PIXEL_CHOP:
        return to_chop(height, width, settings.patches.size, PATCH_MULTIPLE)
    return canvas_padding(height, width, settings.patches, predictor.config.factor)


def _refuse_places(conditions: tuple[Any, Any], padding: Padding, is_chop: bool) -> None:
    found = sorted({key for one in conditions for _, values in one for key in SPATIAL if values.get(key) is not None})
    if found and (is_chop or not padding.is_empty):
        reason = "patches are sampled one by one" if is_chop else "the image is padded to a patch"
        raise ValueError(
            f"The conditioning has {', '.join(found)}, which belong to places of the picture, and {reason}: expected text alone; use "
            "the mode 'latent regions' with an image of even sides that are not below patch_size, or remove them."
        )


def _rows(padding: Padding, images: int, settings: InvSRSettings, predictor: NoisePredictorModel) -> int:
    """InvSRWork of latent regions for the progress bar, without the sampler's own."""
    factor = predictor.config.factor
    cells = padding.height // factor, padding.width // factor
    shape = (images, 3, padding.height, padding.width)
    return settings.patches.count(shape, factor) + 2 * images * code_parts(cells)


def _report(
    rgb: Tensor, settings: InvSRSettings, scale: int, work: InvSRWork, sampler: _Sampler, seconds: float
) -> dict[str, Any]:
    images, _, height, width = rgb.shape
    return {
        "mode": settings.order.value,
        "taus": list(settings.taus),
        "steps": len(settings.taus),
        "cfg": settings.cfg,
        "seed": settings.seed,
        "strength": settings.strength,
        "input": f"{images} x {width}x{height}",
        "output": f"{width * scale}x{height * scale}",
        "patch": settings.patches.size,
        "regions": sampler.regions or work.regions,
        "predictor_calls": work.predictor.calls,
        "predictor_rows": work.predictor.rows,
        "model_calls": sampler.calls,
        "latent_mpx": round(sampler.cells / 1e6, 6),
        "encoded_mpx": round(work.encoded_px / 1e6, 6),
        "decoded_mpx": round(work.decoded_px / 1e6, 6),
        "decoded_per_output": round(work.decoded_px / (images * height * width * scale**2), 4),
        "halvings": work.halvings + work.predictor.halvings + sampler.halvings,
        "float32_retries": work.predictor.float32_retries + sampler.float32_retries,
        "seconds": round(seconds, 3),
    }


def describe(report: dict[str, Any]) -> str:
    """A run's report in one line."""
    return (
        f"{report['input']} to {report['output']}, steps {', '.join(map(str, report['taus']))}, {report['regions']} patches: "
        f"{report['predictor_calls']} predictor and {report['model_calls']} model calls, {report['latent_mpx']:.3f} latent Mpx, "
        f"{report['decoded_per_output']:.2f} decodes per pixel, {report['seconds']:.1f} s"
    )
