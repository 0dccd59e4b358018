"""Tables and the curve of `bench adaptive`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import matplotlib as mpl
from matplotlib.figure import Figure

from . import adaptive_counts as counts
from .adaptive_counts import Outcome

Outcomes = Mapping[str, Sequence[Outcome]]
FIXED = "every step"
NAMES = {"ssim": "SSIM", "nlpd": "NLPD", "gmsd": "GMSD", "vif": "VIF"}


CONTESTED = {
    "psnr": "PSNR-Y, dB (+)",
    "ssim": "SSIM (+)",
    "nlpd": "NLPD (-)",
    "gmsd": "GMSD (-)",
    "vif": "VIF (+)",
    "ger": "GER (to 1)",
    "spectrum": "spectrum, dB (-)",
}
"""Measures of the contest at equal work, and the sign that is better."""


def signed(value: float, digits: int = 1) -> str:
    """With its sign; what rounds to zero is +0."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def quality_table(found: Outcomes, fixed: str = FIXED) -> list[str]:
    """A row for every way to sample: work, quality, and how much better (+) or worse (-) than the fixed run it is."""
    others = list(NAMES.values())
    lines = [
        "| run | evaluations | saved | PSNR-Y | dB | "
        + " | ".join(f"{name} %" for name in others)
        + " | GER | spectrum, dB |",
        "|---" * (len(others) + 7) + "|",
    ]
    for name, outcomes in found.items():
        gains = [-100 * counts.worse(outcomes, found[fixed], key) for key in NAMES]
        dB = -counts.worse(outcomes, found[fixed], "psnr")
        cells = [
            name,
            f"{sum(o.calls for o in outcomes)}",
            f"{100 * counts.saved(outcomes):.1f} %",
            f"{counts.mean_quality(outcomes, 'psnr'):.2f}",
            signed(dB, 2),
            *(signed(gain) for gain in gains),
            f"{fmean(o.ger for o in outcomes):.3f}",
            f"{fmean(o.spectrum for o in outcomes):.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def steps_table(found: Outcomes, judge: str, fixed: str = FIXED) -> list[str]:
    """A row for every run with gains: whether steps follow detail, agree with the judge's run, and what the gains cost."""
    lines = [
        "| run | steps, flattest third | busiest third | rank correlation with detail | within 10 % of the metrics | mean difference "
        "| estimator, seconds | multiplications | PSNR to the fixed run |",
        "|---" * 9 + "|",
    ]
    for name, outcomes in found.items():
        if name == fixed:
            continue
        pairs = [counts.thirds(o) for o in outcomes]
        cells = [name, f"{fmean(p[0] for p in pairs):.1f}", f"{fmean(p[1] for p in pairs):.1f}"]
        measured = any(o.estimator_seconds for o in outcomes)
        cells.append(f"{counts.follows_detail(outcomes):+.2f}" if measured else "")
        if measured and judge in found and name != judge:
            close, difference = counts.agreement(outcomes, found[judge])
            cells += [f"{100 * close:.0f} %", f"{100 * difference:.1f} %"]
        else:
            cells += ["", ""]
        seconds, macs = counts.estimator_cost(outcomes)
        cells += [f"{100 * seconds:.1f} %", f"{100 * macs:.2f} %"] if measured else ["", ""]
        cells.append(f"{fmean(o.to_fixed for o in outcomes):.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def contest_table(found: Outcomes, rivals: Mapping[str, Sequence[str]]) -> list[str]:
    """For every run, what it is better or worse by than its rivals of the same work: mean and 95 % interval, pair by pair."""
    lines = [
        "| run | minus | evaluations | " + " | ".join(CONTESTED.values()) + " |",
        "|---" * (len(CONTESTED) + 3) + "|",
    ]
    for name, others in rivals.items():
        for other in others:
            calls = [sum(o.calls for o in found[run]) for run in (name, other)]
            cells = [name, other, f"{calls[0]} - {calls[1]}"]
            for key in CONTESTED:
                mean, half = counts.paired(found[name], found[other], key)
                cells.append(f"{signed(mean, 4)} ± {half:.4f}")
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def curve_table(curves: Mapping[str, Mapping[float, Sequence[Outcome]]], fixed: Sequence[Outcome]) -> list[str]:
    """A row for every back end and tau."""
    others = list(NAMES.values())
    lines = [
        "| back end | tau | saved | dB | "
        + " | ".join(f"{name} %" for name in others)
        + " | flattest, busiest third |",
        "|---" * (len(others) + 5) + "|",
    ]
    for name, points in curves.items():
        for tau, outcomes in points.items():
            gains = [signed(-100 * counts.worse(outcomes, fixed, key)) for key in NAMES]
            pairs = [counts.thirds(o) for o in outcomes]
            steps = f"{fmean(p[0] for p in pairs):.1f}, {fmean(p[1] for p in pairs):.1f}"
            saved, dB = counts.saved(outcomes), -counts.worse(outcomes, fixed, "psnr")
            lines.append(
                f"| {name} | {tau:g} | {100 * saved:.1f} % | {signed(dB, 2)} | {' | '.join(gains)} | {steps} |"
            )
    return lines


def even_table(even: Mapping[int, Sequence[Outcome]], fixed: Sequence[Outcome]) -> list[str]:
    """A row for every run of fewer steps in all regions alike."""
    lines = [
        "| even steps | saved | dB | " + " | ".join(f"{name} %" for name in NAMES.values()) + " |",
        "|---" * (len(NAMES) + 3) + "|",
    ]
    for steps, outcomes in even.items():
        gains = [signed(-100 * counts.worse(outcomes, fixed, key)) for key in NAMES]
        share, dB = work(outcomes, fixed), -counts.worse(outcomes, fixed, "psnr")
        lines.append(f"| {steps} | {100 * share:.1f} % | {signed(dB, 2)} | {' | '.join(gains)} |")
    return lines


def seam_table(found: Outcomes) -> list[str]:
    """Gradient across region borders, of every run, against the truth's."""
    lines = ["| run | seam ratio / the truth's |", "|---|---|"]
    return lines + [f"| {name} | {fmean(o.seam for o in outcomes):.3f} |" for name, outcomes in found.items()]


def plot_curves(
    curves: Mapping[str, Mapping[float, Sequence[Outcome]]],
    even: Mapping[int, Sequence[Outcome]],
    fixed: Sequence[Outcome],
    path: Path,
) -> None:
    """Quality against work saved, a line for every back end, and for runs with fewer even steps."""
    mpl.use("agg")
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.subplots(1, 3)
    lines = {name: list(points.values()) for name, points in curves.items()}
    lines["fewer steps everywhere"] = list(even.values())
    for axis, (key, label) in zip(
        axes, (("psnr", "PSNR-Y, dB"), ("ssim", "SSIM, %"), ("nlpd", "NLPD, % (up is better)"))
    ):
        for name, points in lines.items():
            ordered = sorted(points, key=lambda outcomes: work(outcomes, fixed))
            xs = [100 * work(outcomes, fixed) for outcomes in ordered]
            factor = -1 if key == "psnr" else -100
            ys = [factor * counts.worse(outcomes, fixed, key) for outcomes in ordered]
            style = {"linestyle": "--", "color": "0.4"} if name == "fewer steps everywhere" else {}
            axis.plot(xs, ys, marker="o", markersize=4, label=name, **style)
        axis.axhline(-0.1 if key == "psnr" else -1, color="tab:red", linewidth=0.8)
        axis.axvline(50, color="tab:red", linewidth=0.8)
        axis.set_xlabel("region evaluations saved, %")
        axis.set_ylabel(f"change of {label}")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def work(outcomes: Sequence[Outcome], fixed: Sequence[Outcome]) -> float:
    """Share of the fixed runs' evaluations that was saved; runs of fewer even steps included."""
    return 1 - sum(o.calls for o in outcomes) / sum(o.calls for o in fixed)
