"""`dev.py bench scale`: seconds and host memory of the region sampler from 1 to 64 output megapixels, with a cheap network.

Each size and merge mode runs in a process of its own, on one thread. Seconds are processor time, the least of several runs, so
that other work on the machine counts as little as possible. Memory is what the process grew by in its first run, over the
canvas tensors: the noised input, the merged prediction and the sampled output, float32. Tiles per megapixel differ from size to
size, since tiles cover the canvas exactly, so seconds are also shown per latent megapixel that went through the network.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from time import process_time

import torch

from ...imaging.tiles import grid
from ...sampling.adaptive.choices import MergeMode
from ...sampling.adaptive.policy import FixedSchedule
from ...sampling.adaptive.sampler import canvas_noise, sample_regions
from ...sampling.adaptive.steppers import stepper_for
from ...sampling.adaptive.types import NoiseSpace
from ...sampling.batching import BatchSize
from .parts.region_networks import TileNetwork
from .parts.report import write_report
from .seams import schedule

DEV = Path(__file__).resolve().parents[2] / "dev.py"
SIDES = (128, 256, 512, 1024)  # latent cells: 1, 4, 17 and 67 megapixels
PIXELS_PER_CELL = 64
TILE, OVERLAP, ROWS = 64, 16, 8
GOAL_SPREAD, GOAL_MEMORY = 1.1, 3.0


def peak_bytes() -> int:
    """Most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def sample(side: int, merge: MergeMode, steps: int) -> dict[str, float]:
    """One run on a square canvas: its counts, seconds and the bytes by which the process grew."""
    regions, sigmas = grid(side, side, TILE, OVERLAP), schedule(steps)
    network, before = TileNetwork(), peak_bytes()
    x = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(0)) * sigmas[0]
    started = process_time()
    result = sample_regions(
        network,
        x,
        sigmas,
        regions=regions,
        stepper=stepper_for("euler", NoiseSpace.VARIANCE_EXPLODING),
        merge=merge,
        policy=FixedSchedule(),
        noise=canvas_noise(x, 0),
        rows_per_call=BatchSize(ROWS),
    )
    seconds = process_time() - started
    return {
        "megapixels": side * side * PIXELS_PER_CELL / 1e6,
        "tiles": len(regions),
        "calls": result.work.calls,
        "latent_mpx": result.work.latent_cells / 1e6,
        "seconds": seconds,
        "grown": peak_bytes() - before,
        "canvas": 3 * x.nbytes,
    }


def in_a_process(side: int, merge: MergeMode, steps: int) -> dict[str, float]:
    """`sample` in a fresh process, after a small run that loads what torch loads lazily."""
    command = [sys.executable, str(DEV), "bench", "scale", "--one", str(side), merge.value, str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench scale", description=__doc__)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--sides", type=int, nargs="+", default=list(SIDES))
    parser.add_argument("--one", nargs=3, metavar=("SIDE", "MERGE", "STEPS"), help="one run, printed as JSON")
    options = parser.parse_args(argv)
    if options.one:
        torch.set_num_threads(1)
        sample(TILE, MergeMode(options.one[1]), 2)
        side, merge, steps = int(options.one[0]), MergeMode(options.one[1]), int(options.one[2])
        runs = [sample(side, merge, steps) for _ in range(max(2, min(10, SIDES[-1] // side)))]
        print(json.dumps({**runs[0], "seconds": min(run["seconds"] for run in runs)}))
        return 0
    found = {merge.value: [in_a_process(side, merge, options.steps) for side in options.sides] for merge in MergeMode}
    lines = [
        "| merge | output Mpx | tiles | calls | latent Mpx | s / output Mpx | s / latent Mpx | memory / canvas tensors |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for merge, rows in found.items():
        for row in rows:
            seconds = row["seconds"] / row["megapixels"], row["seconds"] / row["latent_mpx"]
            lines.append(
                f"| {merge} | {row['megapixels']:.1f} | {row['tiles']} | {row['calls']} | {row['latent_mpx']:.2f} | "
                f"{seconds[0]:.3f} | {seconds[1]:.3f} | {row['grown'] / row['canvas']:.1f} |"
            )
    write_report("scale", {"steps": options.steps, "rows": found}, lines)
    return 0 if all(map(_is_flat, found.values())) else 1


def _is_flat(rows: list[dict[str, float]]) -> bool:
    per_work = [row["seconds"] / row["latent_mpx"] for row in rows]
    return per_work[-1] <= GOAL_SPREAD * per_work[0] and rows[-1]["grown"] < GOAL_MEMORY * rows[-1]["canvas"]
