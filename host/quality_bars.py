"""A picture of measured scores: a bar and a number for every image and metric."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..imaging.metrics.quality import Score
from .quality import Measured, number

PAPER, INK, DIM, TRACK = (24, 24, 28), (240, 240, 240), (150, 150, 158), (52, 52, 60)
BAR, BEST = (70, 130, 180), (80, 190, 130)
WIDTH, MARGIN, LABELS, NUMBERS = 768, 20, 150, 92
HEAD, ROW, GAP = 34, 28, 14
MOST_IMAGES = 12
"""Above this a metric has three bars: mean, least, greatest."""


def bars(measured: Measured) -> Tensor:
    """IMAGE (1, H, 768, 3)."""
    all_scores = [entry.beside(other) for entry, other in zip(measured.scores, measured.others)]
    groups = [(entry, _rows(entry, measured.labels)) for entry in all_scores]
    notes = [f"left out: {name}, {reason}" for name, reason in measured.left_out.items()]
    height = 2 * MARGIN + sum(HEAD + ROW * len(rows) + GAP for _, rows in groups) + ROW * len(notes)
    sheet = Image.new("RGB", (WIDTH, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    for entry, rows in groups:
        _heading(draw, top, entry)
        top += HEAD
        low, high = _ends(entry)
        for label, value, is_best in rows:
            _bar(draw, top, label, value, (low, high), is_best=is_best)
            top += ROW
        top += GAP
    for note in notes:
        draw.text(
            (MARGIN, top + ROW / 2), _fitting(draw, note, WIDTH - 2 * MARGIN, 14), fill=DIM, font=_font(14), anchor="lm"
        )
        top += ROW
    return torch.from_numpy(np.asarray(sheet, dtype=np.float32) / 255)[None]


def _rows(entry: Score, labels: Sequence[str]) -> list[tuple[str, float | None, bool]]:
    """(label, value, whether it is the best) of every bar."""
    if len(labels) <= MOST_IMAGES:
        return [(label, value, index == entry.best) for index, (label, value) in enumerate(zip(labels, entry.values))]
    finite = [value for value in entry.values if value is not None]
    least, greatest = min(finite, default=None), max(finite, default=None)
    return [("mean", entry.mean, False), ("least", least, False), ("greatest", greatest, False)]


def _ends(entry: Score) -> tuple[float, float]:
    """Values at the left and the right end of the bars: the metric's usual limits, made wider by what lies outside."""
    finite = [value for value in entry.values if value is not None]
    low = min([0.0 if entry.low is None else entry.low, *finite])
    high = max([value for value in (entry.high, *finite) if value is not None], default=low)
    return low, high if high > low else low + 1.0


def _heading(draw: ImageDraw.ImageDraw, top: int, entry: Score) -> None:
    """The metric's name, and an arrow up where more is better, down where less is."""
    middle = top + HEAD / 2
    draw.text((MARGIN, middle), entry.name, fill=INK, font=_font(20), anchor="lm")
    x = MARGIN + draw.textlength(entry.name, _font(20)) + 18
    way = 1 if entry.lower_is_better else -1
    draw.polygon([(x - 6, middle - 3 * way), (x + 6, middle - 3 * way), (x, middle + 6 * way)], fill=DIM)
    words = "lower is better" if entry.lower_is_better else "higher is better"
    draw.text((x + 14, middle), words, fill=DIM, font=_font(14), anchor="lm")
    low, high = _ends(entry)
    draw.text((WIDTH - MARGIN, middle), f"bars from {low:.3g} to {high:.3g}", fill=DIM, font=_font(14), anchor="rm")


def _bar(
    draw: ImageDraw.ImageDraw,
    top: int,
    label: str,
    value: float | None,
    ends: tuple[float, float],
    *,
    is_best: bool,
) -> None:
    middle = top + ROW / 2
    draw.text((MARGIN, middle), _fitting(draw, label, LABELS - 10, 16), fill=INK, font=_font(16), anchor="lm")
    left, right = MARGIN + LABELS, WIDTH - MARGIN - NUMBERS
    draw.rounded_rectangle((left, top + 5, right, top + ROW - 5), 4, fill=TRACK)
    if value is not None:
        share = (value - ends[0]) / (ends[1] - ends[0])
        end = left + max(4.0, share * (right - left))
        draw.rounded_rectangle((left, top + 5, end, top + ROW - 5), 4, fill=BEST if is_best else BAR)
    draw.text((WIDTH - MARGIN, middle), number(value), fill=BEST if is_best else INK, font=_font(16), anchor="rm")


def _fitting(draw: ImageDraw.ImageDraw, text: str, width: float, size: int) -> str:
    """The text, shortened with dots to a width in pixels."""
    if draw.textlength(text, _font(size)) <= width:
        return text
    while text and draw.textlength(text + "...", _font(size)) > width:
        text = text[:-1]
    return text + "..."


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
