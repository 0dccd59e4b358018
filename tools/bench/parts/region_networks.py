"""Small denoisers for measuring and testing the region sampler without a host."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ....sampling.adaptive.observers import Estimator
from ....sampling.adaptive.types import Gains, MeasuredCall, NoiseSpace, RegionObserver, Row, known


def crops(canvas: Tensor, rows: Sequence[Row]) -> Tensor:
    """The parts (N, C, h, w) of a canvas (B, C, H, W) that belong to the rows."""
    return torch.stack([canvas[(row.image, slice(None), *row.region.slices)] for row in rows])


class GaussianDenoiser:
    """E[x0 | x] for independent pixels N(mean, deviation^2): sees no neighbours, so tiling cannot change it."""

    def __init__(self, mean: Tensor, deviation: float, space: NoiseSpace) -> None:
        """mean is a canvas (B, C, H, W)."""
        self.mean, self.deviation, self.space = mean, deviation, space

    def __call__(self, x: Tensor, sigma: Tensor, rows: Sequence[Row]) -> Tensor:
        sigma = sigma.reshape(-1, 1, 1, 1)
        signal = 1 - sigma if self.space is NoiseSpace.FLOW else torch.ones_like(sigma)
        mean, variance = crops(self.mean, rows), self.deviation**2
        return mean + signal * variance / (signal**2 * variance + sigma**2) * (x - signal * mean)


class TileNetwork(nn.Module):
    """A small random convolutional denoiser that sees its tile alone: zeros around it, and the tile's mean.

    Where noise hides the detail (k = sigma^2 / (sigma^2 + 0.05) near 1) it smooths, x0 = (1 - k) x + k f(x), so that near the
    edge of a tile the zeros darken it, and it pulls the tile's mean towards 0: without overlap seams are plain to see.
    """

    def __init__(self, channels: int = 4, seed: int = 0, strength: float = 0.2, pull: float = 0.2) -> None:
        super().__init__()
        self.smooth = nn.Conv2d(channels, channels, 7, padding=3, groups=channels, bias=False)
        self.mix = nn.Conv2d(channels, channels, 3, padding=1)
        self.strength, self.pull = strength, pull
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            parameter.requires_grad_(False)
            parameter.copy_(torch.rand(parameter.shape, generator=generator))
        self.smooth.weight /= self.smooth.weight.sum((2, 3), keepdim=True)
        self.mix.weight -= self.mix.weight.mean()

    def forward(self, x: Tensor, sigma: Tensor, rows: Sequence[Row] = ()) -> Tensor:
        variance = sigma.square().reshape(-1, 1, 1, 1)
        noisy = variance / (variance + 0.05)
        smooth = self.smooth(x)
        drawn = torch.tanh(self.mix(smooth) - smooth.mean((2, 3), keepdim=True))
        guess = smooth - self.pull * x.mean((2, 3), keepdim=True)
        return (1 - noisy) * x + noisy * guess + self.strength * variance / (1 + variance) * drawn


class WatchedRun(RegionObserver):
    """Hands what an observer sees to functions: gains of calls, progress as (done, planned), previews, errors of memory."""

    def __init__(
        self,
        observe: Callable[..., Sequence[Gains]] | None = None,
        step: Callable[[int, int], None] | None = None,
        preview: Callable[[Tensor, int, int], None] | None = None,
        is_out_of_memory: Callable[[Exception], bool] | None = None,
    ) -> None:
        self._observe, self._step, self._preview, self._memory = observe, step, preview, is_out_of_memory
        self.shows_canvas = preview is not None

    def is_out_of_memory(self, error: Exception) -> bool:
        return self._memory is not None and self._memory(error)

    def measured(self, rows: Sequence[Row], x0: Tensor, levels: Sequence[int]) -> MeasuredCall | None:
        if isinstance(self._observe, Estimator):
            return self._observe.measured(rows, x0, levels)
        return None if self._observe is None else known(self._observe(rows, x0, levels))

    def called(self, rows: Sequence[Row], done: int, planned: int) -> None:
        if self._step is not None:
            self._step(done, planned)

    def previewed(self, x0: Tensor, done: int, planned: int) -> None:
        if self._preview is not None:
            self._preview(x0, done, planned)
