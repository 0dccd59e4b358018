"""`dev.py bench overhead`: seconds of the sampler over seconds of its own network calls, measured inside one run (goal <= 1.02).

Once the torch core alone with a convolutional network, once the whole region sampler in the host with a small SD-2
checkpoint, beside the host's own sampler on the same canvas. Both times are of the same run, so a busy machine cancels.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor, nn

from ...imaging.tiles import grid
from ...sampling.adaptive.choices import MergeMode
from ...sampling.adaptive.policy import FixedSchedule
from ...sampling.adaptive.sampler import canvas_noise, sample_regions
from ...sampling.adaptive.steppers import stepper_for
from ...sampling.adaptive.types import NoiseSpace, Row
from ...sampling.batching import BatchSize
from ..env import environment as env
from ..env.server import PACK_NAME, has_accelerator, link_pack
from ..env.steps import StepError
from ..small_models.checkpoints import put_small_checkpoint
from .parts.report import write_report

GOAL = 1.02
CANVAS, TILE, OVERLAP, ROWS, WIDTH = 160, 64, 16, 3, 256

# Runs in a process of its own, where the host's modules are importable and the pack is loaded by the host.
PROBE = """
import asyncio, importlib, json, sys
from time import perf_counter
settings = json.loads(sys.argv[1])
from comfy.cli_args import args
args.cpu, args.base_directory = settings["cpu"], settings["base"]
import torch
torch.set_num_threads(settings["threads"])
import nodes
import comfy.sd
from comfy.patcher_extension import WrappersMP
assert asyncio.run(nodes.load_custom_node(settings["pack"]))
pack = settings["pack"].replace(".", "_x_")
run = importlib.import_module(pack + ".host.regions.run")
merges = importlib.import_module(pack + ".sampling.adaptive.choices").MergeMode
model = comfy.sd.load_checkpoint_guess_config(settings["checkpoint"], output_vae=False, output_clip=False)[0]
spent = {}

def wait():
    if torch.cuda.is_available():
        torch.cuda.synchronize()

def timed(what, call, *given, **named):
    wait()
    start = perf_counter()
    try:
        return call(*given, **named)
    finally:
        wait()
        spent[what] = spent.get(what, 0.0) + perf_counter() - start

def call_model(apply, given):
    return timed("model", apply, given["input"], given["timestep"], **given["c"])

model.set_model_unet_function_wrapper(call_model)
model.add_wrapper(WrappersMP.SAMPLER_SAMPLE, lambda sampler, *given, **named: timed("sampler", sampler, *given, **named))
condition = [[torch.zeros(1, 77, 1024), {}]]
latent = {"samples": torch.zeros(1, 4, *settings["canvas"])}
steps, found = settings["steps"], {}

def measure(name, call):
    spent.clear()
    call()
    found[name] = dict(spent)

def host():
    nodes.common_ksampler(model, 0, steps, 4.0, "euler", "normal", condition, condition, latent)

def regions(mode):
    options = run.RegionOptions(tile_px=512, overlap_px=128, merge=mode, rows=settings["rows"])
    run.sample_latent(model, condition, condition, latent, run.Schedule(0, steps, 4.0, "normal", 1.0), options)

with torch.inference_mode():
    steps = 1
    host()
    steps = settings["steps"]
    measure("host's KSampler, full frame", host)
    for mode in merges:
        measure(mode.value, lambda: regions(mode))
print(json.dumps(found))
"""


class TimedNetwork(nn.Module):
    """A plain convolutional denoiser (4 -> WIDTH -> WIDTH -> WIDTH -> 4) that adds up the time of its own calls."""

    def __init__(self) -> None:
        super().__init__()
        widths = (4, WIDTH, WIDTH, WIDTH, 4)
        layers = [nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths)]
        self.layers = nn.Sequential(*(part for layer in layers[:-1] for part in (layer, nn.SiLU())), layers[-1])
        self.seconds = 0.0

    def forward(self, x: Tensor, sigma: Tensor, rows: Sequence[Row]) -> Tensor:
        synchronize()
        start = perf_counter()
        x0 = self.layers(x / (sigma.square() + 1).sqrt().reshape(-1, 1, 1, 1))
        synchronize()
        self.seconds += perf_counter() - start
        return x0


def synchronize() -> None:
    """Waits for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def core_times(merge: MergeMode, steps: int) -> dict[str, float]:
    """Seconds of `sample_regions` and of the network in it, on a canvas of one image."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    draw = torch.Generator().manual_seed(0)
    network = TimedNetwork().requires_grad_(False)
    for parameter in network.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=draw) * parameter[0].numel() ** -0.5)
    network.to(device)
    x = torch.randn(1, 4, CANVAS, CANVAS, generator=draw).to(device)
    sigmas = [10.0 * (1 - i / steps) for i in range(steps + 1)]

    def run(grid_of_sigmas: Sequence[float]) -> None:
        sample_regions(
            network,
            x,
            grid_of_sigmas,
            regions=grid(CANVAS, CANVAS, TILE, OVERLAP),
            stepper=stepper_for("euler_ancestral", NoiseSpace.VARIANCE_EXPLODING),
            merge=merge,
            policy=FixedSchedule(),
            noise=canvas_noise(x, 0),
            rows_per_call=BatchSize(ROWS),
        )
        synchronize()

    with torch.inference_mode():
        run([10.0, 0.0])  # warm-up
        network.seconds = 0.0
        start = perf_counter()
        run(sigmas)
        return {"sampler": perf_counter() - start, "model": network.seconds}


def host_times(canvas: tuple[int, int], steps: int, rows: int) -> dict[str, dict[str, float]]:
    """The same of the host's KSampler and of every merge mode inside the host, by name."""
    source = env.host_source(env.ensure_environment())
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        link_pack(base / "custom_nodes", PACK_NAME)
        settings = {
            "cpu": not has_accelerator(),
            "base": folder,
            "pack": str(base / "custom_nodes" / PACK_NAME),
            "checkpoint": str(put_small_checkpoint(base)),
            "threads": torch.get_num_threads(),
            "canvas": canvas,
            "steps": steps,
            "rows": rows,
        }
        command = [sys.executable, "-c", PROBE, json.dumps(settings)]
        done = subprocess.run(
            command, cwd=source, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": ""}
        )
    if done.returncode:
        raise StepError(f"The measurement in the host failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench overhead", description=__doc__)
    parser.add_argument("--steps", type=int, default=2, help="sampling steps (2)")
    parser.add_argument("--rows", type=int, default=2, help="regions in one call in the host (2)")
    parser.add_argument("--canvas", type=int, default=112, help="latent cells of the canvas' sides in the host (112)")
    options = parser.parse_args(argv)
    found = {f"core, {merge.value}": core_times(merge, options.steps) for merge in MergeMode}
    inside = host_times((options.canvas, options.canvas), options.steps, options.rows)
    found |= {name if "host" in name else f"in the host, {name}": times for name, times in inside.items()}
    rows = {name: {**times, "ratio": times["sampler"] / times["model"]} for name, times in found.items()}
    lines = [
        f"Core: {CANVAS} x {CANVAS} cells, {WIDTH}-wide convolutions. Host: {options.canvas} x {options.canvas} cells, small SD 2, "
        f"cfg 4. Regions of {TILE} cells, overlap {OVERLAP}, {options.steps} steps.",
        "",
        "| run | sampler s | its network calls s | ratio |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {row['sampler']:.2f} | {row['model']:.2f} | {row['ratio']:.4f} |" for name, row in rows.items()
    ]
    write_report("overhead", {"goal": GOAL, "rows": rows, **vars(options)}, lines)
    ours = [row["ratio"] for name, row in rows.items() if "KSampler" not in name]
    return 0 if max(ours) <= GOAL else 1
