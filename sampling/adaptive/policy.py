"""Which noise level a region goes to next: pure Python, no tensors.

Levels are indices into a falling grid of sigmas, 0 the noisiest; arriving at the last one ends a region. With n + 1 levels
a region that visits all of them makes n calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .types import Gains, Row

COMPLETE = "complete"


@dataclass(frozen=True)
class Decision:
    """Where a region goes after a call: to level `index`, which must be greater than the present one.

    The last level ends it, and `reason` says why. `keep` remembers this call's x0 as the best so far; `restore` (only
    when ending) makes the remembered x0 the result instead of this call's.
    """

    index: int
    reason: str = COMPLETE
    keep: bool = False
    restore: bool = False


class StepPolicy(Protocol):
    """Decides per row. It may hold state, keyed by (row.image, row.region_id); an instance serves one run."""

    def planned_calls(self, row: Row, levels: int) -> int:
        """Returns how many calls the row is expected to make at most, on a grid of `levels` sigmas (the final one included)."""
        ...

    def decide(self, row: Row, index: int, levels: int, gains: Gains | None) -> Decision:
        """Called after every call of the row, made at level `index`; all rows start at level 0.

        `gains` is what the estimator said about this call, None without one.
        """
        ...


@dataclass(frozen=True)
class FixedSchedule:
    """Every region visits every level."""

    def planned_calls(self, row: Row, levels: int) -> int:
        """Plans one call for each level but the final one."""
        return levels - 1

    def decide(self, row: Row, index: int, levels: int, gains: Gains | None) -> Decision:
        """Returns the next level."""
        return Decision(index + 1)


@dataclass(frozen=True)
class BudgetMap:
    """Every region makes exactly its own number of calls, at levels spread evenly over the grid.

    `steps` is [image][region_id]; a batch of more images than entries uses the last entry for the rest.
    """

    steps: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.steps or not all(self.steps):
            raise ValueError("A budget map needs at least one image with at least one region, got none.")
        smallest = min(min(image) for image in self.steps)
        if smallest < 1:
            raise ValueError(f"Every region needs a budget of at least 1 step, got {smallest}.")

    def planned_calls(self, row: Row, levels: int) -> int:
        """Plans the row's budget, at most one call for each level but the final one."""
        image = self.steps[min(row.image, len(self.steps) - 1)]
        if row.region_id >= len(image):
            raise ValueError(
                f"The budget map has {len(image)} regions, but the canvas has region {row.region_id}; "
                "make the map for the regions of this canvas."
            )
        return min(image[row.region_id], levels - 1)

    def decide(self, row: Row, index: int, levels: int, gains: Gains | None) -> Decision:
        """Returns the next of the row's levels."""
        visited = spread_levels(self.planned_calls(row, levels), levels)
        return Decision(next(level for level in visited if level > index))


FIXED_POLICIES = (FixedSchedule, BudgetMap)
"""Policies that look at nothing and remember nothing: a round under them can be repeated."""


def spread_levels(calls: int, levels: int) -> tuple[int, ...]:
    """`calls` + 1 rising levels from 0 to levels - 1, as even as whole numbers allow; 1 <= calls < levels."""
    return tuple(round(i * (levels - 1) / calls) for i in range(calls + 1))


def budget_steps(brightness: Sequence[float], least: int, most: int) -> tuple[int, ...]:
    """Gives the steps per region from a mean brightness in [0, 1] each: `least` at 0, `most` at 1, linear between."""
    if not 1 <= least <= most:
        raise ValueError(f"Expected 1 <= least <= most steps, got {least} and {most}.")
    return tuple(least + round(min(1.0, max(0.0, value)) * (most - least)) for value in brightness)
