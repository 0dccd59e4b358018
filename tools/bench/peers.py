"""`dev.py bench peers`: the one-step default beside published enlargers of the field, in one host, on held-out pictures x4.

Bicubic and the published networks run in ComfyUI's own nodes, ours in ours; what is measured is the PNG that Save Image wrote.
Seconds are those of the node that enlarges, as the host tells which node it runs, on one thread, weights loaded before.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..env import environment as env
from ..env.client import Client, Event, Prompt
from ..env.server import running_host
from ..env.steps import StepError, say
from .embedded import as_tensor
from .parts.heldout import DEGRADATIONS, SETS, low_resolution, picture
from .parts.measures import luma, measure, piqe
from .parts.peer_networks import DAT, ESRGAN, put_networks
from .parts.report import RESULTS, write_report
from .parts.spectrum import spectrum_distance

NYQUIST = 1 / 8  # of the LR picture, in cycles per HR pixel
SCALE = 4
TIMED = "4"
"""The id of the node that enlarges."""
MEASURES = ("psnr", "ssim", "ger", "spectrum", "piqe", "seconds")
CROPS = (("astronaut.png", (180, 60)), ("chelsea.png", (190, 80)), ("coffee.png", (250, 150)), ("text.png", (120, 20)))
"""Pictures and the upper left corners of what the sheet shows of them."""
CROP, ZOOM, BAND = 120, 2, 22
NOTES = """PSNR and SSIM on luma, border 4. GER: gradient energy over the truth's, 1 is as sharp; grain and ringing raise it too.
Spectrum: mean distance of the power spectra above the LR picture's Nyquist frequency, dB, less is nearer. PIQE: without a
reference, less is better. Seconds: of the node that enlarges, one thread."""
Rows = dict[str, dict[str, dict[str, float]]]  # method -> picture -> measure -> value


@dataclass(frozen=True)
class Method:
    """A way to enlarge: its nodes between Load Image ("1") and Save Image, TIMED among them; parameters as published."""

    nodes: Callable[[], Prompt]
    parameters: str = "0"


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """A node of a prompt; links are lists."""
    return {"class_type": class_type, "inputs": inputs}


def published(name: str) -> Prompt:
    """ComfyUI's own two nodes for an enlarging network."""
    return {
        "2": node("UpscaleModelLoader", model_name=name),
        TIMED: node("ImageUpscaleWithModel", upscale_model=["2", 0], image=["1", 0]),
    }


def ours(name: str) -> Prompt:
    """Load One-Step SR and One-Step Distilled SR at their defaults."""
    settings: dict[str, Any] = {"scale": float(SCALE), "width": 0, "height": 0, "steps": 0, "seed": 0}
    settings |= {"color_fix": "none", "tile": 0, "overlap": 32, "tile_batch": 0, "chain": "stochastic"}
    return {
        "2": node("AdaptiveSRLoadOneStepSR", model_name=name, autoencoder="auto", preset="auto"),
        TIMED: node("AdaptiveSROneStepDistilledSR", one_step_sr=["2", 0], image=["1", 0], **settings),
    }


METHODS: dict[str, Method] = {
    "bicubic": Method(
        lambda: {TIMED: node("ImageScaleBy", image=["1", 0], upscale_method="bicubic", scale_by=float(SCALE))}
    ),
    "ours, one step (default)": Method(lambda: ours("embedded: one step"), parameters="0.63 M"),
    "DAT-light x4": Method(lambda: published(DAT), parameters="0.57 M"),
    "Real-ESRGAN x4plus": Method(lambda: published(ESRGAN), parameters="16.7 M"),
}


def enlarge(client: Client, method: Method, name: str) -> tuple[Image.Image, float]:
    """The picture that the host saved, and the seconds of the node that enlarges."""
    prompt = {"1": node("LoadImage", image=name), **method.nodes()}
    prompt["9"] = node("SaveImage", images=[TIMED, 0], filename_prefix="peers")
    spans: dict[str, float] = {}
    running: list[tuple[str, float]] = []

    def hear(event: Event) -> None:
        if event.kind == "executing":
            now = perf_counter()
            if running:
                started, since = running.pop()
                spans[started] = now - since
            if event.data.get("node"):
                running.append((event.data["node"], now))

    run = client.run(prompt, on_event=hear, timeout=1800)
    if not run.succeeded:
        raise StepError(f"{name} did not come out: {run.error}")
    (saved,) = run.images()
    return Image.open(io.BytesIO(client.image(saved))).convert("RGB"), spans[TIMED]


def score(result: Image.Image, truth: Tensor, seconds: float) -> dict[str, float]:
    """All measures of one picture."""
    found = as_tensor(np.asarray(result))
    if found.shape != truth.shape:
        raise StepError(f"A method made {tuple(found.shape)}: expected {tuple(truth.shape)}.")
    distance = float(spectrum_distance(luma(found), luma(truth), NYQUIST))
    return {**measure(found, truth), "spectrum": distance, "piqe": piqe(found), "seconds": seconds}


def evaluate(client: Client, folder: Path, set_name: str, degradation: str, kept: dict[str, Image.Image]) -> Rows:
    """Every measure of every method on every picture of a set; what the sheet shows goes to kept."""
    rows: Rows = {name: {} for name in METHODS}
    for index, name in enumerate(SETS[set_name]):
        truth = picture(name)
        low = f"{set_name}_{degradation}_{Path(name).stem}.png"
        Image.fromarray(low_resolution(truth, degradation, index)).save(folder / low)
        for title, method in METHODS.items():
            result, seconds = enlarge(client, method, low)
            rows[title][name] = score(result, as_tensor(truth), seconds)
            kept[f"{degradation} {name} {title}"] = result
        kept[f"{degradation} {name} truth"] = Image.fromarray(truth)
        say(f"{set_name}, {degradation}: {name}")
    return rows


def table(rows: Rows) -> list[str]:
    """A Markdown table of the means over the pictures."""
    lines = [
        "| method | parameters | PSNR-Y | SSIM-Y | GER | spectrum, dB | PIQE | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for title, pictures in rows.items():
        m = {name: mean(values[name] for values in pictures.values()) for name in MEASURES}
        numbers = f"{m['psnr']:.2f} | {m['ssim']:.4f} | {m['ger']:.2f} | {m['spectrum']:.1f} | {m['piqe']:.0f} | {m['seconds']:.2f}"
        lines.append(f"| {title} | {METHODS[title].parameters} | {numbers} |")
    return lines


def sheet(kept: Mapping[str, Image.Image]) -> Image.Image:
    """Crops of every method beside the truth, a row for each picture and degradation."""
    titles, side = [*METHODS, "truth"], CROP * ZOOM
    shown = [(degradation, name, place) for name, place in CROPS for degradation in DEGRADATIONS]
    made = Image.new("RGB", (side * len(titles), BAND + side * len(shown)), (16, 18, 24))
    draw = ImageDraw.Draw(made)
    for column, title in enumerate(titles):
        draw.text((side * column + 6, 4), title, font=ImageFont.load_default(14), fill=(240, 240, 245))
        for row, (degradation, name, (left, top)) in enumerate(shown):
            crop = kept[f"{degradation} {name} {title}"].crop((left, top, left + CROP, top + CROP))
            made.paste(crop.resize((side, side), Image.Resampling.NEAREST), (side * column, BAND + side * row))
    return made


def main(argv: list[str]) -> int:
    """Measures the chosen sets; all of them make the sheet, too."""
    parser = argparse.ArgumentParser(prog="bench peers", description=__doc__)
    parser.add_argument("--sets", nargs="+", choices=sorted(SETS), default=list(SETS))
    options = parser.parse_args(argv)
    kept: dict[str, Image.Image] = {}
    results: dict[str, Rows] = {}

    def prepare(base: Path) -> None:
        folder = base / "models" / "upscale_models"
        folder.mkdir(parents=True, exist_ok=True)
        put_networks(folder)
        Image.new("RGB", (32, 32), (90, 120, 60)).save(base / "input" / "warm_up.png")

    with running_host(env.host_source(env.ensure_environment()), prepare=prepare) as server, server.client() as client:
        for method in METHODS.values():
            enlarge(client, method, "warm_up.png")
        for set_name in options.sets:
            for degradation in DEGRADATIONS:
                rows = evaluate(client, server.base / "input", set_name, degradation, kept)
                results[f"{set_name}, {degradation}"] = rows
    lines = [NOTES, ""]
    for title, rows in results.items():
        lines += [f"## {title} (n={len(rows['bicubic'])})", "", *table(rows), ""]
    write_report("peers", {"results": results}, lines)
    if set(options.sets) == set(SETS):
        sheet(kept).save(RESULTS / "peers.jpg", quality=88)
    return 0
