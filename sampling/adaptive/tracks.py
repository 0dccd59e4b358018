"""What moves through the noise levels on its own, and the checks at the border of the region loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ...imaging.tiles import Region
from ..batching import nonfinite_rows
from .choices import MergeMode
from .types import RegionModel, Row, rows_of


@dataclass(frozen=True)
class Track:
    """A part of one image's canvas that has one noise level, and the rows that predict it.

    A region with its own row; in AGGREGATE the whole canvas with the rows of all regions.
    """

    image: int
    region: Region
    rows: tuple[Row, ...]

    def cut(self, canvas: Tensor, image: int | None = None) -> Tensor:
        """Returns the track's part (C, h, w) of a canvas (B, C, H, W); `image` if the canvas is not the batch's."""
        return canvas[(self.image if image is None else image, slice(None), *self.region.slices)]


def make_tracks(regions: Sequence[Region], shape: Sequence[int], merge: MergeMode) -> list[Track]:
    """Returns the tracks of a canvas (B, C, H, W), in the order of rows."""
    images, _, height, width = shape
    rows = rows_of(regions, images)
    if merge is not MergeMode.AGGREGATE:
        return [Track(row.image, row.region, (row,)) for row in rows]
    canvas = Region(0, 0, height, width)
    return [Track(i, canvas, tuple(row for row in rows if row.image == i)) for i in range(images)]


def row_crop(x: Tensor, track: Track, row: Row) -> Tensor:
    """Returns the row's part (C, h, w) of its track's latent."""
    region = row.region
    inside = Region(region.y - track.region.y, region.x - track.region.x, region.height, region.width)
    return x[(slice(None), *inside.slices)]


def predict_again(
    full_precision: RegionModel | None,
    x0: Tensor,
    bad: Sequence[int],
    x: Tensor,
    sigma: Tensor,
    rows: Sequence[Row],
) -> Tensor:
    """x0 (N, C, h, w) with the bad rows predicted in float32. Raises ValueError naming the first that stays non-finite."""
    if full_precision is not None:
        x0 = x0.clone()
        x0[bad] = full_precision(x[bad], sigma[bad], [rows[i] for i in bad]).to(x0)
    still = nonfinite_rows(x0)
    if still:
        row = rows[still[0]]
        raise ValueError(
            f"The model gave values that are not finite for region {row.region_id + 1} (latent x {row.region.x}, y {row.region.y}) "
            f"of image {row.image + 1} at sigma {float(sigma[still[0]]):.4g}, in float32 too: expected finite latents, "
            "conditioning and weights; check the input for extreme values and the model file for damage."
        )
    return x0


def validate(shape: Sequence[int], sigmas: Sequence[float], regions: Sequence[Region], window: Tensor | None) -> None:
    """Refuses canvases, grids and sigmas that the loop cannot run."""
    if len(shape) != 4 or 0 in shape:
        raise ValueError(
            f"Expected a latent canvas (B, C, H, W), got shape {tuple(shape)}; video latents are not supported."
        )
    falling = all(high >= low for high, low in pairwise(sigmas)) and all(s > 0 for s in sigmas[:-1])
    if len(sigmas) < 2 or not falling or sigmas[-1] < 0 or not all(map(math.isfinite, sigmas)):
        raise ValueError(f"Expected at least two finite sigmas that fall to 0 or above, got {list(sigmas)}.")
    if not regions or len({(region.height, region.width) for region in regions}) != 1:
        raise ValueError(f"Expected regions of one size, got {list(regions)}.")
    if window is not None and tuple(window.shape) != (regions[0].height, regions[0].width):
        raise ValueError(f"Expected a window as large as a region, got {tuple(window.shape)} for {regions[0]}.")
    _refuse_gaps(shape[-2], shape[-1], regions)


def _refuse_gaps(height: int, width: int, regions: Sequence[Region]) -> None:
    covered = torch.zeros(height, width, dtype=torch.bool)
    for region in regions:
        inside = 0 <= region.y <= height - region.height and 0 <= region.x <= width - region.width
        if not inside:
            raise ValueError(f"{region} does not lie on the canvas of {height} x {width} cells.")
        covered[region.slices] = True
    if not covered.all():
        raise ValueError(f"The regions leave {int((~covered).sum())} cells of the {height} x {width} canvas uncovered.")
