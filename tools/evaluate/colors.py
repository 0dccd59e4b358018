"""Colours of a picture in blocks: statistics are taken once, of the whole picture, when all blocks are there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from ...imaging.color import ColorFix, Moments


class ResultTile(NamedTuple):
    """Pixels (H, W, 3) in [0, 1] of a result, and where they lie on it."""

    top: int
    left: int
    pixels: np.ndarray[Any, Any]


def global_fix(mode: str) -> ColorFix | None:
    """The colour fix of that name if it takes statistics of the whole picture."""
    from ...imaging.color import GLOBAL_FIXES  # noqa: PLC0415

    return next((fix for fix in GLOBAL_FIXES if fix.value == mode), None)


class GlobalColorFix:
    """A colour fix by the moments of a whole result and of the picture that it was made from, levels (H, W, 3) of 8 bits."""

    def __init__(self, mode: ColorFix, levels: np.ndarray[Any, Any]) -> None:
        from ...imaging.color import ColorFix, lab_to_rgb, rgb_to_lab  # noqa: PLC0415

        self._levels = levels
        self._to_space, self._from_space = (rgb_to_lab, lab_to_rgb) if mode is ColorFix.LAB else (_rgb, _rgb)
        self._moments: tuple[Moments, Moments] | None = None

    def measure(self, tiles: Iterable[ResultTile], scale: int) -> None:
        """Takes the statistics of all tiles of a result, `scale` times as large as the picture, and of the picture enlarged to it."""
        from ...imaging.color import RunningMoments  # noqa: PLC0415

        own, wanted = RunningMoments(), RunningMoments()
        for tile in tiles:
            own.add(self._to_space(_tensor(tile.pixels)))
            wanted.add(self._to_space(self._reference(tile, scale)))
        self._moments = own.moments(), wanted.moments()

    def __call__(self, pixels: np.ndarray[Any, Any]) -> Tensor:
        """Pixels (H, W, 3) of the measured result in the picture's colours, clamped to [0, 1]."""
        from ...imaging.color import transfer_moments  # noqa: PLC0415

        assert self._moments is not None, "nothing was measured"
        fixed = self._from_space(transfer_moments(self._to_space(_tensor(pixels)), *self._moments))
        return fixed[0].clamp(0, 1).movedim(0, 2)

    def _reference(self, tile: ResultTile, scale: int) -> Tensor:
        """The picture under a tile, enlarged as Wavelet Color Fix does it."""
        from ...imaging.resize import resize  # noqa: PLC0415
        from ...imaging.tiles import Region  # noqa: PLC0415
        from ...sampling.tiled.one_step_blocks import RESIZE_REACH, grown  # noqa: PLC0415

        top, left = tile.top // scale, tile.left // scale
        bottom, right = (
            -(-(start + length) // scale)
            for start, length in zip((tile.top, tile.left), tile.pixels.shape[:2], strict=True)
        )
        near = grown(Region(top, left, bottom - top, right - left), RESIZE_REACH, *self._levels.shape[:2])
        picture = _tensor(self._levels[near.slices].astype(np.float32) / 255)
        large = resize(picture, near.height * scale, near.width * scale).clamp(0, 1)
        y, x = tile.top - near.y * scale, tile.left - near.x * scale
        return large[..., y : y + tile.pixels.shape[0], x : x + tile.pixels.shape[1]]


def _tensor(pixels: np.ndarray[Any, Any]) -> Tensor:
    import torch  # noqa: PLC0415

    return torch.from_numpy(np.ascontiguousarray(pixels, np.float32)).movedim(2, 0)[None]


def _rgb(image: Tensor) -> Tensor:
    return image
