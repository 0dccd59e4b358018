"""InvSR (Yue et al. 2025, "Arbitrary-steps image super-resolution via diffusion inversion") on images of any size.

Two orders of the same steps - predict the start noise, encode the bicubically enlarged image, sample, decode:
`upscale_canvas` does each once for the whole canvas, whose regions are blended in latent space (ours); `upscale_chopped`
does all of it for every patch and blends pixels, as the reference does. With one patch both are section 3.3 of the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...imaging.padding import Padding, to_chop, to_patch
from ...imaging.resize import bicubic_upsample
from ...imaging.tiles import Core, Merger, Region, feather, gather, partition, starts
from ..batching import BatchSize, run_batches, run_halved
from ..noise import gaussian_field
from .one_step_sr import enlarged_tile
from .protocols import LatentSampler, PictureCodec, Runtime, StartNoisePredictor
from .start_noise import PATCH_MULTIPLE, Patches, PredictorWork, finite_prediction, predict_start_noise

POSITIVE = "Cinematic, high-contrast, photo-realistic, 8k, ultra HD, meticulous detailing, hyper sharpness, perfect without deformations"
"""The prompt that every training image had."""
NEGATIVE = "Low quality, blurring, jpeg artifacts, deformed, over-smooth, cartoon, noisy,painting, drawing, sketch, oil painting"
"""The published prompt for guidance, as it is written there."""
CODE_CELLS = 128  # side of the parts that the autoencoder sees: 1024 pixels
MARGIN_SHARE = 16  # parts see 1/16 of their side around them: at most (1 + 2/16)^2 = 1.27 decodes per pixel
SMALLEST_DECODE = 32  # latent cells; below this an out-of-memory error is final


@dataclass
class InvSRWork:
    """What was done, counted; what the sampler does is the sampler's to count."""

    predictor: PredictorWork = field(default_factory=PredictorWork)
    regions: int = 0
    encoded_px: int = 0
    decoded_px: int = 0
    halvings: int = 0


@dataclass
class InvSRNetworks:
    """The parts of a run: three networks, and the host's side of it."""

    predictor: StartNoisePredictor
    autoencoder: PictureCodec
    sample: LatentSampler
    runtime: Runtime

    @property
    def scale(self) -> int:
        """Output pixels per LR pixel."""
        return self.autoencoder.downscale // self.predictor.factor


@dataclass(frozen=True)
class Start:
    """Start index tau - 1, seed of the noise field, strength of the noise."""

    index: int
    seed: int
    strength: float = 1.0


def canvas_padding(height: int, width: int, patches: Patches, factor: int) -> Padding:
    """What `upscale_canvas` adds to an LR image."""
    return to_patch(height, width, patches.size, factor)


def upscale_canvas(lr: Tensor, networks: InvSRNetworks, start: Start, patches: Patches) -> tuple[Tensor, InvSRWork]:
    """LR images (B, 3, H, W) in [0, 1] -> (B, 3, s H, s W), about [0, 1] and not clamped, and what it took.

    Every image of a batch has the same noise field. The result for an image depends neither on the rest of the batch nor on
    how many patches enter a call.
    """
    factor = networks.predictor.factor
    padding = canvas_padding(lr.shape[-2], lr.shape[-1], patches, factor)
    padded = padding.extend(lr.float())
    cells = padding.height // factor, padding.width // factor
    noise, predicted = predict_start_noise(
        padded,
        cells,
        predictor=networks.predictor,
        index=start.index,
        patches=patches,
        runtime=networks.runtime,
    )
    work = InvSRWork(predicted, regions=predicted.regions)
    latent = _encode(padded, cells, networks, work)
    sampled = networks.sample(latent, noise.draw(start.seed, start.strength))
    return padding.crop(_decode(sampled, networks, work), networks.scale), work


def _encode(lr: Tensor, cells: tuple[int, int], networks: InvSRNetworks, work: InvSRWork) -> Tensor:
    """Latent (B, C, h, w) of the enlarged LR images, in parts that overlap a little."""
    autoencoder, factor = networks.autoencoder, networks.predictor.factor
    latent = lr.new_zeros(lr.shape[0], autoencoder.latent_channels, *cells)
    for part in _parts(cells, CODE_CELLS):
        for i in range(lr.shape[0]):
            large = enlarged_tile(lr[i : i + 1], part.outer.scaled(factor), networks.scale) * 2 - 1
            encoded = autoencoder.encode(large)[0].to(latent)
            latent[(i, slice(None), *part.outer.slices)] += encoded * feather(part).to(latent)
            work.encoded_px += part.outer.scaled(autoencoder.downscale).area
            networks.runtime.step(1)
    return latent


def _parts(cells: Sequence[int], size: int) -> tuple[Core, ...]:
    return partition(cells[0], cells[1], size, max(1, size // MARGIN_SHARE))


def code_parts(cells: Sequence[int]) -> int:
    """Parts in which a canvas is encoded and decoded."""
    return len(_parts(cells, CODE_CELLS))


def _decode(latent: Tensor, networks: InvSRNetworks, work: InvSRWork) -> Tensor:
    """Pixels (B, 3, s h, s w) in [0, 1] of the canvas, each about once; the parts are halved when memory runs out."""
    decode = partial(_decode_parts, latent, networks, work)
    image, halvings = run_halved(decode, CODE_CELLS, SMALLEST_DECODE, networks.runtime.is_out_of_memory)
    work.halvings += halvings
    return image


def _decode_parts(latent: Tensor, networks: InvSRNetworks, work: InvSRWork, size: int) -> Tensor:
    factor = networks.autoencoder.downscale
    image = latent.new_zeros(latent.shape[0], 3, latent.shape[2] * factor, latent.shape[3] * factor)
    for part in _parts(latent.shape[2:], size):
        large = Core(part.inner.scaled(factor), part.outer.scaled(factor))
        for i in range(latent.shape[0]):
            tile = latent[(slice(i, i + 1), slice(None), *part.outer.slices)]
            weights = feather(large).to(image)
            image[(i, slice(None), *large.outer.slices)] += _pixels(tile, networks, work)[0].to(image) * weights
            networks.runtime.step(1)
    return image


def _pixels(latent: Tensor, networks: InvSRNetworks, work: InvSRWork) -> Tensor:
    """Decoded latents (N, C, h, w) in [0, 1]."""
    image = networks.autoencoder.decode(latent) * 0.5 + 0.5
    if not torch.isfinite(image).all():
        raise ValueError(
            "The VAE gave pixels that are not finite: expected finite latents; run the VAE in float32 (--fp32-vae), or look for "
            "the reason in MODEL and LoRAs."
        )
    work.decoded_px += image.shape[0] * image.shape[2] * image.shape[3]
    return image


def upscale_chopped(lr: Tensor, networks: InvSRNetworks, start: Start, patches: Patches) -> tuple[Tensor, InvSRWork]:
    """As `upscale_canvas`, every patch on its own and pixels blended; patches overlap by half, whatever `patches.overlap`.

    Images go one by one. A patch takes its part of one noise field of the padded image, where the reference draws for each.
    """
    work, size = InvSRWork(), BatchSize(patches.rows)
    padding = to_chop(lr.shape[-2], lr.shape[-1], patches.size, PATCH_MULTIPLE)
    factor = networks.predictor.factor
    shape = (networks.autoencoder.latent_channels, padding.height // factor, padding.width // factor)
    field = gaussian_field(shape, seed=start.seed, device=lr.device)

    def upscale(tiles: Tensor, regions: Sequence[Region]) -> Tensor:
        mean, std = finite_prediction(tiles, networks.predictor, start.index, work.predictor)
        parts = [Region(r.y // factor, r.x // factor, r.height // factor, r.width // factor) for r in regions]
        noise = (mean + std * torch.stack([field[(slice(None), *part.slices)] for part in parts])) * start.strength
        large = bicubic_upsample(tiles, networks.scale) * 2 - 1
        work.encoded_px += large.shape[0] * large.shape[2] * large.shape[3]
        image = _pixels(networks.sample(networks.autoencoder.encode(large), noise), networks, work)
        networks.runtime.step(len(regions))
        return image

    window = torch.from_numpy(chop_window(patches.size * networks.scale)).float()
    images = [
        chop(image[None].float(), padding, patches.size, networks.scale, upscale, size, window, networks.runtime)
        for image in lr
    ]
    work.regions = len(chop_regions(padding, patches.size))
    work.halvings += size.halvings
    return torch.cat(images), work


def chop_regions(padding: Padding, patch: int) -> list[Region]:
    """Patches of the padded image, half overlapping, row by row."""
    rows, columns = (starts(side, patch, patch // 2) for side in (padding.height, padding.width))
    return [Region(y, x, patch, patch) for y in rows for x in columns]


def chop(
    lr: Tensor,
    padding: Padding,
    patch: int,
    scale: int,
    upscale: Callable[[Tensor, Sequence[Region]], Tensor],
    patches_per_call: BatchSize,
    window: Tensor,
    runtime: Runtime,
) -> Tensor:
    """Pads LR images (B, C, H, W), enlarges their patches, blends the pixels by `window` and crops: (B, C, s H, s W).

    `upscale` gets tiles (N * B, C, P, P), row n * B + b, and their N regions.
    """
    padded = padding.extend(lr)
    merger = Merger((*lr.shape[:2], padding.height * scale, padding.width * scale), window, lr.device)

    def call(chunk: Sequence[Region]) -> Tensor:
        return upscale(gather(padded, chunk), chunk)

    regions = chop_regions(padding, patch)
    for chunk, tiles in run_batches(regions, patches_per_call, call, runtime.is_out_of_memory):
        for row, tile in enumerate(tiles):
            merger.add(tile, chunk[row // lr.shape[0]].scaled(scale), row % lr.shape[0])
    return padding.crop(merger.finish(), scale)


def chop_window(side: int) -> NDArray[np.float64]:
    """Weights (side, side) of the pixels of an enlarged patch."""
    line = chop_line(side)
    return np.outer(line, line)


def chop_line(side: int) -> NDArray[np.float64]:
    """The reference's weights (side,): a normalised Gaussian of an odd number of taps, whose first is left out for even sides.

    Even sides are therefore half a sample off centre.
    """
    deviation = 0.3 * ((side - 1) * 0.5 - 1) + 0.8
    half = side // 2
    taps = np.exp(-(np.arange(-half, half + 1, dtype=np.float64) ** 2) / (2 * deviation**2))
    return (taps / taps.sum())[1 - side % 2 :]
