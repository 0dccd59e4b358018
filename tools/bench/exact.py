"""`dev.py bench exact`: step policies against even steps and the oracle on a base whose denoiser is known in closed form.

No training, no weights, no error but the sampler's: areas are Gaussians of known spectrum, and W2 follows from the levels that
a region visits. Efficiency is the evaluations that even steps of Karras' grid need for the same W2, divided by a run's own. The
oracle spreads even steps over regions as well as can be done; a policy may pass it only by placing its levels better.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from statistics import mean
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from ..exact.canvas import CANVASES, canvas
from ..exact.runs import ExactOutcome, ExactTrial, even_curve, oracle
from .parts.exact_ways import WAYS
from .parts.report import RESULTS, write_report

GOALS = {"half flat": 1.5, "three classes": 1.8, "all texture": 0.98}
"""Least efficiency of the best rule without a prior."""
JUDGED = "step size"
AT = 20
"""Even steps whose W2 the short table stands at."""
TICKS = (2, 5, 10, 20, 50)
Points = list[tuple[float, float]]


def evaluations(points: Sequence[tuple[float, float]], error: float) -> float | None:
    """Evaluations per region that a curve of (calls, W2^2) needs for an error, between its points on logarithmic axes."""
    best: Points = []
    for calls, reached in sorted(points):
        if not best or reached < best[-1][1]:
            best.append((calls, reached))
    errors = np.log([reached for _, reached in best])[::-1]
    if not errors[0] <= np.log(error) <= errors[-1]:
        return None
    return float(np.exp(np.interp(np.log(error), errors, np.log([calls for calls, _ in best])[::-1])))


class ExactContest:
    """One canvas: its trials, and the curves that others are held against."""

    def __init__(self, name: str, seeds: int) -> None:
        self.name, self.trials = name, [ExactTrial(canvas(name), seed) for seed in range(seeds)]
        self.found = {way: self._curve(way) for way in WAYS}
        self.oracle: Points = []
        self.even = [self._points(self.found["even steps"], i) for i in range(seeds)]
        if self.trials[0].exact:
            curves = even_curve([p.gaussian for p in self.trials[0].canvas.posteriors])
            self.oracle = oracle(curves)
            even = [(n + 1.0, mean(errors)) for n, errors in enumerate(zip(*curves))]
            self.even = [even] * seeds

    def _curve(self, way: str) -> list[list[ExactOutcome]]:
        run, numbers = WAYS[way]
        found = [[run(trial, number) for trial in self.trials] for number in numbers]
        print(
            f"{self.name}, {way}: {[round(mean(o.mean_calls for o in row), 1) for row in found]} evaluations",
            flush=True,
        )
        return found

    def _points(self, curve: list[list[ExactOutcome]], seed: int) -> Points:
        return [(row[seed].mean_calls, row[seed].error) for row in curve]

    def rows(self, way: str) -> list[dict[str, Any]]:
        """Every point of a curve: means over the seeds, efficiencies of single seeds beside them."""
        found: list[dict[str, Any]] = []
        for number, outcomes in zip(WAYS[way][1], self.found[way]):
            even = [evaluations(self.even[i], o.error) for i, o in enumerate(outcomes)]
            gain = [need / o.mean_calls for need, o in zip(even, outcomes) if need is not None]
            best = [evaluations(self.oracle, o.error) if self.oracle else None for o in outcomes]
            share = [need / o.mean_calls for need, o in zip(best, outcomes) if need is not None]
            found.append(
                {
                    "number": number,
                    "calls": mean(o.mean_calls for o in outcomes),
                    "w2": mean(o.error for o in outcomes),
                    "efficiency": mean(gain) if gain else None,
                    "lowest": min(gain, default=None),
                    "highest": max(gain, default=None),
                    "of_oracle": mean(share) if share else None,
                    "calls_by_area": self._by_area(outcomes),
                }
            )
        return found

    def _by_area(self, outcomes: Sequence[ExactOutcome]) -> dict[str, float]:
        """Mean calls of the regions of each area."""
        own = self.trials[0].canvas
        kinds = [own.kind(i) for i in range(len(own.regions))]
        return {
            kind: mean(o.calls[i] for o in outcomes for i, other in enumerate(kinds) if other == kind)
            for kind in dict.fromkeys(kinds)
        }


def table(rows: dict[str, list[dict[str, Any]]]) -> list[str]:
    """One line for every point."""
    lines = ["| way | steps or tolerance | evaluations per region | by area | W2² | efficiency (lowest to highest) | of the oracle |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    for way, points in rows.items():
        for row in points:
            spread = (
                "-"
                if row["efficiency"] is None
                else f"{row['efficiency']:.2f} ({row['lowest']:.2f} to {row['highest']:.2f})"
            )
            share = "-" if row["of_oracle"] is None else f"{row['of_oracle']:.2f}"
            areas = ", ".join(f"{kind} {calls:.1f}" for kind, calls in row["calls_by_area"].items())
            lines.append(
                f"| {way} | {row['number']:g} | {row['calls']:.1f} | {areas} | {row['w2']:.2e} | {spread} | {share} |"
            )
    return lines


def summary(contests: Sequence[ExactContest], rows: dict[str, dict[str, list[dict[str, Any]]]]) -> list[str]:
    """Efficiency of every way where its W2 is nearest to that of `AT` even steps."""
    lines = ["| way | " + " | ".join(c.name for c in contests) + " |", "|---" * (len(contests) + 1) + "|"]
    for way in WAYS:
        cells = []
        for contest in contests:
            target = next(row["w2"] for row in rows[contest.name]["even steps"] if row["number"] == AT)
            known = [row for row in rows[contest.name][way] if row["efficiency"] is not None]
            near = min(known, key=lambda row: abs(np.log(row["w2"] / target)), default=None)
            cells.append("-" if near is None else f"{near['efficiency']:.2f}")
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    best = []
    for contest in contests:
        target = next(row["w2"] for row in rows[contest.name]["even steps"] if row["number"] == AT)
        need = evaluations(contest.oracle, target) if contest.oracle else None
        best.append("-" if need is None else f"{AT / need:.2f}")
    return [*lines, "| oracle | " + " | ".join(best) + " |"]


def plot(contests: Sequence[ExactContest], rows: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    """Draws W2 over evaluations, a panel for every canvas."""
    figure = Figure(figsize=(4.2 * len(contests), 4.2), layout="constrained")
    for axes, contest in zip(figure.subplots(1, len(contests), squeeze=False)[0], contests):
        for way, points in rows[contest.name].items():
            axes.plot([p["calls"] for p in points], [p["w2"] for p in points], ".-", label=way, lw=1)
        if contest.oracle:
            axes.plot(*zip(*contest.oracle), "k--", label="oracle", lw=1)
        axes.set(title=contest.name, xscale="log", yscale="log", xlabel="evaluations per region", xlim=(2, 90))
        axes.set_xticks(TICKS, [str(calls) for calls in TICKS])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(bottom=1e-5)
    figure.axes[0].set_ylabel("W2² per cell")
    figure.axes[0].legend(fontsize=7)
    figure.savefig(RESULTS / "exact_curve.png", dpi=80)


def goals(rows: dict[str, dict[str, list[dict[str, Any]]]]) -> tuple[list[str], bool]:
    """Says for every goal what was reached, over the points between 8 and 40 even steps."""
    lines, reached = [], True
    for name, goal in GOALS.items():
        if name not in rows:
            continue
        known = [row for row in rows[name][JUDGED] if row["efficiency"] is not None]
        worst = min(row["lowest"] for row in known)
        best = max(row["efficiency"] for row in known)
        reached = reached and worst >= goal
        lines.append(
            f"* {name}: goal {goal:g}, least of all seeds and tolerances {worst:.2f}, greatest mean {best:.2f}."
        )
    return lines, reached


def report(contests: Sequence[ExactContest]) -> bool:
    """Writes table, curve and numbers; says whether every goal was reached."""
    rows = {contest.name: {way: contest.rows(way) for way in WAYS} for contest in contests}
    plot(contests, rows)
    lines = [
        f"12 regions of 16 x 16 cells, {len(contests[0].trials)} seeds, Euler, Karras' grid from 20 to 0.02. Efficiency: evaluations of even steps for the same W2, divided by one's own.",
        "",
        f"Efficiency of each way where its W2 is nearest to that of {AT} even steps:",
        "",
        *summary(contests, rows),
        "",
        f"Goals of *{JUDGED}*:",
        "",
    ]
    said, reached = goals(rows)
    lines += [*said, "", "![W2 over evaluations](exact_curve.png)"]
    for name, found in rows.items():
        lines += ["", f"## {name}", "", *table(found)]
    write_report("exact", {"canvases": rows, "seeds": len(contests[0].trials)}, lines)
    return reached


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench exact", description=__doc__)
    parser.add_argument("--canvas", nargs="+", choices=list(CANVASES), default=list(CANVASES))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args(argv)
    return 0 if report([ExactContest(name, options.seeds) for name in options.canvas]) else 1
