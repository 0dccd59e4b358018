"""Maps of a number per region: which cell belongs to which region, and colours that rise with the number."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .tiles import Region, gaussian_window

STOPS = ((0.10, 0.12, 0.36), (0.13, 0.42, 0.62), (0.20, 0.66, 0.53), (0.80, 0.82, 0.27), (0.98, 0.93, 0.60))
"""Colours of equal distance from least to most: they rise in lightness too, so that the map reads in grey."""


def owners(regions: Sequence[Region], height: int, width: int) -> Tensor:
    """For each cell (height, width) the index of the region that weighs most there, int64; each cell must be covered."""
    best = torch.full((height, width), -1.0)
    owner = torch.zeros((height, width), dtype=torch.int64)
    for index, region in enumerate(regions):
        weight = gaussian_window(region.height, region.width)
        closer = weight > best[region.slices]
        owner[region.slices] = torch.where(closer, index, owner[region.slices])
        best[region.slices] = torch.maximum(best[region.slices], weight)
    return owner


def paint(values: Sequence[float], regions: Sequence[Region], height: int, width: int) -> Tensor:
    """The number of each cell's region (height, width); cells are never interpolated, so that the map shows true numbers."""
    return torch.tensor(values, dtype=torch.float32)[owners(regions, height, width)]


def colorize(values: Tensor, low: float, high: float) -> Tensor:
    """Colours in [0, 1] (..., 3) for numbers of any shape; low and below are darkest, high and above are lightest."""
    position = ((values - low) / max(high - low, 1e-12)).clamp(0, 1) * (len(STOPS) - 1)
    below = position.floor().clamp_max(len(STOPS) - 2).long()
    stops = torch.tensor(STOPS, device=values.device)
    return torch.lerp(stops[below], stops[below + 1], (position - below).unsqueeze(-1))


def overlay(image: Tensor, colors: Tensor, opacity: float) -> Tensor:
    """image (..., H, W, 3) with the map (h, w, 3) over it, enlarged by repeating its cells; opacity in [0, 1]."""
    rows = torch.arange(image.shape[-3]) * colors.shape[0] // image.shape[-3]
    columns = torch.arange(image.shape[-2]) * colors.shape[1] // image.shape[-2]
    return torch.lerp(image, colors[rows][:, columns].to(image), opacity)
