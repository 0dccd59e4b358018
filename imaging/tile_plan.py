"""Tiles that fit a canvas: evenly spaced, as large and as many per axis as cost the least work.

Sizes in cells. The published grids, whose last tile is shifted inward, are `tiles.grid` and `tiles.starts`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .tiles import Region

SMALLEST, LARGEST = 0.75, 1.25
"""Sides that a network takes well, in units of the side that it was trained on."""

LEAST_SHARE = 3 / 32
"""Overlap, in units of the same side, below which seams show (`dev.py bench fit`)."""

TileCost = Callable[[int, int], float]
"""Work of a network on one tile of (height, width)."""


@dataclass(frozen=True)
class Axis:
    """`count` tiles of `size` cells on an axis of `length`."""

    length: int
    size: int
    count: int

    @property
    def starts(self) -> list[int]:
        """First cells, evenly spaced up to rounding; the first tile begins and the last one ends with the axis."""
        room, gaps = self.length - self.size, max(1, self.count - 1)
        return [(2 * i * room + gaps) // (2 * gaps) for i in range(self.count)]

    @property
    def overlap(self) -> int:
        """Cells that the neighbours share that share the fewest; a single tile's whole side."""
        if self.count == 1:
            return self.size
        return self.size - math.ceil((self.length - self.size) / (self.count - 1))

    @property
    def weights(self) -> Tensor:
        """Weights (size,) > 0 of a tile's cells: 1 inside, a squared sine over what neighbours share.

        It goes to nothing at a tile's end however little is shared, where a Gaussian of the tile's side would end in a step.
        """
        inwards = torch.arange(self.size, dtype=torch.float32) + 0.5
        depth = torch.minimum(inwards, inwards.flip(0)) / max(1, self.overlap)
        return torch.sin(math.pi / 2 * depth.clamp(max=1)).square() if self.count > 1 else torch.ones(self.size)


@dataclass(frozen=True)
class Fit:
    """Tiles of one size on a canvas, and what the network works on all of them."""

    rows: Axis
    columns: Axis
    cost: float

    @classmethod
    def of(cls, rows: Axis, columns: Axis, cost: TileCost) -> Fit:
        """The tiles of both axes, and their cost."""
        return cls(rows, columns, rows.count * columns.count * cost(rows.size, columns.size))

    @property
    def overlap(self) -> int:
        """Cells that neighbours share at least."""
        return min(self.rows.overlap, self.columns.overlap)

    @property
    def count(self) -> int:
        """Tiles."""
        return self.rows.count * self.columns.count

    @property
    def cells(self) -> int:
        """Cells of all tiles."""
        return self.count * self.rows.size * self.columns.size

    @property
    def window(self) -> Tensor:
        """Weights (height, width) > 0 of a tile in the mean of overlapping ones."""
        return torch.outer(self.rows.weights, self.columns.weights)

    @property
    def regions(self) -> tuple[Region, ...]:
        """The tiles, row by row."""
        height, width = self.rows.size, self.columns.size
        return tuple(Region(y, x, height, width) for y in self.rows.starts for x in self.columns.starts)


@dataclass(frozen=True)
class Sizes:
    """Sides that tiles may have: near the one that the network was trained on, in multiples that its levels divide."""

    trained: int
    multiple: int = 1

    @property
    def choices(self) -> range:
        """All of them; the nearest multiple where none lies near the trained side."""
        first = math.ceil(SMALLEST * self.trained / self.multiple) * self.multiple
        last = math.floor(LARGEST * self.trained / self.multiple) * self.multiple
        if last < first:
            first = last = math.ceil(self.trained / self.multiple) * self.multiple
        return range(first, last + 1, self.multiple)

    @property
    def least_overlap(self) -> int:
        """Cells that neighbours should share at least."""
        return math.ceil(LEAST_SHARE * self.trained)


def fixed(length: int, size: int, overlap: int) -> Axis:
    """The fewest tiles of this size that cover the axis and overlap enough; a shorter axis gets one as short as itself."""
    if not 0 <= overlap < size:
        raise ValueError(f"Expected an overlap of 0 to {size - 1} cells for tiles of {size}, got {overlap}.")
    if length <= size:
        return Axis(length, length, 1)
    return Axis(length, size, math.ceil((length - overlap) / (size - overlap)))


def snug(length: int, size: int, overlap: int) -> Axis:
    """As many tiles as `fixed` has, no larger than they must be."""
    count = fixed(length, size, overlap).count
    return Axis(length, math.ceil((length + (count - 1) * overlap) / count), count)


def even_grid(height: int, width: int, size: int, overlap: int) -> tuple[Region, ...]:
    """As many regions as `tiles.grid` has, of the same sizes, evenly spaced: none nearly doubles its neighbour."""
    return Fit.of(fixed(height, size, overlap), fixed(width, size, overlap), area).regions


def snug_grid(height: int, width: int, size: int, overlap: int) -> tuple[Region, ...]:
    """As many regions as `even_grid` has, at most as large: what a network takes that knows no size of its own."""
    return Fit.of(snug(height, size, overlap), snug(width, size, overlap), area).regions


def fit(height: int, width: int, sizes: Sizes, overlap: int, cost: TileCost) -> Fit:
    """The cheapest evenly spaced tiles of `sizes`, which need not be squares, that cover the canvas and overlap enough.

    Raises ValueError where every tile would overlap by more than half of itself.
    """
    largest = sizes.choices[-1]
    if not 0 <= overlap <= largest // 2:
        raise ValueError(
            f"Expected an overlap of 0 to {largest // 2} cells for tiles of at most {largest}, got {overlap}."
        )
    rows, columns = _axes(height, sizes, overlap), _axes(width, sizes, overlap)
    fits = [Fit.of(row, column, cost) for row in rows for column in columns]
    return min(fits, key=lambda found: (found.cost, _strangeness(found, sizes.trained)))


def cheaper(found: Fit, sizes: Sizes, cost: TileCost) -> Fit | None:
    """The fit that costs less than `found` and overlaps most, and enough; None: nothing costs less."""
    for overlap in range(min(found.overlap, sizes.choices[-1] // 2), sizes.least_overlap - 1, -1):
        other = fit(found.rows.length, found.columns.length, sizes, overlap, cost)
        if other.cost < found.cost:
            return other
    return None


def safer(found: Fit, sizes: Sizes, cost: TileCost) -> Fit | None:
    """The cheapest fit that overlaps more than `found`; None: neighbours of every tile share half of it, or there are none."""
    overlap = found.overlap + 1
    if found.count == 1 or overlap > sizes.choices[-1] // 2:
        return None
    return fit(found.rows.length, found.columns.length, sizes, overlap, cost)


def area(height: int, width: int) -> float:
    """Work of a network that has no attention, or only within windows: in proportion to its cells."""
    return height * width


def _axes(length: int, sizes: Sizes, overlap: int) -> list[Axis]:
    """For every number of tiles the smallest that are enough; a single tile is as long as the axis."""
    if length <= sizes.choices[-1]:
        return [Axis(length, length, 1)]
    best: dict[int, Axis] = {}
    for size in reversed(sizes.choices):
        if overlap <= size // 2:
            axis = fixed(length, size, overlap)
            best[axis.count] = axis
    return list(best.values())


def _strangeness(found: Fit, trained: int) -> int:
    return abs(found.rows.size - trained) + abs(found.columns.size - trained)
