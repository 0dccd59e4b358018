"""Pictures of the example workflows for the template browser.

Graphs that need no files beyond the pack run, and their cards show what came out, up close. The others, whose published weights are
not at hand, show the nodes that upscale, before a run: what small random networks make of a photo would tell nothing true. A band
says the template's name and which files it needs.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .demo import PHOTO, shrink
from .env import chromium
from .env import environment as env
from .env.client import Client, Prompt, nodes_of_class
from .env.page import browser, drop, open_frontend, show
from .env.server import running_host
from .env.steps import StepError, say
from .examples import WORKFLOWS
from .examples.parts import UPSCALE
from .small_models.stand_ins import model_files, put_stand_ins

SIDE = 512
"""The template browser's cards are square."""
BAND = 112
"""Rows below the picture: the name, and what it needs."""
LARGEST = 60_000
"""Bytes of a file."""
PICTURE_SIZE = SIDE, SIDE - BAND
FRAME = (320, 120, 1024, 800)
VIEW = (1700, 1300)
SHOWN = (340, 140, 984, 760)
"""Part of the page without menus; the page; where in that part the nodes stand."""
TRAINS = ("AdaptiveSRTrain", "AdaptiveSRDistill")
CLOSE = (0.02, 0.0, 0.72, 0.547)
"""What is shown of the photo: left, top, right, bottom as shares, with the shape of PICTURE_SIZE."""
FREE, NEEDS = (126, 211, 150), (232, 190, 110)
"""Colours of "no download" and of the number of files."""


def write(folder: Path, source: Path) -> None:
    """Makes <workflow>.jpg beside every workflow file, with the host of `source`."""
    program = chromium.find()
    if program is None:
        raise StepError("Thumbnails need a Chromium: install one, or put it into the PATH.")
    prompts: Mapping[str, Prompt] = {
        workflow.name: json.loads((folder / "api" / f"{workflow.name}.json").read_text(encoding="utf-8"))
        for workflow in WORKFLOWS
    }
    small = shrink(Image.open(PHOTO).convert("RGB"), 4)

    def prepare(base: Path) -> None:
        put_stand_ins(prompts.values(), base)
        small.save(base / "input" / "example.png")
        settings = base / "user" / "default" / "comfy.settings.json"
        settings.parent.mkdir(parents=True)
        settings.write_text('{"Comfy.TutorialCompleted": true}', encoding="utf-8")

    with running_host(source, prepare=prepare) as server, browser(program) as opened, server.client() as client:
        page = opened.new_page(viewport={"width": VIEW[0], "height": VIEW[1]})
        open_frontend(page, server.url)
        for workflow in WORKFLOWS:
            prompt = prompts[workflow.name]
            files = len(model_files([prompt]))
            if files or any(node["class_type"].startswith(TRAINS) for node in prompt.values()):
                drop(page, folder / f"{workflow.name}.json")
                show(page, (UPSCALE,), SHOWN)
                clip = dict(zip(("x", "y", "width", "height"), FRAME))
                picture = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
                picture = picture.resize(PICTURE_SIZE, Image.Resampling.LANCZOS)
            else:
                picture = what_came_out(client, prompt, small)
            target = folder / f"{workflow.name}.jpg"
            target.write_bytes(as_jpeg(card(picture, workflow.title, files)))
            say(f"wrote {target.relative_to(env.ROOT)}")


def what_came_out(client: Client, prompt: Prompt, small: Image.Image) -> Image.Image:
    """Two halves: the picture before and after; or after, and the map of its steps; scores alone where there are some."""
    done = client.run(prompt, timeout=600)
    if not done.succeeded:
        raise StepError(f"A workflow for a thumbnail did not finish: {done.error}")

    def shown(node_id: str) -> Image.Image:
        return Image.open(io.BytesIO(client.image(done.outputs[node_id]["images"][0]))).convert("RGB")

    if scores := nodes_of_class(prompt, "AdaptiveSRImageQuality"):
        bars = next(key for key, node in prompt.items() if node["inputs"].get("images") == [scores[0], 2])
        return fitted(shown(bars))
    (saved,) = nodes_of_class(prompt, "SaveImage")
    after = close(shown(saved))
    if maps := nodes_of_class(prompt, "PreviewImage"):
        return halves(after, close(shown(maps[0])))
    return halves(close(small.resize((SIDE, SIDE), Image.Resampling.NEAREST)), after)


def close(picture: Image.Image) -> Image.Image:
    """The part of a picture of the photo that is shown; what stands below its square, a scale, is left out."""
    side = picture.width
    left, top, right, bottom = (round(side * share) for share in CLOSE)
    return picture.crop((left, top, right, bottom)).resize(PICTURE_SIZE, Image.Resampling.LANCZOS)


def fitted(picture: Image.Image) -> Image.Image:
    """The whole picture on the card."""
    picture.thumbnail(PICTURE_SIZE, Image.Resampling.LANCZOS)
    sheet = Image.new("RGB", PICTURE_SIZE, (24, 24, 28))
    sheet.paste(picture, ((PICTURE_SIZE[0] - picture.width) // 2, (PICTURE_SIZE[1] - picture.height) // 2))
    return sheet


def halves(one: Image.Image, other: Image.Image) -> Image.Image:
    """The left half of one picture, the right half of the other, and a line between them."""
    width, height = PICTURE_SIZE
    joined = one.copy()
    joined.paste(other.crop((width // 2, 0, width, height)), (width // 2, 0))
    ImageDraw.Draw(joined).line((width // 2, 0, width // 2, height), fill=(244, 244, 242), width=3)
    return joined


def card(picture: Image.Image, title: str, files: int) -> Image.Image:
    """The picture above a band with the name, as large as fits, and what the template needs."""
    made = Image.new("RGB", (SIDE, SIDE), (16, 18, 24))
    made.paste(picture, (0, 0))
    band = ImageDraw.Draw(made)
    size = 40
    while band.textlength(title, font=ImageFont.load_default(size)) > SIDE - 32:
        size -= 1
    middle = SIDE - BAND
    band.text((SIDE / 2, middle + 36), title, font=ImageFont.load_default(size), fill=(240, 240, 245), anchor="mm")
    needs = f"{files} file{'s' * (files > 1)}" if files else "no download"
    color = NEEDS if files else FREE
    band.text((SIDE / 2, middle + 84), needs, font=ImageFont.load_default(28), fill=color, anchor="mm")
    return made


def as_jpeg(picture: Image.Image) -> bytes:
    """The best quality that stays below LARGEST bytes."""
    for quality in (90, 85, 80, 70, 60, 50, 40):
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=quality, optimize=True)
        if data.tell() < LARGEST:
            break
    return data.getvalue()
