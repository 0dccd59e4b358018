"""StableSR's own tile weights and order, kept for parity (Wang et al. 2024, section 3.3 and code).

Its window is half a cell off centre along y and carries a constant factor. `tiles.gaussian_window` is the symmetric one.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .tiles import Region, grid


def offcentre_window(height: int, width: int, variance: float = 0.01) -> NDArray[np.float64]:
    """Weights (height, width): Gaussians about (width - 1) / 2 along x and height / 2 along y, over sqrt(2 pi variance) each."""
    rows, columns = _line(height, height / 2, variance), _line(width, (width - 1) / 2, variance)
    return np.outer(rows, columns)


def _line(length: int, centre: float, variance: float) -> NDArray[np.float64]:
    position = (np.arange(length, dtype=np.float64) - centre) / length
    return np.exp(-(position**2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)  # (length,)


def column_order(height: int, width: int, size: int, overlap: int) -> tuple[Region, ...]:
    """The same regions as `tiles.grid`, column by column, as StableSR visits them."""
    return tuple(sorted(grid(height, width, size, overlap), key=lambda region: (region.x, region.y)))
