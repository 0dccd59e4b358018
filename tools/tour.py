"""`dev.py tour`: the screenshots of docs/tour.md and of every node's help page, taken from the real page."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page

from .env import environment as env
from .env.chromium import find
from .env.page import browser, drop, open_frontend, run, show
from .env.server import Server, running_host
from .env.steps import StepError, say

FOLDER = env.ROOT / "docs" / "tour"
HELP = env.ROOT / "web" / "docs"
ALONE = """(type) => {
    for (const other of [...app.graph.nodes]) app.graph.remove(other);  // ids go on: the page keeps values by id
    const node = LiteGraph.createNode(type);
    node.pos = [0, 0];
    app.graph.add(node);
    app.canvas.ds.scale = 1;
    [app.canvas.ds.offset[0], app.canvas.ds.offset[1]] = [160, 120];
    app.canvas.setDirty(true, true);
    return node.id;
}"""
COLORS = 64
"""A node has few colours; a palette keeps its picture small."""
PHOTO = Path(__file__).resolve().parent / "demo_photo" / "astronaut.png"
WIDTH, QUALITY = 1500, 85
SETTINGS = {
    "Comfy.TutorialCompleted": True,  # no welcome dialog over the canvas
    "Comfy.VueNodes.Enabled": True,  # "Nodes 2.0": what new users see, and the only one with a slider in Image Compare
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
}
SECONDS = 300


@dataclass(frozen=True)
class Stop:
    """A picture of the tour: a workflow that has run, in the page."""

    name: str
    workflow: str
    size: tuple[int, int] = (2100, 1150)


STOPS = (Stop("one_step_sr", "one_step_sr"), Stop("adadiffsr_embedded", "adadiffsr_embedded"))


def main(argv: list[str]) -> int:
    """Takes every picture anew, or those of the nodes that are named by their ids."""
    program = find()
    if program is None:
        raise StepError("The tour needs Chromium or Chrome, and none was found; install one.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with running_host(env.host_source(env.ensure_environment()), prepare=prepare) as server, browser(program) as opened:
        for stop in () if argv else STOPS:
            page = opened.new_page(viewport={"width": stop.size[0], "height": stop.size[1]})
            open_frontend(page, server.url)
            drop(page, env.ROOT / "workflows" / f"{stop.workflow}.json")
            end = run(page, SECONDS)
            if end["kind"] != "execution_success":
                raise StepError(f"{stop.workflow} ended with {end['kind']}: {end.get('detail')}")
            save(page, stop)
            page.close()
        take_nodes(opened, server, argv)
    return 0


def take_nodes(opened: Browser, server: Server, chosen: list[str]) -> None:
    """A picture of every node, or of the chosen ones, as it comes onto the canvas."""
    page = opened.new_page(viewport={"width": 1000, "height": 1600})
    open_frontend(page, server.url)
    with server.client() as client:
        ours = sorted(name for name in client.object_info() if name.startswith("AdaptiveSR"))
    foreign = [name for name in chosen if name not in ours]
    if foreign:
        raise StepError(f"There is no node {foreign[0]}; there are: {', '.join(ours)}.")
    for name in chosen or ours:
        node = page.locator(f"[data-node-id='{page.evaluate(ALONE, name)}']").first
        node.wait_for(timeout=20_000)
        page.wait_for_timeout(400)
        picture = Image.open(io.BytesIO(node.screenshot())).convert("RGB")
        picture.quantize(COLORS).save(HELP / f"{name}.png", optimize=True)
    say(f"wrote {len(chosen or ours)} pictures of nodes below {HELP.relative_to(env.ROOT)}")


def prepare(base: Path) -> None:
    """The picture that workflows load, and the page's settings."""
    Image.open(PHOTO).convert("RGB").resize((128, 128), Image.Resampling.BICUBIC).save(base / "input" / "example.png")
    settings = base / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(SETTINGS), encoding="utf-8")


def save(page: Page, stop: Stop) -> None:
    """Fits the graph into the window and stores what is seen."""
    show(page)
    page.wait_for_timeout(2000)
    path = FOLDER / f"{stop.name}.jpg"
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    shot.resize((WIDTH, round(shot.height * WIDTH / shot.width)), Image.Resampling.LANCZOS).save(path, quality=QUALITY)
    say(f"wrote {path.relative_to(env.ROOT)}")
