"""One canvas cut into regions and put together again: exact sizes, last ones shifted inward, never stretched.

Regions are integer rectangles; tiles are tensors (N * B, C, s, s), the regions of one image side by side: row n * B + b.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Region:
    """A rectangle of the canvas, in its cells."""

    y: int
    x: int
    height: int
    width: int

    def scaled(self, factor: int) -> Region:
        """The same rectangle on a canvas enlarged by an integer factor."""
        return Region(self.y * factor, self.x * factor, self.height * factor, self.width * factor)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the rectangle in the last two axes."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    @property
    def area(self) -> int:
        """Cells covered."""
        return self.height * self.width


def starts(length: int, size: int, stride: int) -> list[int]:
    """First cells of tiles along one axis: multiples of stride, any that would stick out moved back inside, each once."""
    if size < 1 or stride < 1:
        raise ValueError(f"Expected a tile size and a stride of at least 1, got {size} and {stride}.")
    if length <= size:
        return [0]
    return list(dict.fromkeys(min(start, length - size) for start in range(0, length, stride)))


def grid(height: int, width: int, size: int, overlap: int) -> tuple[Region, ...]:
    """Cuts (height, width) into size x size regions, row by row, which cover it exactly and overlap by at least `overlap`.

    An axis shorter than size gives regions as short as the axis.
    """
    if not 0 <= overlap < size:
        raise ValueError(f"Expected an overlap of 0 to {size - 1} cells for tiles of {size}, got {overlap}.")
    rows, columns = _covering(height, size, overlap), _covering(width, size, overlap)
    tile_h, tile_w = min(size, height), min(size, width)
    return tuple(Region(y, x, tile_h, tile_w) for y in rows for x in columns)


def _covering(length: int, size: int, overlap: int) -> list[int]:
    """Starts of the fewest tiles that cover length, stopping at the first that reaches the end (no redundant last tile)."""
    if length <= size:
        return [0]
    count = math.ceil((length - overlap) / (size - overlap))
    return [min(i * (size - overlap), length - size) for i in range(count)]


@dataclass(frozen=True)
class Core:
    """A part of a partition with the surroundings that a network needs to see: `inner` lies in `outer`, all on the canvas."""

    inner: Region
    outer: Region


def partition(height: int, width: int, size: int, margin: int) -> tuple[Core, ...]:
    """Cuts the canvas into disjoint parts of at most size x size, each inside a rectangle wider by margin where there is room."""
    cores: list[Core] = []
    for y, part_h in _parts(height, size):
        for x, part_w in _parts(width, size):
            top, left = max(0, y - margin), max(0, x - margin)
            bottom, right = min(height, y + part_h + margin), min(width, x + part_w + margin)
            cores.append(Core(Region(y, x, part_h, part_w), Region(top, left, bottom - top, right - left)))
    return tuple(cores)


def _parts(length: int, size: int) -> list[tuple[int, int]]:
    """Near-equal runs (start, length) of at most size cells."""
    count = math.ceil(length / size)
    edges = [round(i * length / count) for i in range(count + 1)]
    return [(edges[i], edges[i + 1] - edges[i]) for i in range(count)]


def gather(canvas: Tensor, regions: Sequence[Region]) -> Tensor:
    """Copies equally large regions out of (B, C, H, W) into (N * B, C, s, s)."""
    return torch.cat([canvas[(..., *region.slices)] for region in regions])


def gaussian_window(height: int, width: int, variance: float = 0.01) -> Tensor:
    """Separable Gaussian weights (height, width), symmetric, 1 at the centre (StableSR, section 3.3, without its half-pixel shift).

    variance is that of the coordinate in units of the side length. Float32: corner weights are near 1e-11 of the centre's.
    """
    return torch.outer(_gaussian_line(height, variance), _gaussian_line(width, variance))


def _gaussian_line(length: int, variance: float) -> Tensor:
    position = (torch.arange(length, dtype=torch.float32) - (length - 1) / 2) / length
    return torch.exp(-position.square() / (2 * variance))  # (length,)


class Merger:
    """Weighted mean of tiles on one canvas; tiles may come in any order and in batches of any size."""

    def __init__(
        self,
        shape: Sequence[int],
        window: Tensor,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """shape is the canvas (B, C, H, W); window (s, s) weighs each cell of a tile; dtype is at least float32."""
        batch, _, height, width = shape
        self._sum = torch.zeros(tuple(shape), dtype=dtype, device=device)
        self._weight = torch.zeros((batch, 1, height, width), dtype=dtype, device=device)
        self._window = window.to(device=device, dtype=dtype)

    def add(self, tile: Tensor, region: Region, image: int) -> None:
        """Adds the tile (C, s, s) of one region of one image of the batch."""
        index = (image, slice(None), *region.slices)
        self._sum[index] += tile.to(self._sum) * self._window
        self._weight[index] += self._window

    def result(self) -> Tensor:
        """The merged canvas (B, C, H, W). Every cell must have been covered."""
        return self._sum / self._weight

    def finish(self) -> Tensor:
        """`result` in the memory of the sums; the merger cannot be used any more."""
        return self._sum.div_(self._weight)


def merge(tiles: Tensor, regions: Sequence[Region], shape: Sequence[int], window: Tensor) -> Tensor:
    """Inverse of gather: the window-weighted mean of tiles (N * B, C, s, s) on a canvas of the given (B, C, H, W)."""
    merger = Merger(shape, window, tiles.device)
    for row, tile in enumerate(tiles):
        merger.add(tile, regions[row // shape[0]], row % shape[0])
    return merger.result().to(tiles.dtype)


def feather(core: Core) -> Tensor:
    """Weights (height, width) of a part's outer rectangle, such that the weights of all parts sum to 1 on the canvas.

    They ramp linearly across the strip that two neighbours share, and are 1 elsewhere.
    """
    return torch.outer(*feather_lines(core))


def feather_lines(core: Core) -> tuple[Tensor, Tensor]:
    """Lines (height,) and (width,) whose outer product are the weights of `feather`."""
    inner, outer = core.inner, core.outer
    rows = _ramp(outer.height, inner.y - outer.y, outer.y + outer.height - inner.y - inner.height)
    columns = _ramp(outer.width, inner.x - outer.x, outer.x + outer.width - inner.x - inner.width)
    return rows, columns


def _ramp(length: int, before: int, after: int) -> Tensor:
    """Line of ones that rises over its first 2 * before and falls over its last 2 * after cells."""
    line = torch.ones(length)
    if before:
        line[: 2 * before] = (torch.arange(2 * before) + 0.5) / (2 * before)
    if after:
        line[-2 * after :] = (torch.arange(2 * after).flip(0) + 0.5) / (2 * after)
    return line  # (length,)
