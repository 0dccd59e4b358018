"""Pictures of a region report: a heat map with a number on every region and a colour scale, alone or over an image.

Where gains decided, the classes of a region's calls stand below its number.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...imaging.heatmap import colorize, overlay, paint
from ...imaging.tiles import Region

LONGEST_SIDE = 1024
MOST_REGIONS, LARGEST_CANVAS, MOST_STEPS = 4096, 16384, 10**6
"""More regions cannot be told apart in a picture of that size."""
SCALE_HEIGHT, MARGIN = 44, 12
LINE_DISTANCE = 22
"""Pixels from the middle of a region's number to that of its line of classes."""
PAPER, INK = (24, 24, 28), (240, 240, 240)


def read_report(text: str) -> dict[str, Any]:
    """Parses the report as Tiled Region Sampler wrote it. Raises ValueError with a sentence for anything else."""
    try:
        report = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"The report is not JSON ({str(error)[:80]}): expected the report output of Tiled Region Sampler."
        ) from error
    if not isinstance(report, dict) or not {"canvas", "regions", "steps_per_region"} <= set(report):
        raise ValueError(
            "The report has no regions: expected the report output of Tiled Region Sampler; connect that one."
        )
    if not _is_whole(report):
        raise ValueError(
            f"The report's numbers do not belong together: expected a canvas, at most {MOST_REGIONS} regions on it and the steps of each "
            "region for each image, as Tiled Region Sampler writes them; connect its report output."
        )
    return report


def _is_whole(report: dict[str, Any]) -> bool:
    """Whether sizes, regions and steps are whole numbers of a run, and as many as each other."""
    canvas, regions, images = report["canvas"], report["regions"], report["steps_per_region"]
    if not (
        _whole_numbers(canvas, 2) and min(canvas) > 0 and max(canvas) <= LARGEST_CANVAS and isinstance(regions, list)
    ):
        return False
    on_it = all(
        _whole_numbers(part, 4)
        and min(part) >= 0
        and min(part[2:]) > 0
        and part[0] + part[2] <= canvas[0]
        and part[1] + part[3] <= canvas[1]
        for part in regions
    )
    counted = isinstance(images, list) and all(
        _whole_numbers(steps, len(regions)) and min(steps) >= 0 for steps in images
    )
    classes = report.get("classes") or []
    steps = _whole_numbers([report.get("steps")], 1) and 0 <= report["steps"] <= MOST_STEPS
    named = (
        isinstance(classes, list)
        and len(classes) in (0, len(images))
        and all(
            isinstance(line, list) and len(line) == len(regions) and all(isinstance(word, str) for word in line)
            for line in classes
        )
    )
    return bool(0 < len(regions) <= MOST_REGIONS and on_it and counted and images and steps and named)


def _whole_numbers(values: object, count: int) -> bool:
    return isinstance(values, list) and len(values) == count and all(type(value) is int for value in values)


def region_map(report: dict[str, Any], image: Tensor | None = None, opacity: float = 0.45) -> Tensor:
    """Paints an IMAGE (B, H, W, 3): steps per region in colours and numbers, with a scale below; over `image` (B, H, W, 3) if given."""
    regions = [Region(*rectangle) for rectangle in report["regions"]]
    steps: list[list[int]] = report["steps_per_region"]
    high = max(max(map(max, steps)), int(report["steps"]))
    pictures: list[Tensor] = []
    for index in range(len(steps) if image is None else len(image)):
        values = steps[index % len(steps)]
        colors = colorize(paint(values, regions, *report["canvas"]), 0, high)
        base = None if image is None else image[index, ..., :3].cpu().float()
        classes = report["classes"][index % len(steps)] if report.get("classes") else None
        picture = colors if base is None else overlay(base, colors, opacity)
        pictures.append(_annotated(picture, regions, values, report["canvas"], high, classes, sharp=base is None))
    return torch.stack(pictures)


def _annotated(
    picture: Tensor,
    regions: list[Region],
    values: list[int],
    canvas: list[int],
    high: int,
    classes: list[str] | None,
    *,
    sharp: bool,
) -> Tensor:
    """Returns the picture (H, W, 3) at a size on which numbers can be read, with them and with the scale: (H', W', 3)."""
    source = Image.fromarray((picture.clamp(0, 1).numpy() * 255).round().astype(np.uint8))
    width, height = source.size
    factor = LONGEST_SIDE / max(width, height)
    if sharp or factor < 1:
        kind = Image.Resampling.NEAREST if sharp else Image.Resampling.LANCZOS
        source = source.resize((max(1, round(width * factor)), max(1, round(height * factor))), kind)
    sheet = Image.new("RGB", (max(source.width, 160), source.height + SCALE_HEIGHT), PAPER)
    sheet.paste(source, (0, 0))
    draw = ImageDraw.Draw(sheet)
    scale = source.width / canvas[1], source.height / canvas[0]
    _numbers(draw, regions, values, scale)
    if classes is not None:
        _class_lines(draw, regions, classes, scale)
    _scale(sheet, draw, source.height, high)
    return torch.from_numpy(np.asarray(sheet, dtype=np.float32) / 255)


def _numbers(draw: ImageDraw.ImageDraw, regions: list[Region], values: list[int], scale: tuple[float, float]) -> None:
    for region, value in zip(regions, values):
        middle = (region.x + region.width / 2) * scale[0], (region.y + region.height / 2) * scale[1]
        font = ImageFont.load_default(int(max(8, min(28, region.width * scale[0] / 5))))
        draw.text(middle, str(value), fill=INK, font=font, anchor="mm", stroke_width=2, stroke_fill=PAPER)


def _class_lines(
    draw: ImageDraw.ImageDraw, regions: list[Region], classes: list[str], scale: tuple[float, float]
) -> None:
    """Writes a line below the number of every region where it fits between the neighbours' numbers and lines."""
    font = ImageFont.load_default(11)
    room = _spacing([region.x for region in regions], regions[0].width) * scale[0]
    if _spacing([region.y for region in regions], regions[0].height) * scale[1] < LINE_DISTANCE * 2:
        return
    for region, line in zip(regions, classes):
        if draw.textlength(line, font) > min(room, region.width * scale[0] * 0.7):
            continue
        middle = (region.x + region.width / 2) * scale[0], (region.y + region.height / 2) * scale[1] + LINE_DISTANCE
        draw.text(middle, line, fill=INK, font=font, anchor="mm", stroke_width=1, stroke_fill=PAPER)


def _spacing(starts: list[int], alone: int) -> int:
    """Cells between the closest neighbours along an axis; `alone` for a single one."""
    places = sorted(set(starts))
    return min((b - a for a, b in pairwise(places)), default=alone)


def _scale(sheet: Image.Image, draw: ImageDraw.ImageDraw, top: int, high: int) -> None:
    """Draws a bar of the map's colours with the numbers of its ends and middle."""
    length = sheet.width - 2 * MARGIN
    bar = colorize(torch.linspace(0, high, length), 0, high).expand(12, length, 3)
    sheet.paste(Image.fromarray((bar.numpy() * 255).round().astype(np.uint8)), (MARGIN, top + 6))
    font = ImageFont.load_default(14)
    for share, anchor in ((0.0, "la"), (0.5, "ma"), (1.0, "ra")):
        number = f"{high * share:g}" + (" steps" if share == 1.0 else "")
        draw.text((MARGIN + share * length, top + 22), number, fill=INK, font=font, anchor=anchor)
