"""What a run will do, counted before it: policy from a budget map, calls and latent cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...imaging.resize import resize
from ...imaging.tiles import Region
from .policy import BudgetMap, FixedSchedule, StepPolicy, budget_steps

TROUBLE = {"halvings": "halvings for lack of memory", "float32_retries": "regions repeated in float32"}
"""Counts of a report that are named only where they are not zero."""


@dataclass(frozen=True)
class Forecast:
    """Work of a run with fixed steps, in the counts of `types.RegionWork`; guidance doubles what the network sees."""

    images: int
    tiles: int
    calls: int
    rows: int
    latent_cells: int


def forecast(regions: Sequence[Region], *, images: int, steps: int, rows_per_call: int) -> Forecast:
    """Counts every region of every image making `steps` calls, at most rows_per_call of them at once."""
    rows = len(regions) * images
    cells = sum(region.area for region in regions)
    return Forecast(images, len(regions), steps * math.ceil(rows / rows_per_call), steps * rows, steps * images * cells)


def policy_for(budget: Tensor | None, regions: Sequence[Region], size: tuple[int, int], steps: int) -> StepPolicy:
    """Gives all steps everywhere, or by the mean brightness of a budget (M, H, W) in [0, 1]: black makes 1 step, white all.

    size is that of the canvas (h, w), to which the budget is resized.
    """
    if budget is None:
        return FixedSchedule()
    if budget.ndim != 3 or 0 in budget.shape:
        raise ValueError(
            f"Got a budget of shape {tuple(budget.shape)}: expected a MASK (batch, height, width) with at least one pixel."
        )
    fitted = resize(budget.float().unsqueeze(1), *size)[:, 0].clamp(0, 1)  # (M, h, w)
    means = [[float(image[region.slices].mean()) for region in regions] for image in fitted]
    return BudgetMap(tuple(budget_steps(brightness, 1, steps) for brightness in means))


def target_size(side: int, scale: float, cell: int) -> int:
    """Returns the pixels of a side after scaling, in whole latent cells of `cell` pixels and at least one."""
    return max(1, math.floor(side * scale / cell + 0.5)) * cell


def describe(report: Mapping[str, Any]) -> str:
    """Puts a run's report into one line."""
    counts = [count for image in report["steps_per_region"] for count in image]
    spread = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    batches = ", ".join(report["batch_sizes"])
    peak = "" if report["peak_gb"] is None else f", peak {report['peak_gb']:.2f} GB"
    work = "" if report.get("tflop") is None else f" ({report['tflop']:.1f} TFLOP)"
    images = "" if report["images"] == 1 else f" in each of {report['images']} images"
    regions = f"{report['tiles']} region{'' if report['tiles'] == 1 else 's'}"
    trouble = [f"{report[key]} {name}" for key, name in TROUBLE.items() if report[key]]
    line = (
        f"{regions}{images}, {spread} of {report['steps']} steps each: "
        f"{report['region_calls']} region steps in {report['calls']} model calls (batch {batches}), "
        f"{report['latent_mpx']:.3f} latent Mpx{work}, {report['skipped']:.0%} skipped, {report['seconds']:.1f} s{peak}"
    )
    return ", ".join([line, *trouble])


def describe_gains(report: Mapping[str, Any]) -> str:
    """Writes lines about the classes and exits of every region, where gains decided; empty for other reports."""
    if not report.get("classes"):
        return ""
    names = ", ".join(report["gain_metrics"]) or "no metrics"
    missing = ", ".join(report["gain_left_out"])
    without = f", without {missing}" if missing else ""
    lines = [
        f"gains: {report['gain_back_end']} ({names}{without}), tau {report['gain_tau']:.3g}; {report['region_calls']} of "
        f"{report['fixed_region_calls']} region steps; W warmup, G growing, S stable, H falling, X ended"
    ]
    for image, (classes, exits) in enumerate(zip(report["classes"], report["exits_per_region"])):
        lines += [f"{image + 1}.{i + 1} {letters} {exit}" for i, (letters, exit) in enumerate(zip(classes, exits))]
    return "\n".join(lines)
