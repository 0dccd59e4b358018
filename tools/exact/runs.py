"""Runs on an exact canvas: the levels that every region visited, its distance to the truth, and the best that can be done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ...sampling.adaptive.choices import MergeMode
from ...sampling.adaptive.policy import Decision, FixedSchedule, StepPolicy
from ...sampling.adaptive.sampler import sample_regions
from ...sampling.adaptive.steppers import stepper_for
from ...sampling.adaptive.types import Gains, MeasuredCall, NoiseSpace, RegionModel, RegionObserver, Row, known, rows_of
from ...sampling.batching import BatchSize
from .canvas import ExactCanvas
from .posterior import Gaussian
from .theory import distance, karras, sampled_variance

Observe = Callable[[Sequence[Row], Tensor, Sequence[int]], Sequence[Gains]]
MOST_EVEN = 160
FINE_STEPS = 160


@dataclass
class Recorded:
    """A policy, and the levels at which every region was predicted."""

    policy: StepPolicy
    levels: dict[int, list[int]] = field(default_factory=dict[int, list[int]])

    def planned_calls(self, row: Row, levels: int) -> int:
        """Those of the policy."""
        return self.policy.planned_calls(row, levels)

    def decide(self, row: Row, index: int, levels: int, gains: Gains | None) -> Decision:
        """The policy's decision."""
        decision = self.policy.decide(row, index, levels, gains)
        self.levels.setdefault(row.region_id, [index]).append(decision.index)
        return decision


@dataclass
class Estimated(RegionObserver):
    """Asks an estimator after every call."""

    observe: Observe

    def measured(self, rows: Sequence[Row], x0: Tensor, levels: Sequence[int]) -> MeasuredCall:
        """Gives what the estimator says."""
        return known(self.observe(rows, x0, levels))


@dataclass(frozen=True)
class ExactOutcome:
    """Calls of every region and W2^2 per cell of every region."""

    calls: tuple[int, ...]
    errors: tuple[float, ...]

    @property
    def mean_calls(self) -> float:
        """Per region."""
        return sum(self.calls) / len(self.calls)

    @property
    def error(self) -> float:
        """W2^2 per cell of the canvas."""
        return sum(self.errors) / len(self.errors)


@dataclass
class ExactTrial:
    """One canvas with one seed. Mixtures have no closed form: their distance is that to a fine run from the same noise."""

    canvas: ExactCanvas
    seed: int

    @cached_property
    def mean(self) -> Tensor:
        """What the input tells (1, C, H, W)."""
        return self.canvas.mean(self.seed)

    @cached_property
    def exact(self) -> bool:
        """Whether every region is a Gaussian."""
        return all(len(p.components) == 1 for p in self.canvas.posteriors)

    @cached_property
    def fine(self) -> Tensor:
        """The picture (1, C, H, W) of very many steps of the second order."""
        return self.sample(karras(FINE_STEPS), FixedSchedule(), None, "dpmpp_2m")

    def run(self, sigmas: Sequence[float], policy: StepPolicy, observe: Observe | None = None) -> ExactOutcome:
        """Runs Euler under a policy; where nothing has to be observed and W2 is known, only the policy is asked."""
        recorded = Recorded(policy)
        known = self.exact and observe is None
        samples = self._walk(recorded, len(sigmas)) if known else self.sample(sigmas, recorded, observe, "euler")
        visited = [[sigmas[level] for level in recorded.levels[i]] for i in range(len(self.canvas.regions))]
        errors = self.closed_form(visited) if self.exact else self._to_fine(samples)
        return ExactOutcome(tuple(len(own) - 1 for own in visited), tuple(errors))

    def _walk(self, policy: Recorded, levels: int) -> Tensor:
        for row in rows_of(self.canvas.regions, 1):
            index = 0
            while index < levels - 1:
                index = policy.decide(row, index, levels, None).index
        return self.mean

    def closed_form(self, visited: Sequence[Sequence[float]]) -> list[float]:
        """W2^2 per cell of regions that visited these sigmas, by `theory`."""
        known: dict[tuple[int, tuple[float, ...]], float] = {}
        found: list[float] = []
        for p, own in zip(self.canvas.posteriors, visited):
            key = id(p.gaussian), tuple(own)
            if key not in known:
                known[key] = distance(sampled_variance(p.gaussian.variance, own), p.gaussian.variance)
            found.append(known[key])
        return found

    def _to_fine(self, samples: Tensor) -> list[float]:
        return self.canvas.tiles(samples - self.fine).square().flatten(1).mean(1).tolist()

    def sample(
        self,
        sigmas: Sequence[float],
        policy: StepPolicy,
        observe: Observe | None,
        stepper: str,
        model: RegionModel | None = None,
    ) -> Tensor:
        """Gives the picture (1, C, H, W) of one run, by the optimal denoiser unless another model is given."""
        start = self.canvas.start(self.mean, sigmas[0], self.seed)
        step = stepper_for(stepper, NoiseSpace.VARIANCE_EXPLODING)
        return sample_regions(
            model or self.canvas.model(self.mean), start, sigmas, regions=self.canvas.regions, stepper=step, merge=MergeMode.FINAL,
            policy=policy, noise=lambda level: torch.zeros_like(start[0]), rows_per_call=BatchSize(36),
            observer=None if observe is None else Estimated(observe),
        ).samples  # fmt: skip


def even_curve(areas: Sequence[Gaussian], most: int = MOST_EVEN) -> list[list[float]]:
    """W2^2 per cell of each area after 1, 2, ... even steps of Euler; entry 0 is one step."""
    known: dict[int, list[float]] = {}
    for area in areas:
        if id(area) not in known:
            runs = (sampled_variance(area.variance, karras(steps)) for steps in range(1, most + 1))
            known[id(area)] = [distance(run, area.variance) for run in runs]
    return [known[id(area)] for area in areas]


def convex(curve: Sequence[float]) -> list[float]:
    """Gives the greatest convex curve below one; the first few even steps of Euler gain more the more there are."""
    corners: list[int] = []
    for i, value in enumerate(curve):
        while len(corners) > 1:
            a, b = corners[-2:]
            if (curve[b] - curve[a]) * (i - a) <= (value - curve[a]) * (b - a):
                break
            corners.pop()
        corners.append(i)
    return np.interp(range(len(curve)), corners, [curve[i] for i in corners]).tolist()


def oracle(curves: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Gives (mean calls, mean W2^2) of the best allotment of every total, one call at a time where it gains most.

    Curves are made convex first, so it is the optimum or, between their corners, below it.
    """
    below = [convex(curve) for curve in curves]
    gains = [a - b for curve in below for a, b in pairwise(curve)]
    calls, error = len(below), sum(curve[0] for curve in below)
    found = [(1.0, error / len(below))]
    for gain in sorted(gains, reverse=True):
        calls, error = calls + 1, error - gain
        found.append((calls / len(below), error / len(below)))
    return found
