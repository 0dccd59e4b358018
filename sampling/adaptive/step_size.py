"""Step-size control per region: each jump is as long as an estimate of its error allows (ours, beside AdaDiffSR's rule).

A step of Euler (DDIM) from a to b keeps x0, so its error is b times the integral of x0(u) - x0(u_a) over u = 1 / sigma. While
noise hides a detail, the optimal x0 of it is proportional to u (c / sigma^2 of a latent of size sigma); later it moves less.
So the change per u of the last jump, q = RMS(x0 - last x0) / (u_a - u_last), bounds what is to come, and the error of a jump
is at most q b (u_b - u_a)^2 / 2. A region goes as far as that stays below the tolerance. It needs neither a
reference nor metrics nor a prior: regions in which nothing happens jump to the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .dynamic import CallClass, RegionState
from .observers import Estimator, Key, rms
from .policy import COMPLETE, Decision
from .types import Gains, MeasuredCall, NoiseSpace, Row, known

MOVED = "moved"
"""Name in `Gains`: RMS(x0 - last x0), in the model's scale."""


@dataclass(frozen=True)
class StepSizeSettings:
    """tolerance: error that a jump may add, as RMS in the model's scale. min_calls, max_calls: per region."""

    tolerance: float = 4e-3
    min_calls: int = 0
    max_calls: int = 10**9

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise ValueError(f"Got the tolerance {self.tolerance}: expected a finite number of at least 0.")
        if not 0 <= self.min_calls <= self.max_calls or self.max_calls < 1:
            raise ValueError(
                f"Got at least {self.min_calls} and at most {self.max_calls} calls: expected 0 <= least <= most and most >= 1."
            )


class StepSizeControl:
    """The policy: one state per region; an instance serves one run over these sigmas."""

    def __init__(
        self, settings: StepSizeSettings, sigmas: Sequence[float], space: NoiseSpace = NoiseSpace.VARIANCE_EXPLODING
    ) -> None:
        """sigmas are those of the run, falling, the last one included."""
        self.settings, self.sigmas, self.space = settings, tuple(sigmas), space
        self.states: dict[Key, RegionState] = {}
        """By (image, region): calls, classes and why it ended; GROWING stands for the next level, STABLE for a jump."""
        self._last: dict[Key, int] = {}

    def planned_calls(self, row: Row, levels: int) -> int:
        """Every level, up to the limit."""
        return min(self.settings.max_calls, levels - 1)

    def decide(self, row: Row, index: int, levels: int, gains: Gains | None) -> Decision:
        """The next level at a region's first call, then the furthest that the tolerance allows.

        Raises ValueError where a later call comes without `MOVED`, or the run has other levels than the policy.
        """
        if levels != len(self.sigmas):
            raise ValueError(f"Step-size control was made for {len(self.sigmas)} levels, the run has {levels}.")
        state = self.states.setdefault(row.key, RegionState())
        state.calls += 1
        before, self._last[row.key] = self._last.get(row.key), index
        level = index + 1 if before is None else self.furthest(self._moved(row, gains), before, index)
        level = self._limited(state.calls, index, level)
        kind = CallClass.WARMUP if before is None else CallClass.GROWING if level == index + 1 else CallClass.STABLE
        state.classes.append(kind)
        if level == levels - 1:
            state.status = COMPLETE
        return Decision(level)

    def _moved(self, row: Row, gains: Gains | None) -> float:
        moved = (gains or {}).get(MOVED, math.nan)
        if not math.isfinite(moved):
            raise ValueError(
                f"Step-size control got the change {moved} of region {row.region_id + 1} of image {row.image + 1}: expected a "
                "finite number after every call; connect an observer that tells it."
            )
        return moved

    def furthest(self, moved: float, before: int, index: int) -> int:
        """The furthest level whose estimated error is within the tolerance, at least the next one."""
        here = self._inverse(index)
        slope = moved / (here - self._inverse(before)) if here > self._inverse(before) else math.inf
        last = len(self.sigmas) - 1
        levels = range(last, index + 1, -1)
        fits = (level for level in levels if self._error(slope, here, level) <= self.settings.tolerance)
        return next(fits, index + 1)

    def _error(self, slope: float, here: float, level: int) -> float:
        """The bound on a jump to `level`; a jump to sigma 0 loses what x0 would still move until the level before."""
        if self.sigmas[level] <= 0:
            return slope * (self._inverse(level - 1) - here)
        there = self._inverse(level)
        return slope / there * (there - here) ** 2 / 2

    def _inverse(self, level: int) -> float:
        """1 / sigma of a latent x0 + sigma n; a flow's is (1 - sigma) / sigma."""
        sigma = self.sigmas[level]
        return (1 - sigma) / sigma if self.space is NoiseSpace.FLOW else 1 / sigma

    def _limited(self, calls: int, index: int, level: int) -> int:
        """That level, neither so far that the least calls find no room nor so near that the most do not reach the end."""
        last = len(self.sigmas) - 1
        missing = max(0, self.settings.min_calls - calls)
        left = max(0, self.settings.max_calls - calls)
        highest = index + max(1, (last - index) // (missing + 1))
        lowest = index + math.ceil((last - index) / (left + 1))
        return max(min(level, highest), lowest)


@dataclass
class Moves(Estimator):
    """An estimator for step-size control: how far a region's prediction moved since its last call."""

    also: Estimator | None = None
    """Another estimator, whose gains are passed on."""
    latest: dict[Key, Gains] = field(default_factory=dict[Key, Gains])
    _last: dict[Key, Tensor] = field(default_factory=dict[Key, Tensor])

    @torch.no_grad()
    def measured(self, rows: Sequence[Row], x0: Tensor, levels: Sequence[int]) -> MeasuredCall:
        """`MOVED` of rows whose predictions (N, C, h, w) were made at these levels; empty at a row's first call."""
        keys = [row.key for row in rows]
        last = torch.stack([self._last.get(key, tile) for key, tile in zip(keys, x0)])
        also = known([{} for _ in rows]) if self.also is None else self.also.measured(rows, x0, levels)

        def conclude(numbers: Sequence[float]) -> list[Gains]:
            others = also.conclude(numbers[len(keys) :])
            for key, tile, moved, other in zip(keys, x0, numbers, others):
                self.latest[key] = {**other, MOVED: moved} if key in self._last else dict(other)
                self._last[key] = tile.clone()
            return [self.latest[key] for key in keys]

        moves = rms(x0 - last)
        numbers = torch.cat([moves, also.numbers.to(moves)]) if also.numbers.numel() else moves
        return MeasuredCall(numbers, conclude)
