"""Residual-shift super-resolution of images of any size: ResShift's chain, SinSR's deterministic chain, or one step.

Order: pad - encode the bicubically enlarged tiles - add one noise field - predict tiles, merged on the latent canvas after
every network call - decode each pixel about once - crop. With one tile it is the references' procedure (ResShift, section
2; SinSR, section 3.2; TAD-SR, section 3.1); canvas, merging and decoding in parts are ours (the references average pixels).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property, partial

import torch
from torch import Tensor

from ...imaging.resize import bicubic_upsample, reflect_to
from ...imaging.tile_plan import Sizes, TileCost, area, even_grid, fit
from ...imaging.tiles import Core, Merger, Region, feather, gaussian_window, partition
from ..adaptive.types import Row, crop_rows, rows_of
from ..batching import BatchSize, retry_nonfinite, run_batches, run_halved
from ..noise import gaussian_field
from ..samplers import sample_ancestral, sample_deterministic, sample_one_step
from ..schedules import ResidualShiftSchedule
from .protocols import Denoiser, PictureCodec, Runtime

CUBIC_REACH = 2  # LR pixels that the cubic kernel reads beyond a tile
DECODE_MARGIN = 16  # decoded parts see 1/16 of their side around them: at most (1 + 2/16)^2 = 1.27 decodes per pixel
SMALLEST_DECODE = 32  # latent cells; below this an out-of-memory error is final


class Chain(str, Enum):
    """How x_T becomes x_0."""

    ONE_STEP = "one step"
    STOCHASTIC = "stochastic"
    DETERMINISTIC = "deterministic"


@dataclass(frozen=True)
class Tiling:
    """Tile side and least overlap in latent cells, and the rows that enter one call of each network.

    With `sizes` tiles may have any of them, whatever costs the least work on a canvas; `size` is then the largest.
    `tile_cost` is of encoding and denoising a tile, `part_cost` of decoding a part.
    """

    size: int
    overlap: int
    denoise_rows: int = 1
    autoencode_rows: int = 1
    sizes: Sizes | None = None
    tile_cost: TileCost = area
    part_cost: TileCost = area


@dataclass
class OneStepWork:
    """What was done, counted: rows are tiles of single images."""

    regions: int = 0
    encoded_px: int = 0
    decoded_px: int = 0
    network_calls: int = 0
    network_rows: int = 0
    latent_cells: int = 0
    halvings: int = 0
    float32_retries: int = 0
    denoise_rows: int = 0


@dataclass(frozen=True)
class Plan:
    """Geometry of one run, known before any network is called; sizes in latent cells unless named otherwise."""

    batch: int
    height_px: int
    width_px: int
    lq_factor: int
    downscale: int
    size_multiple: int
    tiling: Tiling
    steps: int

    @classmethod
    def of(cls, lq: Tensor, denoiser: Denoiser, autoencoder: PictureCodec, tiling: Tiling, steps: int) -> Plan:
        """The plan for LR images (B, 3, H, W)."""
        batch, _, height, width = lq.shape
        factors = denoiser.lq_factor, autoencoder.downscale, denoiser.size_multiple
        return cls(batch, height, width, *factors, tiling, steps)

    def __post_init__(self) -> None:
        if self.tiling.size % self.size_multiple:
            raise ValueError(
                f"This network takes tiles whose side is a multiple of {self.size_multiple * self.lq_factor} LR pixels, "
                f"got {self.tiling.size * self.lq_factor}."
            )

    @property
    def scale(self) -> int:
        """Output pixels per LR pixel."""
        return self.downscale // self.lq_factor

    @cached_property
    def canvas(self) -> tuple[int, int]:
        """Latent height and width after padding: a side below the tile becomes the next multiple, others stay as they are."""
        return self._canvas_side(self.height_px), self._canvas_side(self.width_px)

    def _canvas_side(self, side_px: int) -> int:
        cells = math.ceil(side_px / self.lq_factor)
        if cells >= self.tiling.size:
            return cells
        return math.ceil(cells / self.size_multiple) * self.size_multiple

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """Tiles of the denoiser and the encoder, evenly spaced."""
        if self.tiling.sizes is not None:
            return fit(*self.canvas, self.tiling.sizes, self.tiling.overlap, self.tiling.tile_cost).regions
        return even_grid(*self.canvas, self.tiling.size, self.tiling.overlap)

    @cached_property
    def decode_size(self) -> int:
        """Largest side of the parts that are decoded: with `sizes` what costs the least, margins counted."""
        if self.tiling.sizes is None:
            return self.tiling.size

        def cost(size: int) -> float:
            return sum(self.tiling.part_cost(part.outer.height, part.outer.width) for part in self.decode_parts(size))

        return min(reversed(self.tiling.sizes.choices), key=cost)

    def decode_parts(self, size: int) -> tuple[Core, ...]:
        """Parts of the decoder; a canvas of one part has no margins."""
        return partition(*self.canvas, size, max(1, size // DECODE_MARGIN))

    @property
    def images_per_group(self) -> int:
        """Images whose canvases are held at once: as many as fill one call."""
        return max(1, self.tiling.denoise_rows // len(self.regions))

    @property
    def total_rows(self) -> int:
        """Rows of work for the progress bar: encodes, predictions and decodes."""
        decodes = len(self.decode_parts(self.decode_size))
        return self.batch * (len(self.regions) * (1 + self.steps) + decodes)


NETWORK = (
    "The network",
    ", in float32 too: expected finite pixels and weights; check the image for extreme values and the model file for damage.",
)
AUTOENCODER = (
    "The autoencoder",
    ": expected finite ones; half precision may be too little for it (start ComfyUI with --fp32-vae), or its file is damaged.",
)
"""Whose values are not finite, and what helps: the network's are computed once more in float32, the autoencoder's are not."""


@dataclass
class _Chain:
    """Networks, geometry and counters of one call of `upscale`."""

    plan: Plan
    denoiser: Denoiser
    autoencoder: PictureCodec
    runtime: Runtime
    work: OneStepWork
    denoise_size: BatchSize
    autoencode_size: BatchSize
    called: Callable[[Sequence[Row]], None]
    first_image: int = 0
    """Of the group that is upscaled; rows count the images of a group from 0."""
    window: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.window = gaussian_window(self.plan.regions[0].height, self.plan.regions[0].width)

    def merger(self, lq: Tensor) -> Merger:
        """An empty latent canvas for LR images, where those are."""
        return Merger((len(lq), self.autoencoder.latent_channels, *self.plan.canvas), self.window, lq.device)

    def encode(self, lq: Tensor) -> Tensor:
        """Latent (B, C, h, w) of the enlarged LR images (B, 3, H, W)."""
        merger = self.merger(lq)
        rows = rows_of(self.plan.regions, lq.shape[0])
        factor, scale = self.plan.lq_factor, self.plan.scale

        def call(chunk: Sequence[Row]) -> Tensor:
            tiles = [enlarged_tile(lq[r.image : r.image + 1], r.region.scaled(factor), scale) for r in chunk]
            return self.autoencoder.encode(torch.cat(tiles))

        for chunk, latents in run_batches(rows, self.autoencode_size, call, self.runtime.is_out_of_memory):
            self._refuse_nonfinite([(row.region, row.image) for row in chunk], latents, AUTOENCODER)
            self._merge(merger, chunk, latents)
            self.work.encoded_px += sum(row.region.scaled(self.plan.downscale).area for row in chunk)
        return merger.result()

    def denoise(self, lq: Tensor, x: Tensor, timesteps: Tensor) -> Tensor:
        """x0 (B, C, h, w) of the whole canvas, for scaled latents x and time indices (B,)."""
        merger = self.merger(lq)
        rows = rows_of(self.plan.regions, lq.shape[0])

        def call(chunk: Sequence[Row]) -> Tensor:
            tiles, conditions = crop_rows(x, chunk), crop_rows(lq, chunk, self.plan.lq_factor)  # (N, C, s, s) each
            times = torch.stack([timesteps[row.image] for row in chunk])  # (N,)
            return self._finite(chunk, tiles, times, conditions)

        for chunk, x0 in run_batches(rows, self.denoise_size, call, self.runtime.is_out_of_memory):
            self._merge(merger, chunk, x0)
            self.work.network_calls += 1
            self.work.network_rows += len(chunk)
            self.work.latent_cells += sum(row.region.area for row in chunk)
            self.called([replace(row, image=self.first_image + row.image) for row in chunk])
        return merger.result()

    def _finite(self, chunk: Sequence[Row], x: Tensor, times: Tensor, lq: Tensor) -> Tensor:
        """Prediction of the rows; those that overflow are computed once more in float32."""
        x0, retries = retry_nonfinite(self.denoiser, (x, times, lq))
        if retries:
            self.work.float32_retries += retries
            self._refuse_nonfinite([(row.region, row.image) for row in chunk], x0, NETWORK)
        return x0

    def _refuse_nonfinite(self, chunk: Sequence[tuple[Region, int]], rows: Tensor, words: tuple[str, str]) -> None:
        for (region, image), row in zip(chunk, rows):
            if not torch.isfinite(row).all():
                px, (who, advice) = region.scaled(self.plan.lq_factor), words
                raise ValueError(
                    f"{who} gave values that are not finite for image {image + self.first_image + 1}, x {px.x} to {px.x + px.width}, "
                    f"y {px.y} to {px.y + px.height} of the input{advice}"
                )

    def _merge(self, merger: Merger, chunk: Sequence[Row], tiles: Tensor) -> None:
        for row, tile in zip(chunk, tiles):
            merger.add(tile, row.region, row.image)
        self.runtime.step(len(chunk))

    def decode(self, latent: Tensor) -> Tensor:
        """Pixels (B, 3, h * f, w * f) of the canvas, in parts that are halved when memory runs out."""
        decode = partial(self._decode_parts, latent)
        image, halvings = run_halved(decode, self.plan.decode_size, SMALLEST_DECODE, self.runtime.is_out_of_memory)
        self.work.halvings += halvings
        return image

    def _decode_parts(self, latent: Tensor, size: int) -> Tensor:
        factor = self.plan.downscale
        image = latent.new_zeros(latent.shape[0], 3, latent.shape[2] * factor, latent.shape[3] * factor)
        for part in self.plan.decode_parts(size):
            weights = feather(Core(part.inner.scaled(factor), part.outer.scaled(factor))).to(image)
            for i in range(latent.shape[0]):
                pixels = self.autoencoder.decode(latent[(slice(i, i + 1), slice(None), *part.outer.slices)])[0].to(
                    image
                )
                self._refuse_nonfinite([(part.outer, i)], pixels[None], AUTOENCODER)
                image[(i, slice(None), *part.outer.scaled(factor).slices)] += pixels * weights
                self.work.decoded_px += weights.numel()
                self.runtime.step(1)
        return image


def _ignore(rows: Sequence[Row]) -> None:
    pass


def enlarged_tile(lq: Tensor, region: Region, scale: int) -> Tensor:
    """The part of the bicubically enlarged image that belongs to an LR region, without enlarging the rest."""
    height, width = lq.shape[-2:]
    top, left = max(0, region.y - CUBIC_REACH), max(0, region.x - CUBIC_REACH)
    bottom, right = (
        min(height, region.y + region.height + CUBIC_REACH),
        min(width, region.x + region.width + CUBIC_REACH),
    )
    large = bicubic_upsample(lq[..., top:bottom, left:right], scale)
    return large[(..., *Region(region.y - top, region.x - left, region.height, region.width).scaled(scale).slices)]


def upscale(
    lq: Tensor,
    *,
    denoiser: Denoiser,
    autoencoder: PictureCodec,
    schedule: ResidualShiftSchedule,
    chain: Chain,
    seed: int,
    tiling: Tiling,
    runtime: Runtime,
    called: Callable[[Sequence[Row]], None] | None = None,
) -> tuple[Tensor, OneStepWork]:
    """LR images (B, 3, H, W) in [-1, 1] -> images (B, 3, s * H, s * W), not clamped, and what it took.

    `schedule` has the steps of the chain already (for one step its last entry counts). The result for an image depends
    neither on the rest of the batch nor on how many rows enter a call. `called` hears of the rows of every call of the
    denoiser, whose regions are those of `Plan`. Raises ValueError for a tile size that the network cannot take and for
    predictions that stay non-finite in float32.
    """
    plan = Plan.of(lq, denoiser, autoencoder, tiling, 1 if chain is Chain.ONE_STEP else schedule.num_steps)
    sizes = BatchSize(tiling.denoise_rows), BatchSize(tiling.autoencode_rows)
    run = _Chain(
        plan, denoiser, autoencoder, runtime, OneStepWork(regions=len(plan.regions)), *sizes, called or _ignore
    )
    result = lq.new_empty((plan.batch, 3, plan.height_px * plan.scale, plan.width_px * plan.scale), dtype=torch.float32)
    for start in range(0, plan.batch, plan.images_per_group):
        images, run.first_image = slice(start, start + plan.images_per_group), start
        decoded = _upscale_group(run, lq[images], schedule, chain, seed)
        result[images] = decoded[..., : result.shape[-2], : result.shape[-1]]
    run.work.halvings += sum(size.halvings for size in sizes)
    run.work.denoise_rows = run.denoise_size.rows
    return result, run.work


def _upscale_group(run: _Chain, lq: Tensor, schedule: ResidualShiftSchedule, chain: Chain, seed: int) -> Tensor:
    canvas = run.plan.canvas
    lq = reflect_to(lq.float(), canvas[0] * run.plan.lq_factor, canvas[1] * run.plan.lq_factor)
    y = run.encode(lq)

    def noise(step: int) -> Tensor:
        return gaussian_field(y.shape[1:], seed=seed, step=step, device=y.device)

    def denoise(x: Tensor, timesteps: Tensor) -> Tensor:
        return run.denoise(lq, x, timesteps)

    if chain is Chain.ONE_STEP:
        latent = sample_one_step(denoise, y, schedule, noise(0))
    elif chain is Chain.DETERMINISTIC:
        latent = sample_deterministic(denoise, y, schedule, noise(0))
    else:
        latent = sample_ancestral(denoise, y, schedule, noise(0), lambda i: noise(i + 1))
    return run.decode(latent)
