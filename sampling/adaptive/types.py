"""The types of region sampling: rows of a call, merge modes, noise spaces, the observer, results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from statistics import fmean
from typing import TypeAlias

import torch
from torch import Tensor

from ...imaging.tiles import Region


@dataclass(frozen=True)
class Row:
    """One row of a network call: a region (latent cells; `region_id` counts those of one image) of an image of the batch."""

    region_id: int
    image: int
    region: Region

    @property
    def key(self) -> tuple[int, int]:
        """Returns (image, region_id), under which a region is remembered."""
        return self.image, self.region_id


RegionModel: TypeAlias = Callable[[Tensor, Tensor, Sequence[Row]], Tensor]
"""(x (N, C, h, w) float32, sigma (N,) float32, the N rows) -> the clean latents x0 (N, C, h, w), any float dtype.

sigma stays on the CPU, where conditions are chosen by it without waiting for the device; x is on the canvas's device.
Rows of one call may have different sigmas. Every row must be predicted from itself alone.
"""

NoiseField: TypeAlias = Callable[[int], Tensor]
"""Grid index that is arrived at -> standard normal noise (C, H, W) of the whole canvas, always the same for an index."""

Gains: TypeAlias = Mapping[str, float]
"""What an estimator says about a row after a call, by name; the policy knows what the names mean."""


@dataclass(frozen=True)
class MeasuredCall:
    """What an estimator measured of a call, still on the device: numbers (K,), and how they become the gains of each row.

    Nothing is remembered before `conclude` gets the numbers: a call that overflowed is measured a second time.
    """

    numbers: Tensor
    conclude: Callable[[Sequence[float]], Sequence[Gains]]


def known(gains: Sequence[Gains]) -> MeasuredCall:
    """Gains of a call for which nothing has to be read."""
    return MeasuredCall(torch.empty(0), lambda _: gains)


class NoiseSpace(str, Enum):
    """What a noisy latent is: x0 + sigma n (variance exploding), or (1 - sigma) x0 + sigma n (flow)."""

    VARIANCE_EXPLODING = "ve"
    FLOW = "flow"


class RegionObserver:
    """Sees a run while it samples; does nothing as it is. Whatever a method raises (a cancel) ends the run."""

    shows_canvas = False
    """Whether `previewed` is to be called after every round."""

    def is_out_of_memory(self, error: Exception) -> bool:
        """Tells whether an error of the model means that fewer rows would have fitted."""
        return False

    def measured(self, rows: Sequence[Row], x0: Tensor, levels: Sequence[int]) -> MeasuredCall | None:
        """Measures a network call for the policy: its rows, their finite x0 (N, C, h, w) and grid indices; None without gains.

        Regions that go in step (AGGREGATE) get the mean of their gains.
        """
        return None

    def called(self, rows: Sequence[Row], done: int, planned: int) -> None:
        """Sees a network call: its rows, and the rows done and planned so far. The plan shrinks when regions finish early."""

    def moved(self, row: Row, level: int, reason: str) -> None:
        """Sees that a row is at a level of the grid now; the reason is empty unless it has ended."""

    def previewed(self, x0: Tensor, done: int, planned: int) -> None:
        """Sees a round: the newest x0 (B, C, H, W) of every region, all finite, and the rows done and planned so far."""


@dataclass
class RegionWork:
    """Counts what was done: rows are regions of single images, without the doubling of guidance.

    `batch_sizes` maps rows per call to the number of calls that had so many; `calls_of` counts by (image, region).
    """

    calls: int = 0
    rows: int = 0
    latent_cells: int = 0
    halvings: int = 0
    float32_retries: int = 0
    batch_sizes: Counter[int] = field(default_factory=Counter[int])
    calls_of: Counter[tuple[int, int]] = field(default_factory=Counter[tuple[int, int]])

    def add_calls(self, rows: Sequence[Row], calls: int = 1) -> None:
        """Counts so many calls on these rows."""
        self.calls += calls
        self.rows += calls * len(rows)
        self.latent_cells += calls * sum(row.region.area for row in rows)
        self.batch_sizes[len(rows)] += calls
        for row in rows:
            self.calls_of[row.key] += calls

    def copy(self) -> RegionWork:
        """Returns the counts as they are now."""
        return replace(self, batch_sizes=self.batch_sizes.copy(), calls_of=self.calls_of.copy())

    def become(self, other: RegionWork) -> None:
        """Takes over the counts of another: whoever watches this one sees them."""
        for each in fields(self):
            setattr(self, each.name, getattr(other, each.name))

    def per_region(self, images: int, regions: int) -> list[list[int]]:
        """Gives the calls as [image][region_id]."""
        return [[self.calls_of[image, region] for region in range(regions)] for image in range(images)]


@dataclass(frozen=True)
class RegionResult:
    """The sampled canvas (B, C, H, W) float32 and, as [image][region_id], the calls and why each region stopped."""

    samples: Tensor
    calls_per_region: list[list[int]]
    exit_reasons: list[list[str]]
    work: RegionWork


def crop_rows(canvas: Tensor, rows: Sequence[Row], factor: int = 1) -> Tensor:
    """Crops (M, C, f H, f W), one for each row: (N, C, f h, f w). Images beyond M begin again, as in the host."""
    parts = [canvas[(row.image % len(canvas), slice(None), *row.region.scaled(factor).slices)] for row in rows]
    return torch.stack(parts)


def mean_gains(gains: Sequence[Gains]) -> Gains | None:
    """Averages the gains of regions that go in step, by name over those that have it; None where there are none."""
    if len(gains) < 2:
        return gains[0] if gains else None
    names = dict.fromkeys(name for row in gains for name in row)
    return {name: fmean(row[name] for row in gains if name in row) for name in names}


def rows_of(regions: Sequence[Region], images: int) -> list[Row]:
    """Returns all rows of a batch, an image's regions one after another."""
    return [Row(i, image, region) for image in range(images) for i, region in enumerate(regions)]
