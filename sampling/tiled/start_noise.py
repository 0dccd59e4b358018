"""The predicted start noise of a canvas of any size: the predictor sees patches of its training size, which are blended.

Mean and deviation are blended, and one noise field is drawn for the whole canvas afterwards (`sampling.inversion.StartNoise`):
there are no seams, and no variance is lost where patches meet. The reference predicts and draws for every patch alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...imaging.padding import Padding, to_patch
from ...imaging.tiles import Merger, Region, gaussian_window, grid
from ..batching import BatchSize, retry_nonfinite, run_batches
from ..inversion import StartNoise
from .protocols import Runtime, StartNoisePredictor

PATCH_MULTIPLE = 16
"""LR pixels: a patch gives latents whose sides are multiples of 8, as the diffusion network's levels want them."""

TRAINED_PATCH = 128
"""LR pixels of the patches in the predictor's training."""


@dataclass(frozen=True)
class Patches:
    """Side and least overlap of patches in LR pixels, and how many of them enter one call."""

    size: int = TRAINED_PATCH
    overlap: int = 32
    rows: int = 1

    def __post_init__(self) -> None:
        if self.size < PATCH_MULTIPLE or self.size % PATCH_MULTIPLE:
            raise ValueError(
                f"Got a patch size of {self.size} pixels: expected a multiple of {PATCH_MULTIPLE}, such as 128 (as trained) or 256."
            )
        if not 0 <= self.overlap <= self.size // 2:
            raise ValueError(
                f"Got an overlap of {self.overlap} pixels for patches of {self.size}: expected 0 to {self.size // 2}, half a patch; "
                "beyond it every pixel would be computed many times."
            )

    def count(self, shape: Sequence[int], factor: int) -> int:
        """Rows of work for LR images (B, 3, H, W) and a predictor of `factor` pixels a cell."""
        padding = to_patch(shape[-2], shape[-1], self.size, factor)
        return shape[0] * len(self.regions(padding, factor))

    def regions(self, padding: Padding, factor: int) -> tuple[Region, ...]:
        """The patches of a padded image, in latent cells."""
        return grid(padding.height // factor, padding.width // factor, self.size // factor, self.overlap // factor)


@dataclass
class PredictorWork:
    """What was done, counted: rows are patches of single images."""

    regions: int = 0
    calls: int = 0
    rows: int = 0
    halvings: int = 0
    float32_retries: int = 0


@dataclass
class _Prediction:
    lr: Tensor  # (B, 3, H, W), padded
    predictor: StartNoisePredictor
    index: int
    work: PredictorWork = field(default_factory=PredictorWork)

    def call(self, chunk: Sequence[tuple[Region, int]]) -> tuple[Tensor, Tensor]:
        tiles = [self.lr[(image, slice(None), *region.scaled(self.predictor.factor).slices)] for region, image in chunk]
        return finite_prediction(torch.stack(tiles), self.predictor, self.index, self.work)


def predict_start_noise(
    lr: Tensor,
    cells: tuple[int, int],
    *,
    predictor: StartNoisePredictor,
    index: int,
    patches: Patches,
    runtime: Runtime,
) -> tuple[StartNoise, PredictorWork]:
    """Start noise of LR images (B, 3, H, W) in [0, 1] on a latent of (h, w) = `cells`, H / factor rounded either way.

    Images below a patch are extended to one by reflection and the result is cropped back. The result for an image depends
    neither on the rest of the batch nor on how many patches enter a call. Raises ValueError for predictions that stay
    non-finite in float32.
    """
    factor = predictor.factor
    padding = to_patch(lr.shape[-2], lr.shape[-1], patches.size, factor)
    canvas = padding.height // factor, padding.width // factor
    regions = patches.regions(padding, factor)
    rows = [(region, image) for image in range(lr.shape[0]) for region in regions]
    prediction = _Prediction(padding.extend(lr.float()), predictor, index, PredictorWork(regions=len(regions)))
    window = gaussian_window(regions[0].height, regions[0].width)
    size, mergers = BatchSize(patches.rows), []
    for chunk, found in run_batches(rows, size, prediction.call, runtime.is_out_of_memory):
        if not mergers:
            mergers = [Merger((lr.shape[0], found[0].shape[1], *canvas), window, lr.device) for _ in found]
        for merger, tiles in zip(mergers, found):
            for (region, image), tile in zip(chunk, tiles):
                merger.add(tile, region, image)
        runtime.step(len(chunk))
    prediction.work.halvings += size.halvings
    top, left = padding.top // factor, padding.left // factor
    mean, std = (merger.finish()[..., top : top + cells[0], left : left + cells[1]] for merger in mergers)
    return StartNoise(mean, std), prediction.work


def finite_prediction(
    tiles: Tensor, predictor: StartNoisePredictor, index: int, work: PredictorWork
) -> tuple[Tensor, Tensor]:
    """Mean and deviation of tiles (N, 3, s, s); those that overflow are computed once more in float32, then refused."""

    def predict(rows: Tensor, *, full_precision: bool = False) -> Tensor:
        return torch.cat(predictor(rows, index, full_precision=full_precision), dim=1)

    found, retries = retry_nonfinite(predict, (tiles,))
    work.calls += 1
    work.rows += len(tiles)
    work.float32_retries += retries
    if retries and not torch.isfinite(found).all():
        raise ValueError(
            "The noise predictor gave values that are not finite, in float32 too: expected finite pixels and weights; check the "
            "image for extreme values and the model file for damage."
        )
    mean, std = found.chunk(2, dim=1)
    return mean, std
