"""The `demo` verb: the bundled photo, shrunk to a quarter, upscaled by a real ComfyUI over its API and compared with the truth."""

from __future__ import annotations

import copy
import io
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .env import environment as env
from .env.client import Client, Event, Prompt, nodes_of_class
from .env.server import running_host
from .env.steps import StepError, say

PHOTO = Path(__file__).resolve().parent / "demo_photo" / "astronaut.png"
WORKFLOW = env.ROOT / "workflows" / "api" / "one_step_sr.json"
SCALE = 4


@dataclass(frozen=True)
class DemoResult:
    """What the demo reports: seconds of the run, PSNR-Y in dB of ours and of bicubic, and where the pictures are."""

    seconds: float
    psnr: float
    psnr_bicubic: float
    before: str
    after: str


def main(environment: Path, *, out: Path, port: int | None, as_json: bool) -> int:
    """Starts the host, upscales the photo, saves before.png and after.png in out, prints the numbers, stops the host."""
    prompt = load_prompt(WORKFLOW)
    out.mkdir(parents=True, exist_ok=True)
    truth = Image.open(PHOTO).convert("RGB")
    small = shrink(truth, SCALE)
    with running_host(env.host_source(environment), port=port) as server, server.client() as client:
        small.save(server.base / "adaptivesr_demo.png")
        after, seconds = upscale(client, prompt, server.base / "adaptivesr_demo.png", show_progress)
    if after.size != truth.size:
        raise StepError(
            f"The workflow gave {after.size[0]}x{after.size[1]} pixels, expected {truth.size[0]}x{truth.size[1]}."
        )
    result = report(truth, small, after, seconds, out)
    if as_json:
        say(as_line(result))
    return 0


def load_prompt(file: Path) -> Prompt:
    """The API-format workflow of the demo."""
    if not file.is_file():
        raise StepError(f"{file} is missing; `python dev.py workflows` writes it.")
    return json.loads(file.read_text(encoding="utf-8"))


def shrink(image: Image.Image, scale: int) -> Image.Image:
    """Antialiased bicubic reduction of an 8-bit image, as in the usual x4 benchmark."""
    return image.resize((image.width // scale, image.height // scale), Image.Resampling.BICUBIC)


def with_image(prompt: Prompt, name: str) -> Prompt:
    """The prompt with its LoadImage nodes reading another picture of the host's input folder."""
    changed = copy.deepcopy(prompt)
    for node_id in nodes_of_class(changed, "LoadImage"):
        changed[node_id]["inputs"]["image"] = name
    return changed


def upscale(client: Client, prompt: Prompt, file: Path, on_event: Callable[[Event], None]) -> tuple[Image.Image, float]:
    """Runs the prompt on a picture; returns the first picture that it saves and the seconds from queueing to the end."""
    name = client.upload_image(file)
    started = time.monotonic()
    run = client.run(with_image(prompt, name), on_event=on_event)
    seconds = time.monotonic() - started
    if not run.succeeded:
        raise StepError(f"The workflow failed: {run.error}")
    saved = [
        image for node in nodes_of_class(prompt, "SaveImage") for image in run.outputs.get(node, {}).get("images", [])
    ]
    if not saved:
        raise StepError("The workflow ran, but saved no picture.")
    return Image.open(io.BytesIO(client.image(saved[0]))).convert("RGB"), seconds


def show_progress(event: Event) -> None:
    """Prints a line when a node starts and for each step that it announces."""
    if event.kind == "executing" and event.data.get("node"):
        say(f"  node {event.data['node']} runs")
    elif event.kind == "progress":
        say(f"  node {event.data['node']}: {event.data['value']}/{event.data['max']}")


def report(truth: Image.Image, small: Image.Image, after: Image.Image, seconds: float, out: Path) -> DemoResult:
    """Saves the two pictures, measures both against the truth and prints the table."""
    before = small.resize(truth.size, Image.Resampling.BICUBIC)
    files = (out / "before.png").resolve(), (out / "after.png").resolve()
    before.save(files[0])
    after.save(files[1])
    bicubic, ours = psnr_y(before, truth), psnr_y(after, truth)
    say(f"upscaled {small.width}x{small.height} to {after.width}x{after.height} in {seconds:.1f} s")
    say("PSNR on luma against the photo (higher is better):")
    say(f"  bicubic     {bicubic:6.2f} dB   {files[0]}")
    say(f"  AdaptiveSR  {ours:6.2f} dB   {files[1]}   ({ours - bicubic:+.2f} dB)")
    return DemoResult(round(seconds, 3), round(ours, 4), round(bicubic, 4), str(files[0]), str(files[1]))


def as_line(result: DemoResult) -> str:
    """The result as one line of JSON."""
    return json.dumps(asdict(result))


def psnr_y(image: Image.Image, truth: Image.Image) -> float:
    """PSNR in dB on the luma channel, by pyiqa."""
    import pyiqa  # noqa: PLC0415  (seconds to import; not before the host has done its work)

    metric = pyiqa.create_metric("psnr", test_y_channel=True, color_space="ycbcr", device=torch.device("cpu"))
    return float(metric(_tensor(image), _tensor(truth)))


def _tensor(image: Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255.0)  # (H, W, 3)
    return pixels.movedim(2, 0)[None]  # (1, 3, H, W)
