"""`dev.py bench fit`: counted work and seams of tiles that fit their canvas, against grids of one size with the last tile moved inward.

Work is the arithmetic of the host's UNets (`bench flops`) on square canvases of 1024 to 4096 pixels. Seams: as in `bench seams`,
whose network sees its tile alone; against the untiled run at the same places, above 0 where a border shows.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...imaging.tile_plan import Sizes, even_grid, fit
from ...imaging.tiles import Region, grid
from ...sampling.adaptive.policy import FixedSchedule
from ...sampling.adaptive.types import MergeMode
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
OVERLAPS = {"the same overlap": None, "64 pixels": 8}


def saved(case: Case, overlap: int) -> list[float]:
    """Work of the grid over that of the tiles that fit, for every canvas."""
    ratios = []
    for side in (px // CELL for px in CANVASES):
        before = case.work(grid(side, side, case.size, case.overlap))
        ratios.append(before / fit(side, side, case.sizes, overlap, case.cost).cost)
    return ratios


def untiled(picture: Tensor) -> Tensor:
    """The picture sampled in one piece."""
    whole = [Region(0, 0, picture.shape[2], picture.shape[3])]
    return sample(picture, whole, MergeMode.AGGREGATE, FixedSchedule(), "euler")


def excess(picture: Tensor, reference: Tensor, regions: Sequence[Region]) -> float:
    """Seam ratio of a tiled run over that of the untiled one at the same places, minus 1."""
    if len(regions) == 1:
        return 0.0
    tiled = sample(picture, regions, MergeMode.CONSENSUS, FixedSchedule(), "euler")
    return seam_ratio(tiled, regions) / seam_ratio(reference, regions) - 1


def seams() -> dict[str, dict[str, dict[str, float]]]:
    """Mean and largest excess over canvases and pictures, by UNet and tiling."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in CASES}
    for side in (px // CELL for px in SEAM_CANVASES):
        for picture in pictures(side).values():
            reference = untiled(picture)
            for name, case in CASES.items():
                tilings = {
                    "grid": grid(side, side, case.size, case.overlap),
                    "spread evenly": even_grid(side, side, case.size, case.overlap),
                }
                for words, overlap in OVERLAPS.items():
                    own = case.overlap if overlap is None else overlap
                    tilings[words] = fit(side, side, case.sizes, own, case.cost).regions
                for words, regions in tilings.items():
                    found[name].setdefault(words, []).append(excess(picture, reference, regions))
    return {
        name: {words: {"mean": statistics.mean(values), "most": max(values)} for words, values in row.items()}
        for name, row in found.items()
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench fit", description=__doc__)
    parser.parse_args(argv)
    with torch.inference_mode():
        visible = seams()
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for name, case in CASES.items():
        rows[name] = {}
        for words, overlap in OVERLAPS.items():
            ratios = saved(case, case.overlap if overlap is None else overlap)
            rows[name][words] = {"mean": statistics.mean(ratios), "least": min(ratios), "most": max(ratios)}
    lines = [
        f"Work of a grid of trained size and a quarter's overlap over work of tiles that fit, squares of {CANVASES[0]} to {CANVASES[-1]} "
        f"pixels, every {CANVASES[1] - CANVASES[0]}: mean (least to most). Seams in percent above the untiled run: mean (most), consensus, {SEAM_CANVASES[0]} to {SEAM_CANVASES[-1]} pixels.",
        "",
        "| UNet | grid | work, same overlap | work, overlap 64 pixels | seams: grid | spread evenly | fit, same overlap | fit, 64 pixels |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, case in CASES.items():
        work = " | ".join(f"{r['mean']:.2f} ({r['least']:.2f} to {r['most']:.2f})" for r in rows[name].values())
        shown = " | ".join(f"{100 * v['mean']:+.2f} ({100 * v['most']:+.2f})" for v in visible[name].values())
        lines.append(f"| {name} | {case.size * CELL} / {case.overlap * CELL} | {work} | {shown} |")
    write_report("fit", {"goal": GOAL, "work": rows, "seams": visible}, lines)
    return 0 if all(row["64 pixels"]["mean"] >= GOAL for row in rows.values()) else 1
