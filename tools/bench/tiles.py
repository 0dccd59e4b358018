"""`dev.py bench tiles`: 512 -> 2048 through the API of a real host, every merge mode beside the host's own full-frame KSampler.

Counts must be those that Region Cost Forecast told, else the benchmark fails. Seconds are the host's for the sampler node alone;
seams are those of the latents, against the full frame at the same places. The checkpoint is the small one of our tests, so
that a CPU can do it: look at calls and latent Mpx, not at the pictures. InvSR's rows are described in `invsr_tiles`.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from ...imaging.tile_plan import even_grid
from ...imaging.tiles import Region
from ...sampling.adaptive.choices import MergeMode
from ..demo import PHOTO
from ..env import environment as env
from ..env.client import Client, Event, Prompt, PromptRun
from ..env.server import Server, running_host
from ..env.steps import StepError
from ..small_models.checkpoints import SMALL_SD2, put_small_checkpoint
from ..small_models.tiny import put_tiny_noise_predictor
from .parts import invsr_tiles
from .parts.report import write_report
from .parts.seam_ratio import seam_ratio

CELL, SCALE, GOAL_SIZE = 8, 4, 512
COUNTED = ("images", "tiles", "calls", "region_calls", "latent_mpx")
PICTURE = "bench_tiles.png"
Row = dict[str, float]


def graph(options: argparse.Namespace) -> Prompt:
    """Checkpoint, enlarged picture, latent: what every contestant starts from."""
    size = SCALE * options.size
    resize = {"image": ["photo", 0], "upscale_method": "bicubic", "width": size, "height": size, "crop": "disabled"}
    return {
        "load": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": SMALL_SD2}},
        "photo": {"class_type": "LoadImage", "inputs": {"image": PICTURE}},
        "resize": {"class_type": "ImageScale", "inputs": resize},
        "prompt": {"class_type": "AdaptiveSREmptyPrompt", "inputs": {"model": ["load", 0]}},
        "encode": {"class_type": "VAEEncode", "inputs": {"pixels": ["resize", 0], "vae": ["load", 2]}},
        "latent": {
            "class_type": "SaveLatent",
            "inputs": {"samples": ["sample", 0], "filename_prefix": "bench_tiles"},
        },
    }


def sampling(options: argparse.Namespace) -> dict[str, Any]:
    """Inputs that our sampler and the host's share."""
    return {
        "model": ["load", 0],
        "positive": ["prompt", 0],
        "negative": ["prompt", 0],
        "seed": 0,
        "steps": options.steps,
        "cfg": options.cfg,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": options.denoise,
    }


def warm_up(options: argparse.Namespace) -> Prompt:
    """Loads and encodes, which the host then keeps."""
    inputs = {"samples": ["encode", 0], "flip_method": "x-axis: vertically"}
    return {**graph(options), "sample": {"class_type": "LatentFlip", "inputs": inputs}}


def full_frame(options: argparse.Namespace) -> Prompt:
    """The host's KSampler on the whole canvas."""
    inputs = {**sampling(options), "latent_image": ["encode", 0]}
    return {**graph(options), "sample": {"class_type": "KSampler", "inputs": inputs}}


def tiled(options: argparse.Namespace, merge: MergeMode) -> Prompt:
    """Tiled Region Sampler, its report, and the forecast."""
    tiles = {"tile_size": options.tile, "overlap": options.overlap, "region_batch": options.rows}
    inputs = {**sampling(options), **tiles, "latent": ["encode", 0], "merge_mode": merge.value}
    plan = {"width": options.size, "height": options.size, "scale": float(SCALE), "model": ["load", 0], **tiles}
    plan |= {"steps": options.steps, "cfg": options.cfg}
    return {
        **graph(options),
        "sample": {"class_type": "AdaptiveSRTiledRegionSampler", "inputs": inputs},
        "report": {"class_type": "PreviewAny", "inputs": {"source": ["sample", 2]}},
        "plan": {"class_type": "AdaptiveSRUpscalePlan", "inputs": plan},
        "forecast": {"class_type": "PreviewAny", "inputs": {"source": ["plan", 0]}},
    }


def run_timed(client: Client, prompt: Prompt) -> tuple[PromptRun, float]:
    """The run and the seconds that its node "sample" was the one at work."""
    entered: list[tuple[float, str | None]] = []

    def note(event: Event) -> None:
        if event.kind == "executing":
            entered.append((perf_counter(), event.data.get("node")))

    run = client.run(prompt, on_event=note, timeout=3600)
    entered.append((perf_counter(), None))
    if not run.succeeded:
        raise StepError(f"The host could not run the benchmark: {run.error}")
    return run, sum(end - start for (start, node), (end, _) in pairwise(entered) if node == "sample")


def latent_of(server: Server, run: PromptRun) -> Tensor:
    """The sampled latent (1, 4, h, w) that the host saved."""
    entry = run.outputs["latent"]["latents"][0]
    return load_file(server.base / "output" / entry["subfolder"] / entry["filename"])["latent_tensor"].float()


def checked_report(run: PromptRun) -> dict[str, Any]:
    """The sampler's report. Raises StepError where its counts are not the forecast's."""
    found, planned = (json.loads(run.outputs[node]["text"][0]) for node in ("report", "forecast"))
    wrong = {name: (found[name], planned[name]) for name in COUNTED if found[name] != planned[name]}
    if wrong:
        raise StepError(f"Counts differ from those of Region Cost Forecast (found, planned): {wrong}")
    return found


def contest(server: Server, options: argparse.Namespace) -> dict[str, Row]:
    """Rows of the table by name; the full frame comes first, unless left out."""
    side = SCALE * options.size // CELL
    regions: list[Region] = [*even_grid(side, side, options.tile // CELL, options.overlap // CELL)]
    rows: dict[str, Row] = {}
    with server.client() as client:
        client.run(warm_up(options))
        if not options.no_full_frame:
            run, seconds = run_timed(client, full_frame(options))
            work = {"calls": options.steps, "latent_mpx": options.steps * side * side / 1e6}
            rows["KSampler, full frame"] = {
                **work,
                "seconds": seconds,
                "seam": seam_ratio(latent_of(server, run), regions),
            }
        for merge in MergeMode:
            run, seconds = run_timed(client, tiled(options, merge))
            report = checked_report(run)
            work = {name: report[name] for name in ("calls", "region_calls", "latent_mpx")}
            rows[merge.value] = {**work, "seconds": seconds, "seam": seam_ratio(latent_of(server, run), regions)}
    return rows


def invsr_contest(server: Server, options: argparse.Namespace) -> dict[str, Row]:
    """InvSR's rows by mode; latent regions must keep within their goal where the picture has the size it is set for."""
    rows: dict[str, Row] = {}
    with server.client() as client:
        for order in invsr_tiles.ORDERS if options.run_chop else invsr_tiles.ORDERS[:1]:
            run, seconds = run_timed(client, invsr_tiles.graph(PICTURE, order, options.rows))
            rows[order] = invsr_tiles.row_of(run, seconds)
    if not options.run_chop:
        rows[f"{invsr_tiles.ORDERS[1]}, counted and not run"] = invsr_tiles.chop_counts(options.size, SCALE)
    if options.size == GOAL_SIZE:
        invsr_tiles.check_goal(rows[invsr_tiles.ORDERS[0]])
    return rows


def report_samplers(rows: dict[str, Row], options: argparse.Namespace) -> None:
    """Writes `results/tiles`."""
    frame = rows.get("KSampler, full frame", {}).get("seam")
    lines = [
        f"{options.size} -> {SCALE * options.size} pixels, small SD 2 checkpoint, {options.steps} steps of euler, cfg {options.cfg:g}, "
        f"denoise {options.denoise:g}, tiles of {options.tile} pixels, overlap {options.overlap}, {options.rows} in a call. "
        "Calls and latent Mpx equal those of Region Cost Forecast.",
        "",
        "| sampler | calls | latent Mpx | seconds | seam ratio | against full frame |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        against = "" if frame is None else f"{100 * (row['seam'] / frame - 1):+.1f} %"
        lines.append(
            f"| {name} | {row['calls']:.0f} | {row['latent_mpx']:.3f} | {row['seconds']:.1f} | {row['seam']:.3f} | {against} |"
        )
    write_report("tiles", {**vars(options), "samplers": rows}, lines)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench tiles", description=__doc__)
    parser.add_argument(
        "--size", type=int, default=512, help="side of the small picture in pixels (512), a multiple of 8"
    )
    parser.add_argument("--steps", type=int, default=2, help="sampling steps (2)")
    parser.add_argument("--cfg", type=float, default=1.0, help="guidance (1: off)")
    parser.add_argument("--denoise", type=float, default=0.35, help="share of noise (0.35)")
    parser.add_argument("--tile", type=int, default=512, help="tile in pixels (512)")
    parser.add_argument("--overlap", type=int, default=128, help="overlap in pixels (128)")
    parser.add_argument("--rows", type=int, default=1, help="regions in one call (1)")
    parser.add_argument("--no-full-frame", action="store_true", help="leave out the host's full-frame sampler")
    parser.add_argument("--part", choices=["all", "samplers", "invsr"], default="all", help="which tables (all)")
    parser.add_argument("--run-chop", action="store_true", help="run InvSR's pixel chop too, and do not only count it")
    options = parser.parse_args(argv)

    def prepare(base: Path) -> None:
        put_small_checkpoint(base)
        put_tiny_noise_predictor(base)
        Image.open(PHOTO).convert("RGB").resize((options.size, options.size)).save(base / "input" / PICTURE)

    with running_host(env.host_source(env.ensure_environment()), prepare=prepare) as server:
        if options.part != "invsr":
            report_samplers(contest(server, options), options)
        if options.part != "samplers":
            rows = invsr_contest(server, options)
            write_report(
                "tiles_invsr", {"size": options.size, "rows": rows}, invsr_tiles.table(rows, options.size, SCALE)
            )
    return 0
