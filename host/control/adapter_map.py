"""The gates of a run as a picture: sites by timesteps in colours and numbers, after TASR's fig. 7."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...imaging.heatmap import colorize

WIDTH, ROW, MARGIN = 1024, 30, 16
LABELS, HEADER, CURVE, TIMES, SCALE = 110, 44, 150, 26, 52
"""Pixels of the column of site names, and of the rows of the title, the curve, the timesteps and the colour scale."""
PAPER, INK, FAINT, CURVE_INK = (24, 24, 28), (240, 240, 240), (110, 110, 118), (250, 239, 153)
MOST_COLUMNS = 60


@dataclass(frozen=True)
class _Grid:
    """Where columns and rows are: left and top edge, width of a column."""

    left: float
    top: float
    column: float

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Corners of a cell, whole pixels without gaps."""
        left, right = (round(self.left + edge * self.column) for edge in (column, column + 1))
        top = round(self.top + row * ROW)
        return left, top, right - 1, top + ROW - 1

    def middle(self, column: int) -> float:
        return self.left + (column + 0.5) * self.column


def adapter_map(summary: dict[str, Any]) -> Tensor:
    """IMAGE (1, H, W, 3) of `ControlRecord.summary`. ValueError if the run made and skipped no call."""
    if not summary["timesteps"]:
        raise ValueError(
            "No sampling run has used this CONTROL_NET since it was made: expected the CONTROL_NET of Time-Aware Adapter that the "
            "sampled conditioning was given, and that sampler's LATENT; queue once more if ComfyUI had freed it."
        )
    summary = thinned(summary)
    sites = summary["sites"] or {"all sites": [0.0] * len(summary["timesteps"])}
    top = HEADER + CURVE
    height = top + len(sites) * ROW + TIMES + SCALE
    sheet = Image.new("RGB", (WIDTH, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    grid = _Grid(LABELS, top, (WIDTH - LABELS - MARGIN) / len(summary["timesteps"]))
    high = 2.0 if max(map(max, sites.values())) > 1.0 else 1.0
    _title(draw, summary)
    _curve(draw, summary, sites, grid, high)
    _cells(draw, summary, sites, grid, high)
    _times(draw, summary["timesteps"], grid, top + len(sites) * ROW)
    _scale(sheet, draw, height - SCALE, high)
    return torch.from_numpy(np.asarray(sheet, dtype=np.float32) / 255)[None]


def thinned(summary: dict[str, Any]) -> dict[str, Any]:
    """The same with at most MOST_COLUMNS timesteps, evenly chosen, both ends kept."""
    times = summary["timesteps"]
    if len(times) <= MOST_COLUMNS:
        return summary
    kept = [round(i * (len(times) - 1) / (MOST_COLUMNS - 1)) for i in range(MOST_COLUMNS)]
    sites = {site: [values[i] for i in kept] for site, values in summary["sites"].items()}
    return {**summary, "timesteps": [times[i] for i in kept], "sites": sites}


def _title(draw: ImageDraw.ImageDraw, summary: dict[str, Any]) -> None:
    made, skipped = summary["calls"], summary["skipped"]
    text = f"Weight of the ControlNet over time: {made} call{'s' * (made != 1)} made, {skipped} skipped"
    draw.text((MARGIN, 12), text, fill=INK, font=ImageFont.load_default(20))


def _curve(draw: ImageDraw.ImageDraw, summary: dict[str, Any], sites: dict[str, Any], grid: _Grid, high: float) -> None:
    """The mean over sites, with lines at 0, the middle and the top."""
    font, bottom, room = ImageFont.load_default(14), HEADER + CURVE - 22, CURVE - 46
    for value in (0.0, high / 2, high):
        y = bottom - room * value / high
        draw.line((LABELS, y, WIDTH - MARGIN, y), fill=FAINT)
        draw.text((LABELS - 8, y), f"{value:g}", fill=INK, font=font, anchor="rm")
    draw.text((MARGIN, HEADER + 2), "mean", fill=INK, font=font)
    means = [sum(values) / len(values) for values in zip(*sites.values())]
    points = [(grid.middle(i), bottom - room * min(mean, high) / high) for i, mean in enumerate(means)]
    if len(points) > 1:
        draw.line(points, fill=CURVE_INK, width=3, joint="curve")
    for x, y in points:
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=CURVE_INK)


def _cells(draw: ImageDraw.ImageDraw, summary: dict[str, Any], sites: dict[str, Any], grid: _Grid, high: float) -> None:
    font, small = ImageFont.load_default(14), ImageFont.load_default(13)
    silent = set(summary["silent"])
    for row, (site, values) in enumerate(sites.items()):
        draw.text((LABELS - 8, grid.top + (row + 0.5) * ROW), site, fill=INK, font=font, anchor="rm")
        colors = (colorize(torch.tensor(values), 0.0, high) * 255).round().int().tolist()
        for column, (value, color) in enumerate(zip(values, colors)):
            box = grid.box(row, column)
            if summary["timesteps"][column] in silent:  # no call was made: nothing to colour
                draw.rectangle(box, fill=(40, 40, 46))
                draw.line((box[0], box[3], box[2], box[1]), fill=FAINT)
                continue
            draw.rectangle(box, fill=tuple(color))
            if grid.column >= 34:
                ink = PAPER if sum(color) > 330 else INK
                middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
                draw.text(middle, f"{value:.2f}", fill=ink, font=small, anchor="mm")


def _times(draw: ImageDraw.ImageDraw, timesteps: list[int], grid: _Grid, top: float) -> None:
    font, every = ImageFont.load_default(13), max(1, -(-36 // max(1, int(grid.column))))
    draw.text((LABELS - 8, top + TIMES / 2), "timestep", fill=INK, font=font, anchor="rm")
    for column in range(0, len(timesteps), every):
        draw.text((grid.middle(column), top + TIMES / 2), str(timesteps[column]), fill=INK, font=font, anchor="mm")


def _scale(sheet: Image.Image, draw: ImageDraw.ImageDraw, top: int, high: float) -> None:
    length = WIDTH - LABELS - MARGIN
    bar = colorize(torch.linspace(0, high, length), 0, high).expand(12, length, 3)
    sheet.paste(Image.fromarray((bar.numpy() * 255).round().astype(np.uint8)), (LABELS, top + 8))
    font = ImageFont.load_default(14)
    for share, anchor in ((0.0, "la"), (0.5, "ma"), (1.0, "ra")):
        draw.text((LABELS + share * length, top + 24), f"{high * share:g}", fill=INK, font=font, anchor=anchor)
    draw.text((LABELS - 8, top + 14), "weight", fill=INK, font=font, anchor="rm")
