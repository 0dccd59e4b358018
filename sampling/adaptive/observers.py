"""Estimators of gains, asked by a `RegionObserver` after every call: metrics of predictions, proxies without metrics, a regressor.

An instance serves one run and remembers one prediction (or its metrics) per region. What it says of a row depends on that
row alone. Timesteps are those of `dynamic.DynamicTimesteps`; gains in quality exist where both calls lie below t_half.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from ...imaging.detail import sharpness
from ...imaging.transfer import upload
from .dynamic import CHANGE, FULL_REFERENCE, NO_REFERENCE
from .gain import GainMetric, group_gains, metric_gain, normalised
from .types import Gains, MeasuredCall, Row, crop_rows

Key: TypeAlias = tuple[int, int]
Measure: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(pictures (N, C, h, w), their references) -> raw values (N,); metrics without reference pass over the second."""
Regressor: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""(x0, last x0, reference (N, C, h, w), t, last t (N,)) -> gains (N, metrics)."""
T_HALF = 500.0
TINY = 1e-6


def _same(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class BackEnd:
    """What metrics look at: `view` makes pictures of latents, `factor` times as large; `reference` is the whole canvas so.

    Measures are found under the names of the metrics.
    """

    reference: Tensor  # (B, C, H, W), as `view` gives it
    measures: Mapping[str, Measure]
    view: Callable[[Tensor], Tensor] = _same
    factor: int = 1


class Estimator:
    """Measures calls; what it remembers and says changes when the numbers are read."""

    latest: dict[Key, Gains]
    """The last gains of every region."""

    def measured(self, rows: Sequence[Row], x0: Tensor, levels: Sequence[int]) -> MeasuredCall:
        """Measures rows whose predictions (N, C, h, w) were made at these levels; gains are empty at a row's first call."""
        raise NotImplementedError

    def __call__(self, rows: Sequence[Row], x0: Tensor, levels: Sequence[int]) -> Sequence[Gains]:
        """Returns the gains of these rows at once."""
        found = self.measured(rows, x0, levels)
        return found.conclude(found.numbers.tolist())


@dataclass
class MetricGains(Estimator):
    """Gains from metrics of every prediction against the reference."""

    back_end: BackEnd
    metrics: Sequence[GainMetric]
    timesteps: Sequence[float]
    t_half: float = T_HALF
    latest: dict[Key, Gains] = field(default_factory=dict[Key, Gains])
    _scores: dict[Key, Mapping[str, float]] = field(default_factory=dict[Key, Mapping[str, float]])

    def __post_init__(self) -> None:
        missing = [metric.name for metric in self.metrics if metric.name not in self.back_end.measures]
        if missing or not self.metrics:
            raise ValueError(
                f"Got the metrics {', '.join(metric.name for metric in self.metrics) or 'none'}: expected some of "
                f"{', '.join(self.back_end.measures)}, which this back end has."
            )

    @torch.no_grad()
    def measured(self, rows: Sequence[Row], x0: Tensor, levels: Sequence[int]) -> MeasuredCall:
        """As `Estimator.measured`."""
        late = [i for i, level in enumerate(levels) if self.timesteps[level] < self.t_half]
        pictures, references = self.back_end.view(x0), crop_rows(self.back_end.reference, rows, self.back_end.factor)
        references = references.to(pictures)
        measured = [
            (metric, which) for metric in self.metrics if (which := range(len(rows)) if metric.full_reference else late)
        ]
        values = [
            self.back_end.measures[metric.name](_rows_of(pictures, which), _rows_of(references, which)).flatten()
            for metric, which in measured
        ]
        parts = [part.to(x0.device, torch.float32) for part in values]

        def conclude(numbers: Sequence[float]) -> list[Gains]:
            scores: list[dict[str, float]] = [{} for _ in rows]
            places = ((metric, i) for metric, which in measured for i in which)
            for (metric, i), number in zip(places, numbers):
                score = normalised(metric, number)
                if score is not None:
                    scores[i][metric.name] = score
            return [self._gain(row.key, score) for row, score in zip(rows, scores)]

        return MeasuredCall(torch.cat(parts) if parts else torch.empty(0), conclude)

    def _gain(self, key: Key, scores: Mapping[str, float]) -> Gains:
        before = self._scores.get(key, {})
        self._scores[key] = scores
        gains = {name: metric_gain(before[name], now) for name, now in scores.items() if name in before}
        self.latest[key] = {**gains, **group_gains(self.metrics, gains)}
        return self.latest[key]


def _rows_of(x: Tensor, which: Sequence[int]) -> Tensor:
    """Those rows of x (N, ...), sent for without waiting for the device."""
    return x if len(which) == len(x) else x[upload(torch.tensor(which), x.device)]


@dataclass
class RegressorGains(Estimator):
    """Gains that a network, MMLE (multi-metrics latent entropy), predicts from two predictions (AdaDiffSR, section 3.2)."""

    regressor: Regressor
    reference: Tensor  # (B, C, H, W), latents of the input in the model's scale
    metrics: Sequence[GainMetric]
    timesteps: Sequence[float]
    t_half: float = T_HALF
    latest: dict[Key, Gains] = field(default_factory=dict[Key, Gains])
    _last: dict[Key, tuple[Tensor, float]] = field(default_factory=dict[Key, tuple[Tensor, float]])

    @torch.no_grad()
    def measured(self, rows: Sequence[Row], x0: Tensor, levels: Sequence[int]) -> MeasuredCall:
        """As `Estimator.measured`. Raises ValueError where the network gives something else than finite gains of all metrics."""
        times = [float(self.timesteps[level]) for level in levels]
        keys = [row.key for row in rows]
        again = [i for i, key in enumerate(keys) if key in self._last]
        before = [self._last[keys[i]] for i in again]
        shape, gains = (len(again), len(self.metrics)), torch.empty(0)
        if again:
            now, earlier = torch.tensor([[times[i] for i in again], [t for _, t in before]]).to(x0.dtype)
            gains = self.regressor(
                _rows_of(x0, again),
                torch.stack([tile for tile, _ in before]),
                crop_rows(self.reference, [rows[i] for i in again]).to(x0),
                upload(now, x0.device),
                upload(earlier, x0.device),
            )

        def conclude(numbers: Sequence[float]) -> list[Gains]:
            if again and (tuple(gains.shape) != shape or not all(map(math.isfinite, numbers))):
                raise ValueError(
                    f"The regressor gave gains of shape {tuple(gains.shape)}, expected finite ones of shape {shape}; its file is "
                    "damaged or names other metrics."
                )
            self.latest.update({key: {} for key in keys})
            for place, (i, (_, t_before)) in enumerate(zip(again, before)):
                values = numbers[place * shape[1] : (place + 1) * shape[1]]
                self.latest[keys[i]] = self._gains(values, max(times[i], t_before) < self.t_half)
            self._last.update((key, (tile.clone(), t)) for key, tile, t in zip(keys, x0, times))
            return [self.latest[key] for key in keys]

        return MeasuredCall(gains.flatten(), conclude)

    def _gains(self, values: Sequence[float], late: bool) -> Gains:
        named = zip(self.metrics, values)
        gains = {metric.name: value for metric, value in named if metric.full_reference or late}
        return {**gains, **group_gains(self.metrics, gains)}


@dataclass
class ProxyGains(Estimator):
    """Gains from the predictions themselves, where nothing is trained (ours).

    Against the input: how much of the first call's RMS distance went away. In quality: relative growth of `sharpness`.
    Change: RMS(x0 - last x0) / RMS(x0), which `DynamicSettings.still` is compared with.
    """

    reference: Tensor  # (B, C, H, W), latents of the input in the model's scale
    timesteps: Sequence[float]
    t_half: float = T_HALF
    latest: dict[Key, Gains] = field(default_factory=dict[Key, Gains])
    _first: dict[Key, float] = field(default_factory=dict[Key, float])
    _last: dict[Key, tuple[Tensor, float, float, float]] = field(
        default_factory=dict[Key, tuple[Tensor, float, float, float]]
    )

    @torch.no_grad()
    def measured(self, rows: Sequence[Row], x0: Tensor, levels: Sequence[int]) -> MeasuredCall:
        """As `Estimator.measured`."""
        keys = [row.key for row in rows]
        last = torch.stack([self._last[key][0] if key in self._last else tile for key, tile in zip(keys, x0)])
        distance = rms(x0 - crop_rows(self.reference, rows).to(x0))
        found = torch.stack([distance, sharpness(x0), rms(x0 - last), rms(x0)])  # (4, N)

        def conclude(numbers: Sequence[float]) -> list[Gains]:
            columns = [numbers[k * len(keys) : (k + 1) * len(keys)] for k in range(4)]
            for key, tile, level, error, sharp, moved, size in zip(keys, x0, levels, *columns):
                t = float(self.timesteps[level])
                self.latest[key] = self._gains(key, t, error, sharp)
                if key in self._last:
                    self.latest[key] = {**self.latest[key], CHANGE: moved / max(size, TINY)}
                self._first.setdefault(key, error)
                self._last[key] = (tile.clone(), error, sharp, t)
            return [self.latest[key] for key in keys]

        return MeasuredCall(found.flatten(), conclude)

    def _gains(self, key: Key, t: float, error: float, sharp: float) -> Gains:
        if key not in self._last:
            return {}
        _, error_before, sharp_before, t_before = self._last[key]
        gains = {FULL_REFERENCE: math.tanh((error_before - error) / max(self._first[key], TINY))}
        if max(t, t_before) < self.t_half:
            gains[NO_REFERENCE] = math.tanh((sharp - sharp_before) / max(sharp, sharp_before, TINY))
        return gains


def rms(x: Tensor) -> Tensor:
    """Returns the root of the mean square of each row (N, ...) -> (N,)."""
    return x.square().flatten(1).mean(1).sqrt()
