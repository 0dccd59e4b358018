"""From metrics to gains: what one more call of the network gave a region (AdaDiffSR, section 3.2). Pure Python.

The paper's R_i = sum_c omega_c M_c(x0_i, o) and I_i = tanh(R_i - R_{i-1}), with o the latent of the input. Full-reference
metrics compare with that input, so their gain is closeness to it; those without reference say how good the region looks, and
count only in the second half of the chain. Ranges and weights are not published; those here are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .dynamic import FULL_REFERENCE, NO_REFERENCE

GAIN_LIMIT = 0.999
"""Gains of single metrics are clamped to this before artanh."""


@dataclass(frozen=True)
class GainMetric:
    """A metric's meaning: low and high are the raw values that become 0 and 1 (exchanged where lower is better)."""

    name: str
    low: float
    high: float
    lower_better: bool = False
    full_reference: bool = True
    weight: float = 0.0
    """omega within its group."""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"Got the range {self.low:g} to {self.high:g} of {self.name}: expected low below high.")
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"Got the weight {self.weight} of {self.name}: expected a finite number of at least 0.")

    @property
    def group(self) -> str:
        """Returns the name of its group in `types.Gains`."""
        return FULL_REFERENCE if self.full_reference else NO_REFERENCE


PAPER_METRICS = (
    GainMetric("psnr", 10.0, 35.0, weight=0.25),
    GainMetric("lpips", 0.0, 0.8, lower_better=True, weight=0.25),
    GainMetric("ahiq", 0.0, 0.8, weight=0.25),
    GainMetric("nlpd", 0.0, 1.0, lower_better=True, weight=0.25),
    GainMetric("brisque", 0.0, 100.0, lower_better=True, full_reference=False, weight=0.5),
    GainMetric("musiq", 20.0, 80.0, full_reference=False, weight=0.5),
)
"""The six of AdaDiffSR, section 3.2, in the order of the regressor's outputs; names are pyiqa's."""

LATENT_METRICS = (PAPER_METRICS[0], PAPER_METRICS[3], GainMetric("sharpness", 0.0, 4.0, full_reference=False))
"""What `imaging.metrics.gain_measures.latent_measures` has; mean absolute Laplacian stands in for quality (ours)."""

PICTURE_METRICS = (
    *PAPER_METRICS,
    GainMetric("sharpness", 0.0, 0.5, full_reference=False),
    GainMetric("ssim", 0.0, 1.0),
    GainMetric("gmsd", 0.0, 0.35, lower_better=True),
    GainMetric("piqe", 0.0, 100.0, lower_better=True, full_reference=False),
)
"""What pictures in [0, 1] can be measured with; psnr, ssim, nlpd, gmsd, sharpness and piqe need no weights."""


def chosen(metrics: Sequence[GainMetric], names: Sequence[str]) -> tuple[GainMetric, ...]:
    """Picks some of the metrics, equally weighted within each group. ValueError names what is not there."""
    known = {metric.name: metric for metric in metrics}
    missing = [name for name in names if name not in known]
    if missing or not names:
        raise ValueError(f"Got the metrics {', '.join(names) or 'none'}: expected some of {', '.join(known)}.")
    picked = [known[name] for name in dict.fromkeys(names)]
    size = {group: sum(metric.group == group for metric in picked) for group in (FULL_REFERENCE, NO_REFERENCE)}
    return tuple(replace(metric, weight=1.0 / size[metric.group]) for metric in picked)


def normalised(metric: GainMetric, value: float) -> float | None:
    """M_c in [0, 1], larger is better; None where the metric is not defined (some are not on flat pictures)."""
    if math.isnan(value):
        return None
    share = min(1.0, max(0.0, (value - metric.low) / (metric.high - metric.low)))
    return 1.0 - share if metric.lower_better else share


def metric_gain(before: float, now: float) -> float:
    """g_c = tanh(M_c(i) - M_c(i - 1))."""
    return math.tanh(now - before)


def group_sum(metrics: Sequence[GainMetric], gains: Mapping[str, float], group: str) -> float:
    """sum of omega_c artanh(g_c) over a group, which is R_i - R_{i-1} of it; metrics without a gain count as 0."""
    return sum(
        metric.weight * math.atanh(min(GAIN_LIMIT, max(-GAIN_LIMIT, gains[metric.name])))
        for metric in metrics
        if metric.group == group and metric.name in gains
    )


def group_gains(metrics: Sequence[GainMetric], gains: Mapping[str, float]) -> dict[str, float]:
    """I_FR and I_NR, the paper's formula restricted to a group; a group none of whose metrics has a gain is left out."""
    present = {metric.group for metric in metrics if metric.name in gains}
    groups = [group for group in (FULL_REFERENCE, NO_REFERENCE) if group in present]
    return {group: math.tanh(group_sum(metrics, gains, group)) for group in groups}
