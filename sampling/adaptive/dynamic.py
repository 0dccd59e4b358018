"""Dynamic timestep sampling (DTSS): how far a region jumps follows from what its last call gained (AdaDiffSR, section 3.3). Pure Python.

The paper names four intervals and three classes of regions, not how one follows from the other; the state machine is ours.
Gains are compared per grid step: after a jump of four steps a quarter of the gain counts. Index j counts down to 0, the
least noisy entry of the grid, where one more call gives the result; so jumps of 1 everywhere are the plain sampler.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import pairwise

from .choices import GrowingRule, JumpRule
from .policy import COMPLETE, Decision
from .prior import NO_PRIOR, RegionPrior
from .types import Gains, Row

SATURATED, BUDGET = "saturated", "budget"
"""Why a region ended before the last level, beside `policy.COMPLETE`: its quality fell again; its calls were spent."""

FULL_REFERENCE, NO_REFERENCE, CHANGE = "fr", "nr", "change"
"""Names in `Gains` that the policy reads: gain against the input, gain in quality, RMS(x0 - last x0) / RMS(x0)."""

REFERENCE_GRID = 200
"""Grid entries for which the default numbers stand."""


class CallClass(str, Enum):
    """What a call says about its region. WARMUP: nothing yet. HOLD: falling quality, not yet believed."""

    WARMUP = "warmup"
    GROWING = "growing"
    STABLE = "stable"
    HOLD = "hold"
    SATURATED = "saturated"


@dataclass(frozen=True)
class DynamicSettings:
    """Numbers of the state machine; timesteps are those of a chain of 1000, the most noise at 999.

    jumps: grid steps of the four rungs, not falling. tau: gain per grid step from which a region counts as changing.
    t_half: quality gains count below it. patience: falling calls in a row before a region ends, at timesteps of t_sat_max or
    less. warmup: calls with the first jump. min_calls, max_calls: per region. tail_guard: at this index and below, every
    jump is the first. still: a change per grid step below it makes a call stable (0 is off; 2e-3 goes with the proxies).
    growing: what makes a region grow once quality counts.
    """

    jumps: tuple[int, ...] = (1, 2, 3, 4)
    tau: float = 5e-3
    t_half: float = 500.0
    t_sat_max: float = 300.0
    patience: int = 2
    warmup: int = 2
    min_calls: int = 20
    max_calls: int = 200
    tail_guard: int = 0
    rule: JumpRule = JumpRule.LADDER
    still: float = 0.0
    growing: GrowingRule = GrowingRule.EITHER

    def __post_init__(self) -> None:
        if len(self.jumps) != 4 or self.jumps[0] < 1 or any(b < a for a, b in pairwise(self.jumps)):
            raise ValueError(f"Got the jumps {self.jumps}: expected four whole numbers of at least 1 that do not fall.")
        for name in ("tau", "t_half", "t_sat_max", "still"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"Got {name} {value}: expected a finite number of at least 0.")
        if self.t_sat_max > self.t_half:
            raise ValueError(
                f"Got t_sat_max {self.t_sat_max:g} above t_half {self.t_half:g}: expected at most t_half, since quality is not "
                "measured above it; lower t_sat_max."
            )
        least = {"patience": 1, "warmup": 0, "min_calls": 0, "max_calls": 1, "tail_guard": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"Got {name} {getattr(self, name)}: expected at least {low}.")
        if self.min_calls > self.max_calls:
            raise ValueError(
                f"Got min_calls {self.min_calls} above max_calls {self.max_calls}: expected at most as many; lower min_calls."
            )

    def on_grid(self, entries: int) -> DynamicSettings:
        """Returns the settings for a grid of another length: longer steps gain more each, and calls are counted in proportion."""
        if entries < 1:
            raise ValueError(f"Got a grid of {entries} entries: expected at least 1.")
        share = entries / REFERENCE_GRID
        low, high = round(self.min_calls * share), max(1, round(self.max_calls * share))
        guard = round(self.tail_guard * share)
        return replace(
            self,
            tau=self.tau / share,
            still=self.still / share,
            min_calls=min(low, high),
            max_calls=high,
            tail_guard=guard,
        )

    def scaled(self, factor: float) -> DynamicSettings:
        """Returns the settings with thresholds of gains and changes multiplied by a factor."""
        return self if factor == 1.0 else replace(self, tau=self.tau * factor, still=self.still * factor)


@dataclass
class RegionState:
    """What is known of a region after its last call (AdaDiffSR, section 3.3; names of the state machine)."""

    calls: int = 0
    jump: int | None = None
    """The jump that led to the last call; None at the first."""
    level: int = 0
    start: int = 0
    """The rung of the first calls."""
    falling: int = 0
    quality: float = 0.0
    """Sum of quality gains since they began."""
    quality_started: bool = False
    best: float | None = None
    best_call: int | None = None
    fr: float | None = None
    nr: float | None = None
    """Gains of the last call that counted; None where there was none."""
    status: str = "active"
    classes: list[CallClass] = field(default_factory=list[CallClass])


class DynamicTimesteps:
    """The policy: one state per region; an instance serves one run."""

    def __init__(
        self,
        settings: DynamicSettings,
        timesteps: Sequence[float],
        priors: Mapping[tuple[int, int], RegionPrior] | None = None,
    ) -> None:
        """timesteps of all levels but the final one, falling, on the scale of 1000; priors by (image, region)."""
        if not timesteps or any(b > a for a, b in pairwise(timesteps)) or not all(map(math.isfinite, timesteps)):
            raise ValueError(f"Got the timesteps {list(timesteps)}: expected at least one, finite and falling.")
        self.settings, self.timesteps, self.priors = settings, tuple(timesteps), priors or {}
        self.states: dict[tuple[int, int], RegionState] = {}
        """By (image, region)."""

    def planned_calls(self, row: Row, levels: int) -> int:
        """Plans every level, up to the limit."""
        self._check(levels)
        return min(self.settings.max_calls, levels - 1)

    def decide(self, row: Row, index: int, levels: int, gains: Gains | None) -> Decision:
        """Raises ValueError where a region's second or later call comes without gains, or with gains that are not finite."""
        self._check(levels)
        prior = self.priors.get(row.key, NO_PRIOR)
        state = self.states.setdefault(row.key, RegionState(start=prior.start))
        if state.calls and gains is None:
            raise ValueError(
                "Dynamic timesteps got no gains: expected an estimator that looks at every call; connect one."
            )
        known = gains or {}
        bad = next((name for name, value in known.items() if not math.isfinite(value)), None)
        if bad is not None:
            raise ValueError(
                f"The gain '{bad}' of region {row.region_id + 1} of image {row.image + 1} is {known[bad]}: expected a finite "
                "number; choose other metrics."
            )
        settings = self.settings.scaled(prior.tau_factor)
        jump = advance(state, settings, levels - 2 - index, self.timesteps[index], known)
        keep = state.best_call == state.calls
        if jump:
            return Decision(index + jump, keep=keep)
        return Decision(levels - 1, state.status, keep, restore=state.status == SATURATED)

    def _check(self, levels: int) -> None:
        if levels != len(self.timesteps) + 1:
            raise ValueError(
                f"Dynamic timesteps were made for {len(self.timesteps)} calls, the run has {levels - 1}: expected one timestep "
                "for each; make the policy from the run's sigmas."
            )


def advance(state: RegionState, settings: DynamicSettings, j: int, t: float, gains: Mapping[str, float]) -> int:
    """Takes one call at index j and timestep t into the state, and returns the next jump, 0 where the region ends."""
    state.calls += 1
    first = state.jump is None
    _take_gains(state, settings, t, gains, first)
    if state.quality_started and t <= settings.t_sat_max and (state.best is None or state.quality > state.best):
        # The estimator gives gains only, so "the best so far" is the greatest sum of them. Above t_sat_max x0 is still a blur.
        state.best, state.best_call = state.quality, state.calls
    kind = CallClass.WARMUP if first else _class_of(state, settings, t)
    if state.jump is not None and settings.still and gains.get(CHANGE, math.inf) / state.jump < settings.still:
        kind = CallClass.STABLE
    state.classes.append(kind)
    if kind is CallClass.SATURATED:
        state.status = SATURATED
        return 0
    state.level = _level(state, settings, t, kind)
    if j == 0:
        state.status = COMPLETE
        return 0
    left = settings.max_calls - state.calls
    if left <= 0:
        state.status = BUDGET
        return 0
    state.jump = _jump(state, settings, j, left)
    return state.jump


def _take_gains(
    state: RegionState, settings: DynamicSettings, t: float, gains: Mapping[str, float], first: bool
) -> None:
    """Takes the gains of the call that count: quality only below t_half, when the call before was there as well."""
    below = t < settings.t_half
    counts = below and state.quality_started and not first
    if below and not state.quality_started:
        state.quality_started, state.quality = True, 0.0
    state.fr = None if first else gains.get(FULL_REFERENCE)
    state.nr = gains.get(NO_REFERENCE) if counts else None
    if state.nr is not None:
        state.quality += state.nr


def _rates(state: RegionState) -> tuple[float | None, float | None]:
    """Returns the gains of the last call per grid step; None where there was none."""
    jump = state.jump or 1
    return None if state.fr is None else state.fr / jump, None if state.nr is None else state.nr / jump


def _class_of(state: RegionState, settings: DynamicSettings, t: float) -> CallClass:
    fr, nr = _rates(state)
    tau = settings.tau
    if nr is None:
        return CallClass.GROWING if fr is not None and abs(fr) > tau else CallClass.STABLE
    if nr < -tau:
        state.falling += 1
        enough = state.falling >= settings.patience and state.calls >= settings.min_calls
        return CallClass.SATURATED if enough and t <= settings.t_sat_max else CallClass.HOLD
    state.falling = 0
    if settings.growing is GrowingRule.BOTH:
        grows = nr > tau and (fr is None or fr > tau)
    else:
        grows = nr > tau or (fr is not None and fr < -tau)
    return CallClass.GROWING if grows else CallClass.STABLE


def _level(state: RegionState, settings: DynamicSettings, t: float, kind: CallClass) -> int:
    """Returns the rung of the next jump."""
    if kind is CallClass.WARMUP or state.calls <= settings.warmup:
        return state.start
    if kind is CallClass.HOLD:
        return state.level
    fastest = max((abs(rate) for rate in _rates(state) if rate is not None), default=0.0)
    growing = kind is CallClass.GROWING
    match settings.rule:
        case JumpRule.PHASE_CLASS:
            late = t < settings.t_half
            return (0 if late else 1) if growing else (3 if late else 2)
        case JumpRule.MAGNITUDE:
            return sum(fastest <= factor * settings.tau for factor in (4, 2, 1))
        case _:
            if growing:
                return 0 if fastest > 2 * settings.tau else max(0, state.level - 1)
            return min(3, state.level + 1)


def _jump(state: RegionState, settings: DynamicSettings, j: int, left: int) -> int:
    """Returns the rung's jump within the limits: enough calls, not too many, never past index 0."""
    jump = settings.jumps[0 if j <= settings.tail_guard else state.level]
    if state.calls < settings.min_calls:
        jump = min(jump, max(1, j // (settings.min_calls - state.calls)))
    return min(max(jump, math.ceil(j / left)), j)
