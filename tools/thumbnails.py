"""Pictures of the example workflows for the template browser: parts of their graphs in the real front end.

Graphs that need no files beyond the pack run first and show what came out. The others, whose published weights are not at
hand, are shown before a run: what small random networks make of a photo would tell nothing true.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .demo import PHOTO, shrink
from .env import chromium
from .env import environment as env
from .env.page import browser, drop, open_frontend, run, show
from .env.server import running_host
from .env.steps import StepError, say
from .examples.parts import FRONTEND_NOTE, PICTURE, RESULT, UPSCALE
from .small_models.stand_ins import model_files, put_stand_ins

SIDE = 512
"""The template browser's cards are square."""
BAND = 72
"""Rows of the title."""
LARGEST = 60_000
"""Bytes of a file."""
FRAME = (320, 120, 1024, 1024)
VIEW = (1700, 1300)
SHOWN = (340, 140, 984, 850)
"""Part of the page without menus; the page; where in that part the groups stand, above the title."""
TRAINS = ("AdaptiveSRTrain", "AdaptiveSRDistill")


def write(folder: Path, source: Path) -> None:
    """Makes <workflow>.jpg beside every workflow file, with the host of `source`."""
    program = chromium.find()
    if program is None:
        raise StepError("Thumbnails need a Chromium: install one, or put it into the PATH.")
    files = sorted(folder.glob("*.json"))
    prompts = {file.stem: json.loads((folder / "api" / file.name).read_text(encoding="utf-8")) for file in files}

    def prepare(base: Path) -> None:
        put_stand_ins(prompts.values(), base)
        shrink(Image.open(PHOTO).convert("RGB"), 4).save(base / "input" / "example.png")
        settings = base / "user" / "default" / "comfy.settings.json"
        settings.parent.mkdir(parents=True)
        settings.write_text('{"Comfy.TutorialCompleted": true}', encoding="utf-8")

    with running_host(source, prepare=prepare) as server, browser(program) as opened:
        page = opened.new_page(viewport={"width": VIEW[0], "height": VIEW[1]})
        open_frontend(page, server.url)
        for file in files:
            drop(page, file)
            prompt = prompts[file.stem]
            trains = any(node["class_type"].startswith(TRAINS) for node in prompt.values())
            if model_files([prompt]) or trains:
                show(page, (PICTURE, UPSCALE), SHOWN)
            else:
                end = run(page, 300)
                if end["kind"] != "execution_success":
                    raise StepError(f"{file.name} did not finish: {end}")
                show(page, (UPSCALE, RESULT), SHOWN)
            clip = dict(zip(("x", "y", "width", "height"), FRAME))
            picture = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
            target = file.with_suffix(".jpg")
            target.write_bytes(as_jpeg(titled(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), heading(file))))
            say(f"wrote {target.relative_to(env.ROOT)}")


def heading(file: Path) -> str:
    """The first line of the workflow's Read me, up to a colon."""
    nodes = json.loads(file.read_text(encoding="utf-8"))["nodes"]
    read_me = next(node["widgets_values"][0] for node in nodes if node["type"] == FRONTEND_NOTE)
    return read_me.splitlines()[0].lstrip("# ").split(":")[0]


def titled(picture: Image.Image, text: str) -> Image.Image:
    """The picture with a line of text in a band at its lower end, as large as fits."""
    band = ImageDraw.Draw(picture)
    band.rectangle((0, SIDE - BAND, SIDE, SIDE), fill=(16, 18, 24))
    size = 40
    while band.textlength(text, font=ImageFont.load_default(size)) > SIDE - 40:
        size -= 1
    font = ImageFont.load_default(size)
    band.text((SIDE / 2, SIDE - BAND / 2), text, font=font, fill=(240, 240, 245), anchor="mm")
    return picture


def as_jpeg(picture: Image.Image) -> bytes:
    """The best quality that stays below LARGEST bytes."""
    for quality in (90, 85, 80, 70, 60, 50, 40):
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=quality, optimize=True)
        if data.tell() < LARGEST:
            break
    return data.getvalue()
