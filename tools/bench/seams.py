"""`dev.py bench seams`: gradient across region borders over that inside, against the untiled run, for each merge mode.

The network sees its tile alone (zeros around it, and the tile's mean), so whatever ties neighbours together is the merging.
`--cut` and `--whole` measure two results of `dev.py evaluate` instead: of a picture that was cut into blocks, and of one block.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import tifffile
import torch
from torch import Tensor

from ...imaging.tiles import Region, grid
from ...sampling.adaptive.choices import MergeMode
from ...sampling.adaptive.policy import BudgetMap, FixedSchedule, StepPolicy
from ...sampling.adaptive.sampler import canvas_noise, sample_regions
from ...sampling.adaptive.steppers import stepper_for
from ...sampling.adaptive.types import NoiseSpace
from ...sampling.batching import BatchSize
from ..env.steps import say
from ..evaluate.overlapping import rectangles
from .parts.region_networks import TileNetwork
from .parts.report import write_report
from .parts.seam_ratio import seam_ratio

SIZE, TILE, OVERLAP = 128, 32, 8
GOAL = 0.02


def pictures(size: int = SIZE) -> dict[str, Tensor]:
    """Latents (1, 4, H, W): a smooth gradient and a texture of noise and waves."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    smooth = torch.stack([x, y, x + y, x * y])[None]
    grain = torch.randn(smooth.shape, generator=torch.Generator().manual_seed(3))
    return {"gradient": smooth, "texture": 0.5 * torch.sin(20 * smooth) + 0.5 * grain}


def schedule(steps: int, start: float = 2.0, end: float = 0.03) -> list[float]:
    """Sigmas evenly spaced in the logarithm, then 0."""
    return [start * (end / start) ** (i / (steps - 1)) for i in range(steps)] + [0.0]


def sample(
    picture: Tensor,
    regions: Sequence[Region],
    merge: MergeMode,
    policy: StepPolicy,
    name: str,
    window: Tensor | None = None,
) -> Tensor:
    """The picture noised to the first level and sampled again."""
    sigmas = schedule(12)
    noise = canvas_noise(picture, 11)
    result = sample_regions(
        TileNetwork(),
        picture + sigmas[0] * noise(0),
        sigmas,
        regions=regions,
        stepper=stepper_for(name, NoiseSpace.VARIANCE_EXPLODING),
        merge=merge,
        policy=policy,
        noise=noise,
        rows_per_call=BatchSize(16),
        window=window,
    )
    return result.samples


def excess(picture: Tensor, merge: MergeMode, policy: StepPolicy, overlap: int = OVERLAP, name: str = "euler") -> float:
    """Seam ratio of a tiled run over that of the untiled run at the same places, minus 1."""
    regions = grid(SIZE, SIZE, TILE, overlap)
    whole = sample(picture, [Region(0, 0, SIZE, SIZE)], MergeMode.AGGREGATE, FixedSchedule(), name)
    return seam_ratio(sample(picture, regions, merge, policy, name), regions) / seam_ratio(whole, regions) - 1


def of_blocks(cut: Tensor, whole: Tensor, regions: Sequence[Region]) -> dict[str, float]:
    """Of two results (1, 3, H, W) in levels of 255: `excess` at the blocks' borders, and the mean difference where blocks are cross-faded and elsewhere."""
    shared = sum((region_mask(region, cut) for region in regions), torch.zeros_like(cut[0, 0])) > 1
    difference = (cut - whole).abs().mean((0, 1))  # (H, W)
    return {
        "excess": seam_ratio(cut, regions) / seam_ratio(whole, regions) - 1,
        "difference_where_faded": float(difference[shared].mean()),
        "difference_elsewhere": float(difference[~shared].mean()),
    }


def region_mask(region: Region, canvas: Tensor) -> Tensor:
    """1 in the region, 0 elsewhere, (H, W) of a canvas (1, C, H, W)."""
    mask = torch.zeros_like(canvas[0, 0])
    mask[region.slices] = 1
    return mask


def _files(options: argparse.Namespace) -> int:
    cut, whole = (
        torch.from_numpy(tifffile.imread(file)).movedim(2, 0)[None].float() for file in (options.cut, options.whole)
    )
    size = (cut.shape[2] // options.scale, cut.shape[3] // options.scale)
    regions = [kept.scaled(options.scale) for _, kept in rectangles(size, options.block, options.halo)]
    for name, value in of_blocks(cut, whole, regions).items():
        say(f"{name}: {value:.4f}")
    return 0


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench seams", description=__doc__)
    parser.add_argument("--cut", type=Path, metavar="TIFF", help="a result that was cut into blocks")
    parser.add_argument("--whole", type=Path, metavar="TIFF", help="the same from one block")
    parser.add_argument("--block", type=int, default=768, help="of evaluate")
    parser.add_argument("--halo", type=int, default=64, help="of evaluate")
    parser.add_argument("--scale", type=int, default=4, help="pixels of the result per pixel of the input")
    options = parser.parse_args(argv)
    if options.cut:
        return _files(options)
    count = len(grid(SIZE, SIZE, TILE, OVERLAP))
    budget = BudgetMap((tuple(4 + i % 9 for i in range(count)),))
    cases = {
        "aggregate": (MergeMode.AGGREGATE, FixedSchedule(), OVERLAP),
        "consensus": (MergeMode.CONSENSUS, FixedSchedule(), OVERLAP),
        "final": (MergeMode.FINAL, FixedSchedule(), OVERLAP),
        "consensus, 4 to 12 steps": (MergeMode.CONSENSUS, budget, OVERLAP),
        "final, 4 to 12 steps": (MergeMode.FINAL, budget, OVERLAP),
        "no overlap": (MergeMode.FINAL, FixedSchedule(), 0),
    }
    found = {case: {name: excess(picture, *how) for name, picture in pictures().items()} for case, how in cases.items()}
    lines = ["| merge | " + " | ".join(pictures()) + " |", "|---|" + "---|" * len(pictures())]
    lines += [
        f"| {case} | " + " | ".join(f"{100 * value:+.1f} %" for value in row.values()) + " |"
        for case, row in found.items()
    ]
    write_report("seams", {"size": SIZE, "tile": TILE, "overlap": OVERLAP, "excess": found}, lines)
    kept = all(math.fabs(value) <= GOAL for case in ("aggregate", "consensus") for value in found[case].values())
    return 0 if kept else 1
