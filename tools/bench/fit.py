"""`dev.py bench fit`: counted work and seams of tiles that fit their canvas, against grids of one size with the last tile moved inward.

Work is the arithmetic of the host's UNets (`bench flops`) on square canvases of 1024 to 4096 pixels. Seams: as in `bench seams`,
whose network sees its tile alone; against the untiled run at the same places, above 0 where a border shows.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...imaging.tile_plan import Fit, Sizes, even_grid, fit
from ...imaging.tiles import Region, grid
from ...sampling.adaptive.choices import MergeMode
from ...sampling.adaptive.policy import FixedSchedule
from ...sampling.network_cost import COUNTED, NetworkCost
from .parts.report import write_report
from .parts.seam_ratio import seam_ratio
from .seams import pictures, sample

CELL = 8
CANVASES = tuple(range(1024, 4097, 64))
SEAM_CANVASES = (1024, 1536, 2048, 2560, 3072)
GOAL = 1.3


@dataclass(frozen=True)
class Case:
    """A UNet, the tiles that it has had (cells), and the sides that fit."""

    cost: NetworkCost
    size: int
    overlap: int
    sizes: Sizes

    def work(self, regions: Sequence[Region]) -> float:
        """Operations of one step."""
        return sum(self.cost(region.height, region.width) for region in regions)


CASES = {
    "SD 1.5": Case(COUNTED["SD 1.5"], 64, 16, Sizes(64, 8)),
    "SD 2.1": Case(COUNTED["SD 2.1"], 96, 24, Sizes(96, 8)),
    "SDXL": Case(COUNTED["SDXL"], 128, 32, Sizes(128, 4)),
}
"""Tiles of the trained size that overlap by a quarter; multiples by the UNets' levels."""
OVERLAPS = (8, 12, 16)
"""Least overlaps asked for (cells); `Sizes.least_overlap` lifts the lower ones for the larger models."""


def fitted(case: Case, side: int, overlap: int) -> Fit:
    """The tiles of *tile_size* 0."""
    return fit(side, side, case.sizes, max(overlap, case.sizes.least_overlap), case.cost)


def saved(case: Case, overlap: int) -> dict[str, float]:
    """Work of the grid over that of the tiles that fit: mean, least and most over the canvases."""
    ratios: list[float] = []
    for side in (px // CELL for px in CANVASES):
        before = case.work(grid(side, side, case.size, case.overlap))
        ratios.append(before / fitted(case, side, overlap).cost)
    return {"mean": statistics.mean(ratios), "least": min(ratios), "most": max(ratios)}


def untiled(picture: Tensor) -> Tensor:
    """The picture sampled in one piece."""
    whole = [Region(0, 0, picture.shape[2], picture.shape[3])]
    return sample(picture, whole, MergeMode.AGGREGATE, FixedSchedule(), "euler")


def excess(picture: Tensor, reference: Tensor, regions: Sequence[Region], window: Tensor | None) -> float:
    """Seam ratio of a tiled run over that of the untiled one at the same places, minus 1."""
    if len(regions) == 1:
        return 0.0
    tiled = sample(picture, regions, MergeMode.CONSENSUS, FixedSchedule(), "euler", window)
    return seam_ratio(tiled, regions) / seam_ratio(reference, regions) - 1


def tilings(case: Case, side: int) -> dict[str, tuple[Sequence[Region], Tensor | None]]:
    """Regions and weights (None: a Gaussian) by name, the grid first."""
    found: dict[str, tuple[Sequence[Region], Tensor | None]] = {
        "grid": (grid(side, side, case.size, case.overlap), None),
        "spread evenly": (even_grid(side, side, case.size, case.overlap), None),
    }
    for overlap in OVERLAPS:
        chosen = fitted(case, side, overlap)
        found[f"fit, {CELL * overlap}"] = chosen.regions, chosen.window
    found["fit, 64, Gaussian"] = fitted(case, side, OVERLAPS[0]).regions, None
    return found


def seams() -> dict[str, dict[str, list[float]]]:
    """Excess over canvases and pictures, by UNet and tiling."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in CASES}
    for side in (px // CELL for px in SEAM_CANVASES):
        for picture in pictures(side).values():
            reference = untiled(picture)
            for name, case in CASES.items():
                for words, tiles in tilings(case, side).items():
                    found[name].setdefault(words, []).append(excess(picture, reference, *tiles))
    return found


def compared(values: Sequence[float], grids: Sequence[float]) -> dict[str, float]:
    """Mean and largest excess; how much further from none than the grid's, paired over canvases and pictures, with its standard error."""
    more = [abs(value) - abs(other) for value, other in zip(values, grids)]
    return {
        "mean": statistics.mean(values),
        "most": max(values),
        "more": statistics.mean(more),
        "error": statistics.stdev(more) / math.sqrt(len(more)),
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench fit", description=__doc__)
    parser.parse_args(argv)
    with torch.inference_mode():
        visible = {
            name: {words: compared(values, row["grid"]) for words, values in row.items()}
            for name, row in seams().items()
        }
    work = {
        name: {f"fit, {CELL * overlap}": saved(case, overlap) for overlap in OVERLAPS} for name, case in CASES.items()
    }
    lines = [
        f"Work of a grid of trained size and a quarter's overlap over work of tiles that fit, squares of {CANVASES[0]} to {CANVASES[-1]} "
        f"pixels, every {CANVASES[1] - CANVASES[0]}: mean (least to most). Seams in percent above the untiled run, consensus, {SEAM_CANVASES[0]} to "
        f"{SEAM_CANVASES[-1]} pixels, two pictures: mean (most); then how much further from none than the grid's, paired, and its standard error.",
        "",
        "| UNet | tiles, overlap in pixels | times less work | seams | against the grid's |",
        "|---|---|---|---|---|",
    ]
    for name, row in visible.items():
        for words, v in row.items():
            less = work[name].get(words)
            ratio = "" if less is None else f"{less['mean']:.2f} ({less['least']:.2f} to {less['most']:.2f})"
            size = f" {CELL * CASES[name].size} / {CELL * CASES[name].overlap}" if words == "grid" else ""
            lines.append(
                f"| {name} | {words}{size} | {ratio} | {100 * v['mean']:+.3f} ({100 * v['most']:+.3f}) | {100 * v['more']:+.3f} +- {100 * v['error']:.3f} |"
            )
    write_report("fit", {"goal": GOAL, "work": work, "seams": visible}, lines)
    kept = all(row["fit, 64"]["mean"] >= GOAL for row in work.values())
    kept &= all(row["fit, 64"]["more"] <= 2 * row["fit, 64"]["error"] for row in visible.values())
    return 0 if kept else 1
