"""Files of blocks put together as a tiled BigTIFF, a row of tiles at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .blocks import Block, in_levels
from .colors import GlobalColorFix, ResultTile

if TYPE_CHECKING:
    from torch import Tensor

TIFF_TILE = 256


def assemble(blocks: Sequence[Block], size: tuple[int, int], place: Path, colors: GlobalColorFix | None = None) -> None:
    """Writes the results of all blocks of a picture of (height, width); what blocks share is cross-faded, and colors are fixed last."""
    import tifffile  # noqa: PLC0415

    scale = blocks[0].scale
    height, width = (scale * side for side in size)
    if colors is not None:
        colors.measure(_inner_tiles(blocks, height, width), scale)
    with tifffile.TiffWriter(place, bigtiff=True) as file:
        file.write(
            _tiles(blocks, height, width, colors),
            shape=(height, width, 3),
            dtype=np.uint8,
            tile=(TIFF_TILE, TIFF_TILE),
            photometric="rgb",
            metadata=None,
        )


def _tiles(
    blocks: Sequence[Block], height: int, width: int, colors: GlobalColorFix | None
) -> Iterator[np.ndarray[Any, Any]]:
    """Tiles of the result, row by row; those at the right and at the bottom are filled up with black, as TIFF wants it."""
    for _, strip in _strips(blocks, height, width):
        for left in range(0, width, TIFF_TILE):
            tile = strip[:, left : left + TIFF_TILE]
            if colors is not None:
                yield in_levels(colors(tile / np.float32(blocks[0].white)), np.uint8)
            else:
                yield tile if tile.dtype == np.uint8 else (tile + 0.5).astype(np.uint8)


def _inner_tiles(blocks: Sequence[Block], height: int, width: int) -> Iterator[ResultTile]:
    """The result in tiles, those at the right and at the bottom smaller."""
    for top, strip in _strips(blocks, height, width):
        for left in range(0, width, TIFF_TILE):
            tile = strip[: height - top, left : min(width, left + TIFF_TILE)]
            yield ResultTile(top, left, tile / np.float32(blocks[0].white))


def _strips(blocks: Sequence[Block], height: int, width: int) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
    """Rows of tiles, filled up with black, in the values of the blocks' files: as floats where blocks are blended."""
    blended = any(block.kept != block.core.inner for block in blocks)
    scale = blocks[0].scale
    for top in range(0, height, TIFF_TILE):
        shape = (TIFF_TILE, -(-width // TIFF_TILE) * TIFF_TILE, 3)
        strip = np.zeros(shape, np.float32 if blended else blocks[0].dtype)
        for block in blocks:
            kept = block.kept.scaled(scale)
            first, last = max(top, kept.y), min(top + TIFF_TILE, kept.y + kept.height)
            if first < last:
                part = block.pixels()[first - kept.y : last - kept.y]
                if blended:
                    rows, columns = (line.numpy() for line in _weights(block, scale))
                    part = rows[first - kept.y : last - kept.y, None, None] * columns[:, None] * part
                strip[first - top : last - top, kept.x : kept.x + kept.width] += part
        yield top, strip


def _weights(block: Block, scale: int) -> tuple[Tensor, Tensor]:
    from ...imaging.tiles import Core, feather_lines  # noqa: PLC0415

    return feather_lines(Core(block.core.inner.scaled(scale), block.kept.scaled(scale)))
