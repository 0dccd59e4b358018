"""From the metrics of trajectories to the targets of the gain regressor (AdaDiffSR, section 3.2).

g_c = tanh(M_c(i) - M_c(i - 1)) with M_c in [0, 1]. The paper publishes no ranges: ours are quantiles over the trajectories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...sampling.adaptive.gain import GAIN_LIMIT, GainMetric
from .trajectories import Trajectories

JUMPS = (1, 2, 3, 4)
"""Grid steps between the two predictions of a pair, as dynamic timesteps make them."""
TAILS = (0.01, 0.99)
FLAT_SHARE = 0.25
REACHED = 0.75
"""Of the flat regions, whose last predictions lie within the floor."""
TYPICAL = 0.75
LEAST_RANGE = 0.1
"""Of the range by quantiles that a floor must leave."""


def with_ranges(metrics: Sequence[GainMetric], trajectories: Trajectories, *, floor: bool) -> tuple[GainMetric, ...]:
    """Metrics whose low and high are the 1 % and 99 % quantiles over all predictions, cut at a visibility floor if asked to.

    The floor (ours): what the flattest quarter of the regions travels through counts as no change, up to where three quarters of
    them end. PSNR against the input is a logarithm: without a floor a faint grain on a sky gains and loses as much as the texture
    beside it, and gets as many steps.
    """
    flattest = trajectories.contrast.argsort()[: max(1, round(FLAT_SHARE * len(trajectories)))]
    found: list[GainMetric] = []
    for index, metric in enumerate(metrics):
        values = trajectories.scores[..., index]
        known = values[torch.isfinite(values)]
        if known.numel() < 2:
            raise ValueError(
                f"The metric {metric.name} has no finite values on these trajectories: expected numbers; choose other metrics."
            )
        low, high = _quantiles(known)
        if floor:
            low, high = _cut(values[flattest], low, high)
        if not low < high:
            raise ValueError(
                f"The metric {metric.name} is {low:g} on all trajectories: expected values that differ; use more or other pictures."
            )
        found.append(replace(metric, low=low, high=high))
    return tuple(found)


def _quantiles(values: Tensor) -> tuple[float, float]:
    ordered = values.sort().values  # torch.quantile has a limit of 2^24 values
    low, high = (float(ordered[round(q * (len(ordered) - 1))]) for q in TAILS)
    return low, high


def _cut(flat: Tensor, low: float, high: float) -> tuple[float, float]:
    """The range without the way of flat regions (F, n); as it was where little would be left."""
    first, last = flat[:, 0], flat[:, -1]
    falls = bool(first.nanmedian() > last.nanmedian())
    reached = float(last.nanquantile(1 - REACHED if falls else REACHED))
    least = LEAST_RANGE * (high - low)
    if falls and low + least <= reached < high:
        return low, reached
    if not falls and low < reached <= high - least:
        return reached, high
    return low, high


def normalised(scores: Tensor, metrics: Sequence[GainMetric]) -> Tensor:
    """M_c in [0, 1], larger is better, of raw values (..., M); NaN stays."""
    low, high = (scores.new_tensor([getattr(metric, name) for metric in metrics]) for name in ("low", "high"))
    share = ((scores - low) / (high - low)).clamp(0, 1)
    down = torch.tensor([metric.lower_better for metric in metrics])
    return torch.where(down, 1 - share, share)


@dataclass(frozen=True)
class Labels:
    """Targets of every pair of places on the chain."""

    values: Tensor
    """(N, n, M): M_c of every prediction; NaN where it is not defined."""
    counts: Tensor
    """(n, M): whether a metric counts at a place; those without reference only below t_half."""

    @classmethod
    def of(
        cls, trajectories: Trajectories, metrics: Sequence[GainMetric], timesteps: Sequence[float], t_half: float
    ) -> Labels:
        late = torch.tensor([t < t_half for t in timesteps])[:, None]
        full = torch.tensor([metric.full_reference for metric in metrics])[None]
        return cls(normalised(trajectories.scores, metrics), late | full)

    def gains(self, trajectory: Tensor, before: Tensor, now: Tensor) -> tuple[Tensor, Tensor]:
        """Gains (B, M) and where they are defined, of pairs of places; 0 where not."""
        difference = torch.tanh(self.values[trajectory, now] - self.values[trajectory, before])
        defined = self.counts[now] & self.counts[before] & torch.isfinite(difference)
        return torch.where(defined, difference, torch.zeros_like(difference)), defined

    def all_pairs(self, trajectory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(trajectory, before, now), each (P,), of every pair with a jump of `JUMPS`."""
        places = self.values.shape[1]
        pairs = [(i, i + jump) for jump in JUMPS for i in range(places - jump)]
        before, now = torch.tensor(pairs).T
        return trajectory.repeat_interleave(len(pairs)), before.repeat(len(trajectory)), now.repeat(len(trajectory))

    def deviations(self, trajectory: Tensor) -> Tensor:
        """s_c (M,) over all pairs of these trajectories; 1 for a metric that never counts or never changes."""
        gains, defined = self.gains(*self.all_pairs(trajectory))
        count = defined.sum(0)
        mean = gains.sum(0) / count.clamp_min(1)
        spread = (((gains - mean) ** 2 * defined).sum(0) / count.clamp_min(1)).sqrt()
        return torch.where(spread > 0, spread, torch.ones_like(spread))


def typical_rate(labels: Labels, metrics: Sequence[GainMetric], trajectory: Tensor, entries: int = 200) -> float | None:
    """A tau for these gains (ours): three quarters of the single steps that change at all gain less than it.

    The rate is |I_FR| per step of a chain of `entries`; None where nothing changes.
    """
    before = torch.arange(labels.values.shape[1] - 1).repeat(len(trajectory))
    rows = trajectory.repeat_interleave(labels.values.shape[1] - 1)
    gains, _ = labels.gains(rows, before, before + 1)
    change = against_input(gains, metrics).abs()
    changing = change[change > 0].sort().values
    if not len(changing):
        return None
    return float(changing[round(TYPICAL * (len(changing) - 1))]) * labels.values.shape[1] / entries


def against_input(gains: Tensor, metrics: Sequence[GainMetric]) -> Tensor:
    """R_i - R_{i-1} of the metrics against the input (B,), of gains (B, M)."""
    weights = gains.new_tensor([metric.weight if metric.full_reference else 0.0 for metric in metrics])
    return (torch.atanh(gains.clamp(-GAIN_LIMIT, GAIN_LIMIT)) * weights).sum(1)
