"""`dev.py tour`: the screenshots of docs/tour.md, taken from the real page while the shipped workflows run."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from . import environment as env
from .chromium import find
from .page import chromium, drop, open_page, run
from .server import running_host
from .steps import StepError, say

FOLDER = env.ROOT / "docs" / "tour"
PHOTO = Path(__file__).resolve().parent / "demo_photo" / "astronaut.png"
WIDTH, QUALITY = 1500, 85
SETTINGS = {
    "Comfy.TutorialCompleted": True,  # no welcome dialog over the canvas
    "Comfy.VueNodes.Enabled": True,  # "Nodes 2.0": what new users see, and the only one with a slider in Image Compare
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
}
SECONDS = 300.0


@dataclass(frozen=True)
class Stop:
    """A picture of the tour: a workflow that has run, in the page."""

    name: str
    workflow: str
    size: tuple[int, int] = (2100, 1150)


STOPS = (Stop("one_step_sr", "one_step_sr"),)


def main(argv: list[str]) -> int:
    """Takes every picture anew."""
    if argv:
        raise SystemExit(f"tour takes no arguments, got {' '.join(argv)}")
    browser = find()
    if browser is None:
        raise StepError("The tour needs Chromium or Chrome, and none was found; install one.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with running_host(env.host_source(env.ensure_environment()), prepare=prepare) as server, chromium(browser) as opened:
        for stop in STOPS:
            page = open_page(opened, server.url, *stop.size)
            drop(page, env.ROOT / "workflows" / f"{stop.workflow}.json")
            end = run(page, SECONDS)
            if end["kind"] != "execution_success":
                raise StepError(f"{stop.workflow} ended with {end['kind']}: {end.get('detail')}")
            save(page, stop)
            page.close()
    return 0


def prepare(base: Path) -> None:
    """The picture that workflows load, and the page's settings."""
    Image.open(PHOTO).convert("RGB").resize((128, 128), Image.Resampling.BICUBIC).save(base / "input" / "example.png")
    settings = base / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(SETTINGS), encoding="utf-8")


def save(page: Any, stop: Stop) -> None:
    """Fits the graph into the window and stores what is seen."""
    page.keyboard.press(".")  # the page's own "fit view"
    page.wait_for_timeout(2500)
    path = FOLDER / f"{stop.name}.jpg"
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    shot.resize((WIDTH, round(shot.height * WIDTH / shot.width)), Image.Resampling.LANCZOS).save(path, quality=QUALITY)
    say(f"wrote {path.relative_to(env.ROOT)}")
