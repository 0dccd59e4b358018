"""`dev.py bench control`: what time-aware control costs and saves on a network of SD 2.1's size with random weights.

Every evaluation of a chain is made with every kind of control in turn, so that other work on the machine does not decide;
ratios are medians over the timesteps at which the ControlNet speaks. Goals: lite adapters add at most 3 %; the
training-free schedule saves the share of ControlNet calls that it promises.
"""

from __future__ import annotations

import argparse
import importlib
from statistics import median
from typing import Any

import torch

from ...sampling.control_schedule import OFF_LATE, PRESETS
from ...sampling.spaced import spaced_timesteps
from ..env import environment as env
from ..env.in_process import enter_host
from ..env.server import has_accelerator
from .mixed import turns
from .parts.report import write_report

GOAL = 1.03
PLAIN = "ControlNet"
WITHOUT = "no control"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@torch.no_grad()
def measure(networks: Any, timesteps: tuple[int, ...], repeats: int) -> dict[str, list[float]]:
    """Seconds of every kind of evaluation at every timestep, the least of the repeats."""
    kinds = (WITHOUT, *networks.controls)
    for kind in kinds:
        networks.call(kind, timesteps[-1])()  # warm-up
    for control in networks.controls.values():
        control.record.start()
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for timestep in reversed(timesteps):
        found = turns(repeats, {kind: networks.call(kind, timestep) for kind in kinds})
        for kind, values in found.items():
            seconds[kind].append(min(values))
        print(f"t = {timestep}: {seconds[PLAIN][-1]:.2f} s with the plain ControlNet", flush=True)
    return seconds


def summarize(
    networks: Any, seconds: dict[str, list[float]], timesteps: tuple[int, ...], repeats: int
) -> dict[str, dict[str, Any]]:
    """Calls, seconds of the chain, and ratios to the plain ControlNet by kind."""
    silent = [PRESETS[OFF_LATE].silent(torch.tensor([t])) for t in reversed(timesteps)]
    rows: dict[str, dict[str, Any]] = {}
    for kind, values in seconds.items():
        calls = 0
        if kind in networks.controls:
            calls = networks.controls[kind].record.summary()["calls"] // repeats
        speaking = [a / b for a, b, quiet in zip(values, seconds[PLAIN], silent) if not quiet]
        rows[kind] = {
            "calls": calls,
            "seconds": sum(values),
            "ratio_chain": sum(values) / sum(seconds[PLAIN]),
            "ratio_speaking": median(speaking),
        }
    rows["training-free"]["promised_calls"] = len(timesteps) - sum(silent)
    return rows


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench control", description=__doc__)
    parser.add_argument("--steps", type=int, default=20, help="evaluations of the chain (20, as TASR)")
    parser.add_argument("--cells", type=int, default=32, help="side of the latent (32 on a CPU; SD 2.1 is made for 64)")
    parser.add_argument("--rows", type=int, default=1, help="rows of a call (1; 2 with guidance)")
    parser.add_argument("--repeats", type=int, default=1, help="turns at each timestep, of which the least counts (1)")
    parser.add_argument("--without-full", action="store_true", help="leave out the full adapters (3 GB in float32)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    options = parser.parse_args(argv)
    enter_host(env.host_source(env.ensure_environment()))
    made = importlib.import_module(f"{__package__}.control_networks")
    device = "cuda" if has_accelerator() and torch.cuda.is_available() else "cpu"
    sizes = options.cells, options.rows, device, DTYPES[options.dtype]
    networks = made.ControlledUNet(made.UNetShape(), *sizes, full=not options.without_full)
    timesteps = spaced_timesteps(options.steps)
    seconds = measure(networks, timesteps, options.repeats)
    rows = summarize(networks, seconds, timesteps, options.repeats)
    weights = {name: sum(p.numel() for p in part.parameters()) for name, part in networks.weights.items()}
    settings = {**vars(options), "goal": GOAL, "parameters": weights}
    write_report("control", {**settings, "runs": rows, "seconds": seconds}, table(options, weights, rows))
    return 0


def table(options: argparse.Namespace, sizes: dict[str, int], rows: dict[str, dict[str, Any]]) -> list[str]:
    """The result in words and as a table."""
    parts = ", ".join(f"{name} {count / 1e6:.1f} M" for name, count in sizes.items())
    lines = [
        f"SD 2.1's sizes, random weights ({parts}); latents of {options.cells} x {options.cells}, {options.rows} row(s), {options.dtype}, "
        f"{options.steps} evaluations at evenly spaced timesteps (TASR takes 20).",
        "",
        "| control | ControlNet calls | seconds of the chain | / plain ControlNet | where it speaks: / plain (median) |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {kind} | {row['calls']} | {row['seconds']:.1f} | {row['ratio_chain']:.3f} | {row['ratio_speaking']:.3f} |"
        for kind, row in rows.items()
    ]
    lite, free = rows["lite adapters"]["ratio_speaking"], rows["training-free"]
    verdict = "kept" if lite <= GOAL else "missed"
    lines += [
        "",
        f"Lite adapters: {lite:.3f} of the plain ControlNet's evaluation (goal {GOAL}, {verdict}). Training-free: {free['calls']} of "
        f"{options.steps} calls made, {free['promised_calls']} promised.",
    ]
    return lines
