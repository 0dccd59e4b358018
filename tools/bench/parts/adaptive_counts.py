"""What `bench adaptive` counts: work saved, quality lost, how steps follow detail, how two estimators' steps agree. Pure Python."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from scipy.stats import t as student

QUALITY = ("psnr", "ssim", "nlpd", "gmsd", "vif")
"""Measures of a picture against the truth; PSNR-Y in dB, the others as shares."""
LOWER_BETTER = ("nlpd", "gmsd")
CLOSE = 0.1
"""Relative difference of a region's steps within which two estimators agree."""
GOAL_SAVED, GOAL_DB, GOAL_SHARE = 0.5, 0.1, 0.01


@dataclass(frozen=True)
class Outcome:
    """One picture sampled once. Seconds are those of the sampler, of the network in it and of the gain estimator in it."""

    calls: int
    fixed_calls: int
    steps: tuple[int, ...]
    """Calls of every region."""
    detail: tuple[float, ...]
    """Gradient energy of the truth in every region."""
    quality: Mapping[str, float]
    ger: float
    seam: float
    """Gradient across region borders over that elsewhere, divided by the truth's."""
    seconds: float
    network_seconds: float
    estimator_seconds: float = 0.0
    spectrum: float = 0.0
    """Distance in dB of the spectrum above the input's Nyquist frequency from the truth's; 0 for equal strength."""
    to_fixed: float = float("inf")
    """PSNR in dB against the fixed run of the same seed."""
    macs: Mapping[str, float] = field(default_factory=dict[str, float])
    """Per region and call, of "network" and "estimator"."""


def saved(outcomes: Sequence[Outcome]) -> float:
    """Share of region evaluations saved against all steps in every region."""
    return 1 - sum(o.calls for o in outcomes) / sum(o.fixed_calls for o in outcomes)


def mean_calls(outcomes: Sequence[Outcome]) -> float:
    """Mean evaluations of a region."""
    return sum(o.calls for o in outcomes) / sum(len(o.steps) for o in outcomes)


def mean_quality(outcomes: Sequence[Outcome], name: str) -> float:
    """Mean of a measure over the pictures."""
    return fmean(o.quality[name] for o in outcomes)


def worse(outcomes: Sequence[Outcome], fixed: Sequence[Outcome], name: str) -> float:
    """How much worse than the fixed runs: dB of PSNR, a share of the fixed runs' mean otherwise; negative where it is better."""
    before, now = mean_quality(fixed, name), mean_quality(outcomes, name)
    if name == "psnr":
        return before - now
    return (now - before if name in LOWER_BETTER else before - now) / before


def reaches_goal(outcomes: Sequence[Outcome], fixed: Sequence[Outcome]) -> bool:
    """At least half of the evaluations saved, at most 0.1 dB of PSNR-Y and 1 % of every other measure lost."""
    lost = {name: worse(outcomes, fixed, name) for name in QUALITY}
    others = [lost[name] for name in QUALITY if name != "psnr"]
    return saved(outcomes) >= GOAL_SAVED and lost["psnr"] <= GOAL_DB and max(others) <= GOAL_SHARE


def value(outcome: Outcome, name: str) -> float:
    """A measure of one picture by its name, "ger" and "spectrum" included."""
    return {"ger": outcome.ger, "spectrum": outcome.spectrum, **outcome.quality}[name]


def paired(ours: Sequence[Outcome], theirs: Sequence[Outcome], name: str) -> tuple[float, float]:
    """Mean of the differences of a measure, pair by pair, and half of its 95 % interval (Student's t); NaN for one pair."""
    differences = [value(a, name) - value(b, name) for a, b in zip(ours, theirs, strict=True)]
    count = len(differences)
    if count < 2:
        return differences[0], math.nan
    return fmean(differences), float(student.ppf(0.975, count - 1)) * stdev(differences) / count**0.5


def thirds(outcome: Outcome) -> tuple[float, float]:
    """Mean steps of the flattest and of the busiest third of a picture's regions."""
    order = sorted(range(len(outcome.steps)), key=lambda i: outcome.detail[i])
    count = max(1, len(order) // 3)
    flat, busy = order[:count], order[-count:]
    return fmean(outcome.steps[i] for i in flat), fmean(outcome.steps[i] for i in busy)


def ranks(values: Sequence[float]) -> list[float]:
    """Places in rising order, equal values sharing the mean of theirs."""
    ordered = sorted(values)
    first = {value: ordered.index(value) for value in set(values)}
    return [first[value] + (ordered.count(value) - 1) / 2 for value in values]


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's correlation; 0 where one of them is constant."""
    x, y = ranks(a), ranks(b)
    mx, my = fmean(x), fmean(y)
    cover = sum((p - mx) * (q - my) for p, q in zip(x, y))
    spread = (sum((p - mx) ** 2 for p in x) * sum((q - my) ** 2 for q in y)) ** 0.5
    return cover / spread if spread else 0.0


def follows_detail(outcomes: Sequence[Outcome]) -> float:
    """Mean over the pictures of the rank correlation between a region's detail and its steps."""
    return fmean(rank_correlation(o.detail, o.steps) for o in outcomes)


def agreement(outcomes: Sequence[Outcome], others: Sequence[Outcome]) -> tuple[float, float]:
    """(Share of regions whose steps differ by at most 10 % of the others', mean relative difference)."""
    pairs = [pair for a, b in zip(outcomes, others) for pair in zip(a.steps, b.steps, strict=True)]
    differences = [abs(mine - theirs) / theirs for mine, theirs in pairs]
    return sum(d <= CLOSE for d in differences) / len(differences), fmean(differences)


def estimator_cost(outcomes: Sequence[Outcome]) -> tuple[float, float]:
    """The estimator's share of the network's seconds, and of its multiplications and additions."""
    seconds = sum(o.estimator_seconds for o in outcomes) / sum(o.network_seconds for o in outcomes)
    network = fmean(o.macs.get("network", 0.0) for o in outcomes)
    return seconds, fmean(o.macs.get("estimator", 0.0) for o in outcomes) / network if network else 0.0
