"""The ablation's tables: means and spreads over the seeds, and differences between variants of the same seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from .tadsr_runs import Rows
from .texture import BETTER

COLUMNS: Mapping[str, tuple[str, str]] = {
    "psnr": ("PSNR-Y", ".2f"),
    "ssim": ("SSIM-Y", ".4f"),
    "nlpd": ("NLPD", ".4f"),
    "ger": ("GER", ".3f"),
    "spectrum": ("spectrum, dB", ".2f"),
    "bias": ("bias, dB", "+.2f"),
    "piqe": ("PIQE", ".1f"),
}
STEPS: Sequence[tuple[str, str]] = (
    ("vanilla", "student untrained, 1 step"),
    ("+ SDS", "vanilla"),
    ("+ HSD", "vanilla"),
    ("+ HSD", "+ SDS"),
    ("+ HSD + GAN", "+ HSD"),
    ("+ HSD + time-aware GAN", "+ HSD"),
    ("+ HSD + time-aware GAN", "+ HSD + GAN"),
    ("+ HSD + time-aware GAN", "vanilla"),
)
"""(variant, what it is compared with): the orderings that TAD-SR's ablation claims, and the last for the whole."""


@dataclass(frozen=True)
class MethodResult:
    """A method: what its runs measured, one Rows for each seed, and the mean seconds of a training."""

    rows: tuple[Rows, ...]
    seconds: float | None = None


def over_pictures(rows: Rows, part: str) -> dict[str, float]:
    """Means over the pictures of one set and degradation."""
    pictures = list(rows[part].values())
    return {name: mean(picture[name] for picture in pictures) for name in pictures[0]}


def spread(values: Sequence[float], form: str) -> str:
    """mean ± sample deviation, or the value alone."""
    text = format(mean(values), form)
    return f"{text} ± {format(stdev(values), form.replace('+', ''))}" if len(values) > 1 else text


def ablation_table(results: Mapping[str, MethodResult], part: str) -> list[str]:
    """A Markdown table of one set and degradation: a row for each method, metrics beyond `COLUMNS` behind them."""
    first = over_pictures(next(iter(results.values())).rows[0], part)
    columns = dict(COLUMNS) | {name: (name, ".4f") for name in first if name not in COLUMNS}
    titles = [title for title, _ in columns.values()]
    lines = ["| method | " + " | ".join(titles) + " | training, s |", "|---" * (len(titles) + 2) + "|"]
    for method, result in results.items():
        means = [over_pictures(rows, part) for rows in result.rows]
        cells = [
            spread([m[name] for m in means], form) if name in means[0] else "" for name, (_, form) in columns.items()
        ]
        seconds = "" if result.seconds is None else f"{result.seconds:.0f}"
        lines.append(f"| {method} | " + " | ".join(cells) + f" | {seconds} |")
    return lines


def better_by(name: str, value: float, other: float) -> float:
    """How much nearer to good value is than other: above 0 is better, by the measure's own direction."""
    direction = BETTER[name]
    if direction:
        return direction * (value - other)
    ideal = 1.0 if name == "ger" else 0.0
    return abs(other - ideal) - abs(value - ideal)


def paired(
    results: Mapping[str, MethodResult], variant: str, other: str, part: str
) -> dict[str, tuple[list[float], int]]:
    """For every measure: differences of the same seed, and in how many seeds the variant is better."""
    ours, theirs = results[variant].rows, results[other].rows
    if len(theirs) == 1:
        theirs = theirs * len(ours)
    found: dict[str, tuple[list[float], int]] = {}
    for name in COLUMNS:
        pairs = [(over_pictures(a, part)[name], over_pictures(b, part)[name]) for a, b in zip(ours, theirs)]
        found[name] = [a - b for a, b in pairs], sum(better_by(name, a, b) > 0 for a, b in pairs)
    return found


def paired_table(results: Mapping[str, MethodResult], part: str) -> list[str]:
    """A Markdown table of differences: mean ± deviation over the seeds, and in how many of them the first is better."""
    shown = [name for name in COLUMNS if name != "bias"]
    lines = ["| comparison | " + " | ".join(COLUMNS[name][0] for name in shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for variant, other in STEPS:
        if variant not in results or other not in results:
            continue
        found = paired(results, variant, other, part)
        cells: list[str] = []
        for name in shown:
            differences, wins = found[name]
            form = "+" + COLUMNS[name][1]
            cells.append(f"{spread(differences, form)} ({wins}/{len(differences)})")
        lines.append(f"| {variant} against {other} | " + " | ".join(cells) + " |")
    return lines
