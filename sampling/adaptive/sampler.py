"""The region loop: rounds of network calls on rows at their own noise levels, one step each, one canvas at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from itertools import groupby

import torch
from torch import Tensor

from ...imaging.tiles import Merger, Region, gaussian_window
from ...imaging.transfer import DeferredRead, upload
from ..batching import BatchSize, finite_rows, run_batches
from ..noise import gaussian_field, gaussian_region
from .choices import MergeMode
from .policy import FIXED_POLICIES, Decision, StepPolicy
from .rounds import RoundStart, UncheckedRound, defers_check
from .steppers import Last, Step, Stepper
from .tracks import Track, make_tracks, predict_again, row_crop, validate
from .types import Gains, NoiseField, RegionModel, RegionObserver, RegionResult, RegionWork, Row, known, mean_gains

KEPT_NOISE = 8
"""Fields of the levels arrived at last that are kept: regions at levels of their own arrive at the same ones in turn."""
MOST_NOISE_BYTES = 2**25
"""Of all that are kept together; larger canvases draw theirs again."""


def canvas_noise(x: Tensor, seed: int, place: tuple[int, int] | None = None) -> NoiseField:
    """Step noise for a canvas (B, C, H, W), keyed by (seed, grid index arrived at), on its device; alike for all images.

    place: (top, left) of the canvas on a larger one, in cells; the noise is the larger one's there (`gaussian_region`).
    """
    field_bytes = 4 * x[0].numel()

    @lru_cache(maxsize=min(KEPT_NOISE, MOST_NOISE_BYTES // max(1, field_bytes)))
    def noise(level: int) -> Tensor:
        if place is None:
            return gaussian_field(x.shape[1:], seed=seed, step=level, device=x.device)
        channels, height, width = x.shape[1:]
        return upload(gaussian_region(channels, *place, height, width, seed=seed, step=level), x.device, torch.float32)

    return noise


@dataclass
class _RegionRun:
    """State of one call of `sample_regions`: levels, latents and counters of every track (axis U)."""

    model: RegionModel
    shape: tuple[int, ...]  # of the canvas (B, C, H, W)
    tracks: Sequence[Track]
    x: Tensor  # (U, C, h, w)
    sigmas: Tensor  # (levels,) of x's dtype, on the CPU
    stepper: Stepper
    merge: MergeMode
    policy: StepPolicy
    noise: NoiseField
    rows_per_call: BatchSize
    observer: RegionObserver
    full_precision: RegionModel | None
    window: Tensor
    work: RegionWork
    regions: int  # of one image
    defers_check: bool
    """Whether a round is looked at when the next one is on its way; else every call before it is used."""
    finite: list[Tensor] = field(default_factory=list[Tensor])
    """Of the calls of this round, which rows were finite: (N,) each."""
    unchecked: UncheckedRound | None = None
    gains: dict[Row, Gains] = field(default_factory=dict[Row, Gains])
    best: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    reasons: dict[tuple[int, int], str] = field(default_factory=dict[tuple[int, int], str])

    def __post_init__(self) -> None:
        count, final = len(self.tracks), self.merge is MergeMode.FINAL
        shown = final and self.observer.shows_canvas
        # The newest x0 of the canvas (B, C, H, W); in FINAL it is only looked at.
        self.canvas = self.x.new_zeros(self.shape if shown else 0)
        self.x0 = torch.empty_like(self.x) if final else torch.empty(0)
        self.last_x0 = torch.empty_like(self.x) if self.stepper.needs_last else torch.empty(0)
        self.last_level: list[int | None] = [None] * count
        self.level, self.active = [0] * count, list(range(count))
        self.planned = sum(self.policy.planned_calls(row, len(self.sigmas)) for _, row in self.pending())

    @property
    def last(self) -> int:
        """Returns the final level."""
        return len(self.sigmas) - 1

    def pending(self) -> list[tuple[int, Row]]:
        """Returns every row of every active track, with the track's number."""
        return [(u, row) for u in self.active for row in self.tracks[u].rows]

    def start_round(self) -> tuple[RoundStart, Merger | None]:
        """Gives what the run is now, and the canvas of the round's predictions with the regions that have ended; None for the canvas
        where regions go on alone.
        """
        start, self.finite = self._state(), []
        if self.merge is MergeMode.FINAL:
            return start, None
        self.canvas = torch.empty(0)  # the last round's; large canvases are held as seldom as possible
        merger = Merger(self.shape, self.window, self.x.device, self.x.dtype)
        if self.merge is MergeMode.CONSENSUS:  # in AGGREGATE none has ended while others are active
            for u in sorted(set(range(len(self.tracks))) - set(self.active)):
                merger.add(self.x[u], self.tracks[u].region, self.tracks[u].image)
        return start, merger

    def end_calls(self, merger: Merger | None) -> None:
        """Merges the round's predictions. Of a round that is looked at later, what `RoundStart` holds stays as it is."""
        if merger is not None:
            self.canvas = merger.finish()
        if self.finite:
            self.x, self.last_x0 = self.x.clone(), self.last_x0.clone()

    def end_round(self, start: RoundStart, merger: Merger | None) -> None:
        """Previews a round, at once or when it is looked at."""
        if not self.finite:
            if self.observer.shows_canvas:
                self.observer.previewed(self.canvas, self.work.rows, self.planned)
            return
        shown = None
        if self.observer.shows_canvas:  # FINAL goes on writing on its canvas
            shown = self.canvas.clone() if merger is None else self.canvas
        self.unchecked = UncheckedRound(start, DeferredRead(torch.cat(self.finite)), shown)

    def check(self) -> bool:
        """Looks at the last round, if that has not been done. Where a row was not finite, the run is as before that round, whose
        calls are then looked at one by one, as all that follow: False.
        """
        unchecked, self.unchecked = self.unchecked, None
        if unchecked is None:
            return True
        if all(unchecked.finite.read()):
            if unchecked.canvas is not None:
                self.observer.previewed(unchecked.canvas, self.work.rows, self.planned)
            return True
        for each in fields(unchecked.start):
            if each.name != "work":
                setattr(self, each.name, getattr(unchecked.start, each.name))
        self.work.become(unchecked.start.work)
        self.defers_check = False
        for u, row in self.pending():
            self.observer.moved(row, self.level[u], "")
        return False

    def _state(self) -> RoundStart:
        lists = list(self.level), list(self.last_level), list(self.active)
        return RoundStart(
            self.x, self.last_x0, *lists, self.planned, dict(self.best), dict(self.reasons), self.work.copy()
        )

    def predict(self, chunk: Sequence[tuple[int, Row]]) -> tuple[Tensor, Sequence[Gains] | None]:
        """Predicts x0 (N, C, h, w) of rows at their own sigmas, and tells their gains; rows that overflow are predicted again in float32."""
        rows, levels = [row for _, row in chunk], [self.level[u] for u, _ in chunk]
        x = torch.stack([row_crop(self.x[u], self.tracks[u], row) for u, row in chunk])  # (N, C, h, w)
        sigma = self.sigmas[levels]  # (N,)
        x0 = self.model(x, sigma, rows).to(x.dtype)
        finite = finite_rows(x0)
        # Numbers without meaning would be refused here and there: rows that overflowed are measured when they are repeated.
        measured = self.observer.measured(rows, x0.nan_to_num(0.0, 0.0, 0.0), levels)
        if measured is None and self.defers_check:
            self.finite.append(finite)
            return x0, None
        measured = measured or known([])
        # The loop's one wait for the device, once a call: the next steps follow from these numbers, and a row that overflowed is
        # repeated before it is merged.
        read: list[float] = torch.cat([finite.to(measured.numbers), measured.numbers]).tolist()
        bad, numbers = [i for i, whole in enumerate(read[: len(rows)]) if not whole], read[len(rows) :]
        if bad:
            x0 = predict_again(self.full_precision, x0, bad, x, sigma, rows)
            self.work.float32_retries += len(bad)
            measured = self.observer.measured(rows, x0, levels) or known([])
            numbers = measured.numbers.tolist()
        return x0, measured.conclude(numbers)

    def take(
        self, chunk: Sequence[tuple[int, Row]], x0: Tensor, gains: Sequence[Gains] | None, merger: Merger | None
    ) -> None:
        """Counts a call and gives its predictions to the canvas."""
        rows = [row for _, row in chunk]
        self.work.add_calls(rows)
        for (u, row), tile in zip(chunk, x0):
            if merger is not None:
                merger.add(tile, row.region, row.image)
                continue
            self.x0[u] = tile
            if self.observer.shows_canvas:
                self.canvas[(row.image, slice(None), *row.region.slices)] = tile
        self.gains.update(zip(rows, gains or ()))
        self.observer.called(rows, self.work.rows, self.planned)

    def result(self) -> RegionResult:
        """Returns the canvas and why each region stopped."""
        images = range(self.shape[0])
        reasons = [[self.reasons[image, region] for region in range(self.regions)] for image in images]
        return RegionResult(self._merged(), self.work.per_region(len(images), self.regions), reasons, self.work)

    def advance(self) -> None:
        """Steps every active track to the level that the policy gives it."""
        decisions = {u: self._decide(u) for u in self.active}
        arrival = sorted(self.active, key=lambda u: decisions[u].index)
        for level, group in groupby(arrival, key=lambda u: decisions[u].index):
            # one field at a time, whatever the number of levels that regions arrive at
            drawn = self.stepper.needs_noise and bool(self.sigmas[level] > 0)
            noise = self.noise(level)[None] if drawn else None
            members = list(group)
            for index, part in self._step_chunks(members):
                self._step(index, part, level, noise)
            for u in members:
                self._arrive(u, decisions[u])
        self.active = [u for u in self.active if self.level[u] < self.last]

    def _decide(self, u: int) -> Decision:
        rows, level, levels = self.tracks[u].rows, self.level[u], len(self.sigmas)
        gains = mean_gains([self.gains[row] for row in rows if row in self.gains])
        decision, *others = [self.policy.decide(row, level, levels, gains) for row in rows]
        if any(other != decision for other in others):
            raise ValueError(
                f"Merge mode {MergeMode.AGGREGATE.value!r} keeps all regions in step, but the policy sends them to different "
                f"levels; choose {MergeMode.CONSENSUS.value!r} or {MergeMode.FINAL.value!r}, or equal steps."
            )
        if not level < decision.index <= self.last:
            raise ValueError(
                f"Expected a policy to go from level {level} to one of {level + 1} to {self.last}, got {decision}."
            )
        if decision.restore and self.sigmas[-1] > 0:
            raise ValueError(
                f"The policy ends regions early with a clean picture, but the sigmas end at {float(self.sigmas[-1]):.4g}: expected "
                "0; sample to the end."
            )
        return decision

    def _step_chunks(self, group: Sequence[int]) -> Iterator[tuple[list[int], slice]]:
        """Tracks and rows of cells that step together: about as many cells as a network call has."""
        region, row = self.tracks[group[0]].region, self.tracks[group[0]].rows[0]
        cells = self.rows_per_call.rows * row.region.area
        size, height = max(1, cells // region.area), min(region.height, max(1, cells // region.width))
        for start in range(0, len(group), size):
            for top in range(0, region.height, height):
                yield list(group[start : start + size]), slice(top, top + height)

    def _step(self, index: list[int], part: slice, level: int, noise: Tensor | None) -> None:
        """Steps those cells of tracks from their own levels to one; noise is the field (1, C, H, W) of that level."""
        x0 = self._x0(index, part)
        crops = None if noise is None else torch.stack([self.tracks[u].cut(noise, 0)[:, part] for u in index])
        sigma, sigma_next = self._sigma([self.level[u] for u in index]), self._sigma([level] * len(index))
        last = self._last(index, part)
        places = self._places(index)
        self.x[places, :, part] = self.stepper.step(Step(self.x[places, :, part], x0, sigma, sigma_next, crops, last))
        if self.stepper.needs_last:
            self.last_x0[places, :, part] = x0

    def _arrive(self, u: int, decision: Decision) -> None:
        """Sets the new level, and ends a track that reached the last one."""
        if decision.keep:
            self.best[u] = self._x0([u], slice(None))[0].clone()
        self.last_level[u], self.level[u] = self.level[u], decision.index
        ended = decision.index == self.last
        for row in self.tracks[u].rows:
            self.observer.moved(row, decision.index, decision.reason if ended else "")
            if ended:
                self.reasons[row.key] = decision.reason
                left = self.policy.planned_calls(row, len(self.sigmas)) - self.work.calls_of[row.key]
                self.planned -= max(0, left)
        best = self.best.pop(u, None) if ended else None
        if decision.restore and best is not None:
            self.x[u] = best

    def _x0(self, index: list[int], part: slice) -> Tensor:
        """Returns the predictions (n, C, h, w) for those cells of tracks, merged where the mode says so."""
        if self.merge is MergeMode.FINAL:
            return self.x0[self._places(index), :, part]
        return torch.stack([self.tracks[u].cut(self.canvas)[:, part] for u in index])

    def _last(self, index: list[int], part: slice) -> Last | None:
        levels = [self.last_level[u] for u in index]
        known = [level for level in levels if level is not None]
        if not self.stepper.needs_last or len(known) < len(levels):
            return None
        return Last(self.last_x0[self._places(index), :, part], self._sigma(known))

    def _sigma(self, levels: Sequence[int]) -> Tensor:
        there = upload(self.sigmas[list(levels)], self.x.device)
        return there.reshape(-1, 1, 1, 1)  # (n, 1, 1, 1)

    def _places(self, index: list[int]) -> slice | Tensor:
        """Rows of tracks: neighbours as a slice, others as a tensor that is sent without waiting for the device."""
        if index[-1] - index[0] == len(index) - 1:  # tracks are in rising order
            return slice(index[0], index[-1] + 1)
        return upload(torch.tensor(index), self.x.device)

    def _merged(self) -> Tensor:
        """Merges the canvas (B, C, H, W) of all tracks."""
        if self.merge is MergeMode.AGGREGATE:
            return self.x
        self.x0 = self.last_x0 = self.canvas = torch.empty(0)
        merger = Merger(self.shape, self.window, self.x.device, self.x.dtype)
        for x, track in zip(self.x, self.tracks):
            merger.add(x, track.region, track.image)
        return merger.finish()


def _window_for(region: Region, window: Tensor | None) -> Tensor:
    return gaussian_window(region.height, region.width) if window is None else window


def sample_regions(
    model: RegionModel,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    regions: Sequence[Region],
    stepper: Stepper,
    merge: MergeMode,
    policy: StepPolicy,
    noise: NoiseField,
    rows_per_call: BatchSize,
    observer: RegionObserver | None = None,
    full_precision: RegionModel | None = None,
    window: Tensor | None = None,
    work: RegionWork | None = None,
) -> RegionResult:
    """Samples the canvas x (B, C, H, W), noised to sigmas[0], down to sigmas[-1] (0, or the start of a later run).

    `sigmas` fall; `regions` are equally large, lie on the canvas and cover it (`imaging.tiles.grid`), one as large as the
    canvas being plain sampling. `stepper` comes from `stepper_for(name, space)`, `noise` from `canvas_noise` or a recorded
    field. `full_precision` predicts rows again that were not finite; None makes those an error. `window` (h, w) > 0 weighs a
    region's cells where it meets others; None is a Gaussian. `work` is counted up, for callers who watch it. The result for an
    image depends neither on the rest of the batch, nor on rows_per_call, nor on the order of regions (to rounding).
    Accumulators are float32, or float64 for a canvas of float64. Raises ValueError for geometry or sigmas that do not fit, for
    a policy that breaks the merge mode's rule or ends regions with a clean picture where the sigmas do not end at 0, and for
    predictions that stay non-finite, naming region and image.
    """
    validate(x.shape, sigmas, regions, window)
    dtype = torch.promote_types(x.dtype, torch.float32)
    tracks = make_tracks(regions, x.shape, merge)
    run = _RegionRun(
        model,
        tuple(x.shape),
        tracks,
        torch.stack([track.cut(x).to(dtype) for track in tracks]),
        torch.tensor(list(sigmas), dtype=dtype),
        stepper,
        merge,
        policy,
        noise,
        rows_per_call,
        observer or RegionObserver(),
        full_precision,
        _window_for(regions[0], window).to(x.device, dtype),
        RegionWork() if work is None else work,
        len(regions),
        defers_check(x.device) and isinstance(policy, FIXED_POLICIES),
    )
    halvings = rows_per_call.halvings
    while run.active or not run.check():
        start, merger = run.start_round()
        for chunk, found in run_batches(run.pending(), rows_per_call, run.predict, run.observer.is_out_of_memory):
            run.take(chunk, *found, merger)
        if run.check():  # at the round before this one
            run.end_calls(merger)
            run.advance()
            run.end_round(start, merger)
    run.work.halvings = rows_per_call.halvings - halvings
    return run.result()
