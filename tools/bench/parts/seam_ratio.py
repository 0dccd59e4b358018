"""How visible the borders of regions are in a picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ....imaging.tiles import Region, gaussian_window


def seam_ratio(canvas: Tensor, regions: Sequence[Region]) -> float:
    """Mean absolute gradient across region borders, divided by that everywhere else (ours); compare it with an untiled run's.

    canvas is (B, C, H, W). A border runs where a region ends, and where the nearest region's centre changes: with Gaussian
    weights that is where the picture goes over from one region to the next. Raises ValueError where there is no border
    inside the canvas, or no gradient to divide by.
    """
    values = canvas.float()
    owners = _owners(regions, values.shape[-2:])
    turned = [Region(region.x, region.y, region.width, region.height) for region in regions]
    parts = [
        _sums(values.diff(dim=-1), _edges(regions, values.shape[-2:]) | owners.diff(dim=-1).bool()),
        _sums(values.mT.diff(dim=-1), _edges(turned, values.mT.shape[-2:]) | owners.mT.diff(dim=-1).bool()),
    ]
    across, crossed, along, other = (sum(part) for part in zip(*parts))
    if not crossed or not other or not along:
        raise ValueError("Expected a picture with some gradient and regions that meet inside of it, got none.")
    return (across / crossed) / (along / other)


def _owners(regions: Sequence[Region], size: Sequence[int]) -> Tensor:
    """Index (H, W) of the region with the greatest Gaussian weight."""
    owner, best = torch.zeros(*size, dtype=torch.int64), torch.zeros(*size)
    for i, region in enumerate(regions):
        window, here = gaussian_window(region.height, region.width), region.slices
        stronger = window > best[here]
        best[here] = torch.where(stronger, window, best[here])
        owner[here] = torch.where(stronger, i, owner[here])
    return owner


def _edges(regions: Sequence[Region], size: Sequence[int]) -> Tensor:
    """Mask (H, W - 1) of the steps x -> x + 1 that cross a left or right edge of a region."""
    height, width = size
    mask = torch.zeros(height, width + 1, dtype=torch.bool)  # column x: the step from x - 1 to x
    for region in regions:
        rows, columns = region.slices
        mask[rows, columns.start] = True
        mask[rows, columns.stop] = True
    return mask[:, 1:-1]


def _sums(gradient: Tensor, borders: Tensor) -> tuple[float, int, float, int]:
    """(Sum, count) of |gradient| (B, C, H, W - 1) on the borders, then elsewhere."""
    size, mask = gradient.abs(), borders.to(gradient.device)
    images = gradient.shape[0] * gradient.shape[1]
    across, total = float(size[..., mask].sum()), float(size.sum())
    count = int(mask.sum())
    return across, images * count, total - across, images * (mask.numel() - count)
