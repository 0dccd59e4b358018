"""`dev.py bench peers_tiles`: one canvas in one host by our tilings, by the full frame, and by other packs given with --peer.

Every network call is counted where the host enters the network, so that all packs are counted alike: rows, cells, and the
arithmetic that SD 2.1's UNet would have on those shapes (`bench flops`). Seams are those of the result, at the tiles' own places,
against the full frame there. The checkpoint is the small one of our tests: look at counts and ratios, not at pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ...imaging.tile_plan import even_grid
from ...imaging.tiles import Region
from ...sampling.network_cost import COUNTED
from ..demo import PHOTO
from ..env import environment as env
from ..env.server import PACK_NAME, has_accelerator, link_pack
from ..env.steps import StepError
from ..small_models.checkpoints import put_small_checkpoint
from .parts.report import write_report
from .parts.seam_ratio import seam_ratio

CELL = 8
FULL = "full frame"
MERGES = ("consensus", "aggregate", "final")
GOAL_MPX, GOAL_RATIO, GOAL_CELLS = 0.166, 1.02, 256
PEERS: dict[str, tuple[str, int, int]] = {
    "TiledDiffusion": ("Tiled Diffusion, its defaults: 768 / 64", 96, 8),
    "BNK_TiledKSampler": ("Tiled KSampler, simple: 512 without overlap", 64, 0),
    "UltimateSDUpscaleNoUpscale": ("Ultimate SD Upscale, its defaults: 512 / 32, VAE included", 64, 0),
}
"""Nodes of other packs: words, and the tiles (cells) at whose borders seams are looked for."""

# Runs in a process of its own, where the host's modules are importable and all packs are loaded by the host.
PROBE = """
import asyncio, importlib, json, sys
from time import perf_counter
settings = json.loads(sys.argv[1])
from comfy.cli_args import args
args.cpu, args.base_directory = settings["cpu"], settings["base"]
args.use_pytorch_cross_attention = True  # for every sampler alike: a third of the time of the host's way on a CPU
import torch
torch.set_num_threads(settings["threads"])
import numpy
import nodes
import comfy.model_base, comfy.sd
from PIL import Image
from safetensors.torch import save_file
for path in settings["packs"]:
    assert asyncio.run(nodes.load_custom_node(path)), path
pack = settings["packs"][0].replace(".", "_x_")
run = importlib.import_module(pack + ".host.regions.run")
merges = importlib.import_module(pack + ".sampling.adaptive.choices").MergeMode
model, _, vae = comfy.sd.load_checkpoint_guess_config(settings["checkpoint"], output_clip=False)[:3]
eps = model.model.model_type
photo = torch.from_numpy(numpy.array(Image.open(settings["photo"]))).float()[None] / 255
condition = [[torch.zeros(1, 77, 1024), {}]]
steps, cfg, denoise = settings["steps"], settings["cfg"], settings["denoise"]
latent = {"samples": vae.encode(photo)}
calls, state, found, results = [], {}, {}, {}

def wait():
    if torch.cuda.is_available():
        torch.cuda.synchronize()

def before(network, given):
    wait()
    state["start"] = perf_counter()

def after(network, given, result):
    wait()
    calls.append((*given[0].shape[::2], given[0].shape[3], perf_counter() - state["start"]))

model.model.diffusion_model.register_forward_pre_hook(before)
model.model.diffusion_model.register_forward_hook(after)

def measure(name, sample):
    calls.clear()
    start = perf_counter()
    samples, regions = sample()
    wait()
    found[name] = {"wall": perf_counter() - start, "calls": list(calls), "regions": regions}
    results[name] = samples.float().cpu().contiguous()
    print(name, round(found[name]["wall"], 1), file=sys.stderr, flush=True)

def full_frame():
    return nodes.common_ksampler(model, 0, steps, cfg, "euler", "normal", condition, condition, latent, denoise)[0]["samples"], None

def ours(tile, overlap, merge, kind):
    options = run.RegionOptions(tile_px=tile, overlap_px=overlap, merge=merges(merge), rows=1)
    model.model.model_type = comfy.model_base.ModelType.V_PREDICTION if kind == "v" else eps  # which sizes fit, nothing else
    try:
        sampled, report = run.sample_latent(model, condition, condition, latent, run.Schedule(0, steps, cfg, "normal", denoise), options)
    finally:
        model.model.model_type = eps
    return sampled["samples"], report["regions"]

def call(name, **wanted):
    node = nodes.NODE_CLASS_MAPPINGS[name]
    inputs = {}
    for key, (kind, *more) in node.INPUT_TYPES()["required"].items():
        default = more[0].get("default") if more else None
        inputs[key] = kind[0] if default is None and isinstance(kind, (list, tuple)) else default
    inputs |= {key: value for key, value in wanted.items() if key in inputs}
    return getattr(node(), node.FUNCTION)(**inputs)[0]

def peer(name):
    shared = dict(model=model, positive=condition, negative=condition, latent_image=latent, vae=vae, seed=0, steps=steps, cfg=cfg,
                  sampler_name="euler", scheduler="normal", denoise=denoise, tile_batch_size=1, tiling_strategy="simple",
                  method="MultiDiffusion", upscaled_image=photo)
    result = call(name, **shared)
    if name == "TiledDiffusion":
        result = nodes.common_ksampler(result, 0, steps, cfg, "euler", "normal", condition, condition, latent, denoise)[0]
    return (result["samples"] if isinstance(result, dict) else vae.encode(result)), None

with torch.inference_mode():
    model.model.diffusion_model  # loaded and warm before the first measurement
    small = {"samples": latent["samples"][..., :32, :32]}
    nodes.common_ksampler(model, 0, 1, cfg, "euler", "normal", condition, condition, small, denoise)
    measure("full frame", full_frame)
    for name, choice in settings["ours"].items():
        measure(name, lambda: ours(*choice))
    for name in settings["peers"]:
        if name in nodes.NODE_CLASS_MAPPINGS:
            try:
                measure(name, lambda: peer(name))
            except Exception as error:  # another pack may not know this host; our rows stay
                print(name, repr(error), file=sys.stderr, flush=True)
save_file(results, settings["results"])
print(json.dumps(found))
"""


def ours(merges: Sequence[str]) -> dict[str, tuple[int, int, str, str]]:
    """Rows of this pack: tile, overlap, merge mode, and the kind of model whose tiles are chosen."""
    modes = {f"tile_size 0, {merge}": (0, 64, merge, "eps") for merge in merges}
    return {
        "512 / 128, consensus": (512, 128, "consensus", "eps"),
        **modes,
        "tile_size 0 as for SD 2.1 of 768, consensus": (0, 64, "consensus", "v"),
    }


def measured(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What the probe has counted and sampled, by name."""
    from safetensors.torch import load_file  # noqa: PLC0415

    source = env.host_source(env.ensure_environment())
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        link_pack(base / "custom_nodes", PACK_NAME)
        photo = base / "photo.png"
        Image.open(PHOTO).convert("RGB").resize((options.size, options.size), Image.Resampling.BICUBIC).save(photo)
        settings = {
            "cpu": not has_accelerator(),
            "base": folder,
            "packs": [str(base / "custom_nodes" / PACK_NAME), *(str(Path(peer).resolve()) for peer in options.peer)],
            "checkpoint": str(put_small_checkpoint(base)),
            "threads": torch.get_num_threads(),
            "photo": str(photo),
            "steps": options.steps,
            "cfg": options.cfg,
            "denoise": options.denoise,
            "ours": ours(options.merge),
            "peers": list(PEERS),
            "results": str(base / "results.safetensors"),
        }
        command = [sys.executable, "-c", PROBE, json.dumps(settings)]
        done = subprocess.run(
            command, cwd=source, stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, "PYTHONPATH": ""}
        )
        if done.returncode:
            raise StepError("The measurement in the host failed; its own words stand above.")
        return json.loads(done.stdout.strip().splitlines()[-1]), load_file(base / "results.safetensors")


def row_of(name: str, found: dict[str, Any], samples: torch.Tensor, frame: torch.Tensor) -> dict[str, Any]:
    """Counts, seconds, and the seam ratio against the full frame's at the same places."""
    cost, calls = COUNTED["SD 2.1"], found["calls"]
    seconds = sum(call[3] for call in calls)
    row: dict[str, Any] = {
        "calls": len(calls),
        "latent_mpx": sum(rows * height * width for rows, height, width, _ in calls) / 1e6,
        "tflop": sum(rows * cost(height, width) for rows, height, width, _ in calls) / 1e12,
        "call_seconds": seconds,
        "wall_over_calls": found["wall"] / seconds,
    }
    if name == FULL:
        return row
    height, width = frame.shape[2:]
    regions = [Region(*region) for region in found["regions"] or []]
    places = regions or [*even_grid(height, width, *PEERS[name][1:])]
    if len(places) == 1:
        return row
    return {**row, "seam": seam_ratio(samples, places) / seam_ratio(frame, places) - 1, "tiles": len(places)}


def table(rows: dict[str, dict[str, Any]], options: argparse.Namespace) -> list[str]:
    """Lines of the report."""
    lines = [
        f"{options.size} x {options.size} pixels, {options.steps} step(s) of euler, cfg {options.cfg:g}, denoise {options.denoise:g}, small SD 2 "
        "checkpoint of two levels, one tile in a call. Latent Mpx and TFLOP count both rows of guidance; TFLOP: SD 2.1's UNet on these shapes.",
        "",
        "| sampler | calls | latent Mpx | TFLOP | seconds of calls | wall / calls | seams against full frame |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        words = PEERS[name][0] if name in PEERS else name
        seam = f"{100 * row['seam']:+.2f} %" if "seam" in row else ""
        lines.append(
            f"| {words} | {row['calls']} | {row['latent_mpx']:.4f} | {row['tflop']:.1f} | {row['call_seconds']:.1f} | "
            f"{row['wall_over_calls']:.3f} | {seam} |"
        )
    return lines


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench peers_tiles", description=__doc__)
    parser.add_argument("--size", type=int, default=2048, help="side of the canvas in pixels (2048)")
    parser.add_argument("--steps", type=int, default=1, help="sampling steps (1)")
    parser.add_argument("--cfg", type=float, default=4.0, help="guidance (4)")
    parser.add_argument("--denoise", type=float, default=0.35, help="share of noise (0.35)")
    parser.add_argument(
        "--merge",
        nargs="+",
        choices=MERGES,
        default=MERGES,
        help="merge modes of tile_size 0, consensus among them (all)",
    )
    parser.add_argument("--peer", action="append", default=[], metavar="DIR", help="folder of another pack; repeatable")
    options = parser.parse_args(argv)
    found, samples = measured(options)
    rows = {name: row_of(name, found[name], samples[name], samples[FULL]) for name in found}
    settings = {**vars(options), "peer": [Path(peer).name for peer in options.peer]}
    write_report("peers_tiles", {**settings, "rows": rows}, table(rows, options))
    own = [rows[name] for name in ours(options.merge)]
    kept = max(row["wall_over_calls"] for row in own) <= GOAL_RATIO
    if options.size == GOAL_CELLS * CELL and options.steps == 1:
        kept &= rows["tile_size 0, consensus"]["latent_mpx"] <= GOAL_MPX
    return 0 if kept else 1
