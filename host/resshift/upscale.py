"""Running ONE_STEP_SR on images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from time import perf_counter
from typing import Any

import comfy.model_management as mm
import torch
from torch import Tensor

from ...imaging.resize import resize
from ...imaging.tile_plan import Sizes, TileCost, area
from ...imaging.transfer import upload
from ...models.compact_denoiser import CompactDenoiserConfig
from ...models.pixel_denoiser import PixelDenoiserConfig
from ...models.residual_unet_config import ResidualUNetConfig
from ...models.vq_autoencoder import VQAutoencoder
from ...sampling.network_cost import COUNTED
from ...sampling.schedules import ResidualShiftSchedule
from ...sampling.tiled.one_step_sr import Chain, OneStepWork, Plan, Tiling, upscale
from ..images import check_room
from ..regions.events import RegionDisplay, RegionLayout
from ..runtime import HostRuntime, rows_that_fit, to_intermediate
from .loading import OneStepSR
from .patchers import ResidualShiftVAE


class HostDenoiser:
    """`sampling.tiled.protocols.Denoiser` of a loaded patcher."""

    def __init__(self, sr: OneStepSR) -> None:
        self._network, self._device = sr.network, sr.patcher.load_device
        self._dtype = sr.patcher.model.get_dtype_inference()
        self.lq_factor, self.size_multiple = sr.lq_factor, sr.network.config.size_multiple

    def __call__(self, x: Tensor, timesteps: Tensor, lq: Tensor, *, full_precision: bool = False) -> Tensor:
        dtype = torch.float32 if full_precision else self._dtype
        x, lq, timesteps = (
            upload(tensor, self._device, kind)
            for tensor, kind in ((x, dtype), (lq, dtype), (timesteps, timesteps.dtype))
        )
        # The one wait of a call: canvases of any size lie where the host keeps results, and tiles are merged there.
        return to_intermediate(self._network(x, timesteps, lq))


class HostAutoencoder:
    """`sampling.tiled.protocols.PictureCodec` of a loaded VAE."""

    def __init__(self, vae: ResidualShiftVAE) -> None:
        self._vae = vae
        self.downscale, self.latent_channels = vae.downscale_ratio, vae.latent_channels

    def encode(self, image: Tensor) -> Tensor:
        return self._run(self._vae.first_stage_model.encode, image)

    def decode(self, latent: Tensor) -> Tensor:
        network = self._vae.first_stage_model
        if not isinstance(network, VQAutoencoder):
            return self._run(network.decode, latent)
        # Float32 up to the search: in half precision other codes are the nearest ones.
        codes = network.quantize(latent.to(self._vae.device, torch.float32))[0]
        return self._run(partial(network.decode, quantize=False), codes)

    def _run(self, function: Callable[[Tensor], Tensor], tensor: Tensor) -> Tensor:
        return to_intermediate(function(tensor.to(self._vae.device, self._vae.vae_dtype)))


COUNTED_SIZES: Mapping[type, tuple[str, Mapping[str, int]]] = {
    ResidualUNetConfig: ("ResShift", {"model_channels": 160, "latent_channels": 3, "condition_stages": 0}),
    CompactDenoiserConfig: ("embedded one step", {"channels": 64, "blocks": 16, "time_channels": 64}),
    PixelDenoiserConfig: (
        "embedded teacher",
        {"channels": 64, "blocks": 8, "refine_channels": 32, "feature_channels": 16, "time_channels": 64},
    ),
}
"""Names in `COUNTED` by kinds of networks, and the sizes of those that were counted."""
USUAL_TILE_PX = 256
"""Of the network's input: what ResShift's authors prefer for detail, four times the side of a training patch."""


@dataclass(frozen=True)
class UpscaleSettings:
    """Choices of a run: steps 0 = as trained, tile and overlap in pixels of the network's input, tile and rows 0 = automatic."""

    steps: int = 0
    stochastic: bool = True
    tile_px: int = 0
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


def upscale_rgb(
    sr: OneStepSR, rgb: Tensor, size: tuple[int, int], settings: UpscaleSettings, display: RegionDisplay | None = None
) -> tuple[Tensor, dict[str, Any]]:
    """RGB (B, 3, H, W) in [0, 1] -> (B, 3, height, width) of exactly `size` = (width, height), not clamped, and a report."""
    start = perf_counter()
    rgb, (width, height) = to_intermediate(rgb), size
    check_room(len(rgb), height, width)
    if sr.scale == 1:  # a restorer: it sees the image at its final size
        rgb = resize(rgb, height, width).clamp(0, 1)
    chain, schedule = chain_for(sr, settings)
    steps = 1 if chain is Chain.ONE_STEP else schedule.num_steps
    tiling = _tiling(sr, settings, steps)
    denoiser, autoencoder = HostDenoiser(sr), HostAutoencoder(sr.vae)
    plan = Plan.of(rgb, denoiser, autoencoder, tiling, steps)
    _load(sr, tiling)
    display = display or RegionDisplay(None)
    # Every tile makes the chain's steps: nothing is saved. Nobody would run a student for the steps of its teacher.
    display.start(RegionLayout(plan.canvas, plan.regions, plan.batch, plan.steps))
    result, work = upscale(
        rgb * 2 - 1,
        denoiser=denoiser,
        autoencoder=autoencoder,
        schedule=schedule,
        chain=chain,
        seed=settings.seed,
        tiling=tiling,
        runtime=HostRuntime(plan.total_rows),
        called=display.called,
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
        "tflop": _tflop(sr, plan, work),
        "decoded_per_output": round(work.decoded_px / (plan.batch * plan.height_px * plan.width_px * plan.scale**2), 4),
        "seconds": round(perf_counter() - start, 3),
    }
    display.finish(report)
    return result, report


def chain_for(sr: OneStepSR, settings: UpscaleSettings) -> tuple[Chain, ResidualShiftSchedule]:
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
    return Chain.STOCHASTIC if settings.stochastic else Chain.DETERMINISTIC, sr.schedule_of(steps)


def _tiling(sr: OneStepSR, settings: UpscaleSettings, steps: int) -> Tiling:
    """Tiles in latent cells: the side goes up to what the network can take, the rows come from the host's memory."""
    multiple = sr.network.config.size_multiple
    cells = max(1, (settings.tile_px or USUAL_TILE_PX) // sr.lq_factor)
    sizes = None if settings.tile_px else Sizes(cells, multiple)
    size = sizes.choices[-1] if sizes else cells + -cells % multiple
    overlap = settings.overlap_px // sr.lq_factor
    if overlap > size // 2:
        raise ValueError(
            f"Got an overlap of {settings.overlap_px} pixels for tiles of {size * sr.lq_factor}: expected at most half a tile, "
            "beyond which every pixel would be computed many times; lower overlap or raise tile."
        )
    if settings.rows:
        return Tiling(size, overlap, settings.rows, settings.rows, sizes, *_costs(sr, steps))
    latent = (1, sr.vae.latent_channels, size, size)
    denoise = rows_that_fit(sr.patcher.load_device, sr.patcher.model.memory_required(latent))
    autoencode = rows_that_fit(sr.vae.device, _encode_bytes(sr, size))
    return Tiling(size, overlap, denoise, autoencode, sizes, *_costs(sr, steps))


def _costs(sr: OneStepSR, steps: int) -> tuple[TileCost, TileCost]:
    """What a tile of the encoder and all steps costs, and a part of the decoder; networks that nobody counted go by area."""
    encoder, decoder = (COUNTED.get(f"VQ-f{sr.vae.downscale_ratio} {half}") for half in ("encoder", "decoder"))
    if not isinstance(sr.vae.first_stage_model, VQAutoencoder) or encoder is None or decoder is None:
        return area, area
    return encoder.plus(COUNTED["ResShift"], steps), decoder


def _tflop(sr: OneStepSR, plan: Plan, work: OneStepWork) -> float | None:
    """Arithmetic of a run; None for networks that nobody counted."""
    config = sr.network.config
    name, sizes = COUNTED_SIZES[type(config)]
    if not sizes.items() <= vars(config).items():
        return None
    total = COUNTED[name].fixed * work.network_rows + COUNTED[name].per_cell * work.latent_cells
    if isinstance(sr.vae.first_stage_model, VQAutoencoder):
        encode, decode = _costs(sr, 0)
        tile, parts = plan.regions[0], plan.decode_parts(plan.decode_size)
        total += plan.batch * len(plan.regions) * encode(tile.height, tile.width)
        total += plan.batch * sum(decode(part.outer.height, part.outer.width) for part in parts)
    return round(total / 1e12, 6)


def _encode_bytes(sr: OneStepSR, size: int) -> float:
    """Estimates the activations of encoding one tile of size x size cells; decoding goes part by part."""
    side = size * sr.vae.downscale_ratio
    return sr.vae.memory_used_encode((1, 3, side, side), sr.vae.vae_dtype)


def _load(sr: OneStepSR, tiling: Tiling) -> None:
    latent = (1, sr.vae.latent_channels, tiling.size, tiling.size)
    denoise = tiling.denoise_rows * sr.patcher.model.memory_required(latent)
    encode = tiling.autoencode_rows * _encode_bytes(sr, tiling.size)
    decode = sr.vae.memory_used_decode(latent, sr.vae.vae_dtype)
    mm.load_models_gpu([sr.patcher, sr.vae.patcher], memory_required=int(max(denoise, encode, decode)))
