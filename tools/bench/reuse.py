"""`dev.py bench reuse`: the host's EasyCache and LazyCache beside our steps per region, and both together, on the exact base.

The host's own code decides which steps are not evaluated and gives the output in their place; what that makes of every mode follows
in closed form from its decisions, the shift of the mean included. As the host has them, a cache looks at the whole canvas, all
regions in step. The region samplers refuse caches, since to these the regions of one step look like steps: together with steps of
their own, every region gets a cache of its own here. Efficiency as in `bench exact`: even steps for the same W2 over evaluations.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from ...sampling.adaptive.policy import FixedSchedule, StepPolicy
from ...sampling.adaptive.step_size import Moves, StepSizeControl, StepSizeSettings
from ...sampling.adaptive.types import RegionModel, Row
from ..env import environment as env
from ..env.in_process import enter_host
from ..exact.canvas import CHANNELS, canvas
from ..exact.runs import ExactTrial, Observe, Recorded, even_curve
from ..exact.theory import distance, karras
from .exact import evaluations
from .parts.exact_ways import FINE_GRID
from .parts.report import write_report

CANVASES = ("half flat", "three classes", "all texture")
LAZY, EASY = "LazyCache", "EasyCache"
THRESHOLDS = (0.02, 0.05, 0.1, 0.2)
"""The last is the nodes' default."""
STEPS = (20, 44)
TOLERANCES = (0.016, 0.004, 0.001)
START, END = 0.15, 0.95
"""The nodes' defaults: shares of the chain between which steps may be left out."""
Calls = list[tuple[float, bool]]
"""Of a region: the sigma of every call, and whether it was evaluated."""


@dataclass
class CachedModel:
    """A model of regions behind a cache of the host: one for the canvas, or one for every region."""

    model: RegionModel
    kind: str
    threshold: float
    by_region: bool
    calls: dict[int, Calls] = field(default_factory=dict[int, Calls])
    holders: dict[int, Any] = field(default_factory=dict[int, Any])

    def __call__(self, x: Tensor, sigma: Tensor, rows: Sequence[Row]) -> Tensor:
        """Predictions of the rows, reused where the cache says so."""
        if self.by_region:
            single = zip(x.split(1), sigma.split(1), rows)
            return torch.cat([self._ask(row.region_id, part, level, [row]) for part, level, row in single])
        assert len(set(sigma.tolist())) == 1  # a cache of the canvas knows one noise level
        return self._ask(-1, x, sigma, rows)

    def _ask(self, key: int, x: Tensor, sigma: Tensor, rows: Sequence[Row]) -> Tensor:
        holder = self.holders.setdefault(key, new_holder(self.kind, self.threshold))
        evaluated: list[bool] = []
        level = float(sigma[0])

        def clean(seen: Tensor, *_: object) -> Tensor:
            evaluated.append(True)
            return self.model(seen, sigma, rows)

        def noise(seen: Tensor, *_: object) -> Tensor:
            return (x - clean(x)) / level

        caches = importlib.import_module("comfy_extras.nodes_easycache")
        options = {"easycache": holder, "sigmas": sigma, "uuids": ["only"]}
        if self.kind == LAZY:
            x0 = caches.lazycache_predict_noise_wrapper(clean, x.clone(), sigma, {"transformer_options": options})
        else:
            holder.skip_current_step = False  # as the host's wrapper around all conditions of a step
            seen = x / (1 + level**2) ** 0.5
            x0 = x - level * caches.easycache_forward_wrapper(noise, seen, sigma, options)
        for row in rows:
            self.calls.setdefault(row.region_id, []).append((level, bool(evaluated)))
        return x0


def new_holder(kind: str, threshold: float) -> Any:
    """The host's cache as its node makes it, on Stable Diffusion's chain."""
    caches = importlib.import_module("comfy_extras.nodes_easycache")
    chain = importlib.import_module("comfy.model_sampling").ModelSamplingDiscrete()
    made = getattr(caches, f"{kind}Holder")(threshold, START, END, 8, False, output_channels=CHANNELS)
    return made.prepare_timesteps(chain)


def walked(value: Tensor, offset: Tensor, variance: Tensor, calls: Calls, kind: str) -> Tensor:
    """What Euler makes of modes (..., n) over those calls; offset is what the network's input has beside them (the mean)."""
    held = torch.zeros_like(value)
    for (a, evaluated), b in zip(calls, [*[sigma for sigma, _ in calls[1:]], 0.0]):
        scale = 1.0 if kind == LAZY else (1 + a**2) ** -0.5
        seen = value if kind == LAZY else (value + offset) * scale
        if evaluated:
            clean = value * variance / (variance + a**2)
            held = (clean if kind == LAZY else (value - clean) / a) - seen
        else:
            clean = seen + held if kind == LAZY else value - a * (seen + held)
        value = clean + (value - clean) * (b / a)
    return value


def error(trial: ExactTrial, model: CachedModel) -> float:
    """W2^2 per cell of the canvas: of the modes' deviations, and the square of the mean's shift."""
    means, found = trial.canvas.tiles(trial.mean), []
    for i, own in enumerate(trial.canvas.posteriors):
        variance, calls = own.gaussian.variance, model.calls[i]
        known = means[i] @ own.gaussian.modes.T  # (C, n)
        spread = walked(torch.ones_like(variance), torch.zeros_like(variance), variance, calls, model.kind)
        shift = walked(torch.zeros_like(known), known, variance, calls, model.kind)
        sampled = spread.square() * (variance + calls[0][0] ** 2)
        found.append(distance(sampled, variance) + float(shift.square().mean()))
    return mean(found)


def run(
    trial: ExactTrial,
    sigmas: Sequence[float],
    policy: StepPolicy,
    observe: Observe | None,
    cache: tuple[str, float, bool],
) -> tuple[float, float]:
    """(evaluations per region, W2^2) of one run behind a cache: its kind, threshold, and whether each region has its own."""
    plain = trial.canvas.model(trial.mean)
    model = CachedModel(plain, *cache)
    trial.sample(sigmas, Recorded(policy), observe, "euler", model)
    calls = mean(sum(evaluated for _, evaluated in own) for own in model.calls.values())
    return calls, error(trial, model)


def even(cache: tuple[str, float, bool], steps: int) -> Callable[[ExactTrial], tuple[float, float]]:
    """As many even steps in every region, behind a cache."""
    return lambda trial: run(trial, karras(steps), FixedSchedule(), None, cache)


def own_steps(cache: tuple[str, float, bool], tolerance: float) -> Callable[[ExactTrial], tuple[float, float]]:
    """Step-size control behind caches of the regions."""

    def found(trial: ExactTrial) -> tuple[float, float]:
        sigmas = karras(FINE_GRID)
        return run(trial, sigmas, StepSizeControl(StepSizeSettings(tolerance), sigmas), Moves(), cache)

    return found


def ways() -> dict[str, Callable[[ExactTrial], tuple[float, float]]]:
    """Every run by name; a threshold of 0 reuses nothing."""
    found: dict[str, Callable[[ExactTrial], tuple[float, float]]] = {}
    for steps in STEPS:
        for kind in (EASY, LAZY):
            for by_region in (False, True):
                whose = "of each region" if by_region else "of the canvas"
                for threshold in THRESHOLDS:
                    found[f"{steps} even steps, {kind} {whose}, {threshold:g}"] = even(
                        (kind, threshold, by_region), steps
                    )
    for tolerance in TOLERANCES:
        found[f"step size {tolerance:g}"] = own_steps((LAZY, 0.0, True), tolerance)
        for kind in (EASY, LAZY):
            for threshold in THRESHOLDS[1::2]:
                name = f"step size {tolerance:g}, {kind} of each region, {threshold:g}"
                found[name] = own_steps((kind, threshold, True), tolerance)
    return found


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench reuse", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs of every way (3)")
    parser.add_argument("--canvases", nargs="+", choices=CANVASES, default=CANVASES, help="canvases (all)")
    options = parser.parse_args(argv)
    enter_host(env.host_source(env.ensure_environment()))
    rows: dict[str, dict[str, dict[str, float | None]]] = {}
    for name in options.canvases:
        trials = [ExactTrial(canvas(name), seed) for seed in range(options.seeds)]
        curves = even_curve([p.gaussian for p in trials[0].canvas.posteriors])
        known = [(n + 1.0, mean(errors)) for n, errors in enumerate(zip(*curves))]
        for way, ask in ways().items():
            points = [ask(trial) for trial in trials]
            calls, w2 = (mean(values) for values in zip(*points))
            need = evaluations(known, w2)
            gain = None if need is None else need / calls
            rows.setdefault(way, {})[name] = {"calls": calls, "w2": w2, "efficiency": gain}
            print(f"{name}, {way}: {calls:.1f} evaluations, W2^2 {w2:.2e}, efficiency {gain}", flush=True)
    lines = [
        "Evaluations per region, W2² and, in bold, even steps for the same W2 divided by evaluations.",
        "",
        "| way | " + " | ".join(options.canvases) + " |",
        "|---" * (len(options.canvases) + 1) + "|",
    ]
    for way, found in rows.items():
        cells = [f"{c['calls']:.1f}, {c['w2']:.1e}, **{_words(c['efficiency'])}**" for c in found.values()]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    write_report("reuse", {**vars(options), "rows": rows}, lines)
    return 0


def _words(efficiency: float | None) -> str:
    return "beyond the curve" if efficiency is None else f"{efficiency:.2f}"
