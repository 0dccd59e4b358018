"""Canvases of areas, cut into regions: the model that predicts them, their input, their start and their truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...imaging.tiles import Region
from ...sampling.adaptive.types import Row
from .posterior import Posterior, posterior
from .spectra import SPECTRA, frequencies

CHANNELS = 4
SEEN = 0.125
"""Highest frequency of the input of a fourfold enlargement."""


@dataclass(frozen=True)
class ExactCanvas:
    """Square regions of `size` cells side by side; labels give the area of each cell, kinds the areas' names."""

    kinds: tuple[str, ...]
    labels: Tensor  # (H, W)
    size: int = 16

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(1, C, H, W)."""
        return (1, CHANNELS, *self.labels.shape)

    @cached_property
    def regions(self) -> list[Region]:
        """Row by row, without overlap."""
        height, width = self.labels.shape
        tops, lefts = range(0, height, self.size), range(0, width, self.size)
        return [Region(top, left, self.size, self.size) for top in tops for left in lefts]

    @cached_property
    def posteriors(self) -> list[Posterior]:
        """Of the regions."""
        return [posterior(self.kinds, self.labels[region.slices]) for region in self.regions]

    def kind(self, region_id: int) -> str:
        """The area of most of a region's cells."""
        return self.kinds[int(self.labels[self.regions[region_id].slices].flatten().mode().values)]

    def mean(self, seed: int) -> Tensor:
        """m(y) (1, C, H, W): what the input tells, twice as strong as the area's own spectrum and only up to `SEEN`."""
        return self.assemble(torch.stack([self._seen(i, noise) for i, noise in enumerate(self._noise(seed))]))

    def start(self, mean: Tensor, sigma: float, seed: int) -> Tensor:
        """x0 + sigma n (1, C, H, W), x0 drawn from the regions' components in turn."""
        clean, noise = self._noise(seed + 1000), self._noise(seed + 2000)
        parts = [p.components[(seed + i) % len(p.components)] for i, p in enumerate(self.posteriors)]
        drawn = [part.draw(noise.flatten(1)) for part, noise in zip(parts, clean)]
        tiles = torch.stack(drawn).reshape(clean.shape) + sigma * noise
        return mean + self.assemble(tiles)

    def model(self, mean: Tensor) -> ExactModel:
        """The optimal denoiser of this canvas."""
        return ExactModel(self.posteriors, mean)

    def tiles(self, canvas: Tensor) -> Tensor:
        """A canvas (1, C, H, W) as regions (N, C, size^2)."""
        return torch.stack([canvas[(0, slice(None), *region.slices)].flatten(1) for region in self.regions])

    def _seen(self, region_id: int, noise: Tensor) -> Tensor:
        frequency = frequencies(self.size)
        kind = self.kind(region_id)
        spectrum = SPECTRA["texture" if kind == "either" else kind](frequency)
        power = torch.where(frequency <= SEEN, 4 * spectrum, torch.zeros_like(spectrum))
        return torch.fft.ifft2(torch.fft.fft2(noise) * power.sqrt()).real

    def _noise(self, seed: int) -> Tensor:
        draw = torch.Generator().manual_seed(seed)
        return torch.randn(len(self.regions), CHANNELS, self.size, self.size, generator=draw, dtype=torch.float64)

    def assemble(self, tiles: Tensor) -> Tensor:
        """Regions (N, C, ...) as a canvas (1, C, H, W)."""
        canvas = torch.zeros(self.shape, dtype=tiles.dtype)
        for region, tile in zip(self.regions, tiles):
            canvas[(0, slice(None), *region.slices)] = tile.reshape(CHANNELS, self.size, self.size)
        return canvas


@dataclass(frozen=True)
class ExactModel:
    """A `RegionModel`: each row's E[x0 | x] = m + D(x - m, sigma)."""

    posteriors: Sequence[Posterior]
    mean: Tensor  # (1, C, H, W)

    def __call__(self, x: Tensor, sigma: Tensor, rows: Sequence[Row]) -> Tensor:
        """Predictions (N, C, h, w) of rows at their own sigmas; regions of one posterior are computed together."""
        mean = torch.stack([self.mean[(0, slice(None), *row.region.slices)] for row in rows]).to(x)
        groups: dict[int, list[int]] = {}
        for i, row in enumerate(rows):
            groups.setdefault(id(self.posteriors[row.region_id]), []).append(i)
        rest = (x - mean).flatten(2)  # (N, C, n)
        found = torch.empty_like(rest)
        for members in groups.values():
            shared = self.posteriors[rows[members[0]].region_id]
            found[members] = shared.denoise(rest[members], sigma[members])
        return mean + found.reshape(x.shape)


def stripes(kinds: Sequence[str], regions: int = 6, size: int = 16, shift: int = 0, high: int = 2) -> ExactCanvas:
    """Makes areas of equal width from left to right; `shift` cells to the right, so that borders run through regions.

    The canvas is `regions` wide and `high` high.
    """
    width = regions * size
    column = ((torch.arange(width) - shift).clamp(min=0) * len(kinds) // width).clamp(max=len(kinds) - 1)
    return ExactCanvas(tuple(kinds), column.expand(high * size, width).clone(), size)


CANVASES = {
    "half flat": (("flat", "texture"), 0),
    "three classes": (("flat", "soft", "texture"), 0),
    "all texture": (("texture",), 0),
    "half flat, off the grid": (("flat", "texture"), 5),
    "mixture": (("flat", "either"), 0),
}
"""Areas from left to right, and how far their borders lie beside those of the regions."""


def canvas(name: str) -> ExactCanvas:
    """Makes one of `CANVASES`."""
    kinds, shift = CANVASES[name]
    return stripes(kinds, shift=shift)
