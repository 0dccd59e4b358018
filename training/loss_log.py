"""The losses of a run: a table in a file, and a picture."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .atomic import replace_file

HEAD = "step", "name", "value"
COLORS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14))
LEFT, TOP, BOTTOM, PLOT_HEIGHT, WIDTH = 70, 22, 18, 110, 640


class LossLog:
    """Named numbers per step, from step 1 on; a name may be absent at some steps."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self._written: tuple[Path, int, int] | None = None  # file, its rows, its bytes

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        self.rows.append((step, dict(numbers)))

    def series(self, name: str) -> list[tuple[int, float]]:
        """(step, value) of one number."""
        return [(step, numbers[name]) for step, numbers in self.rows if name in numbers]

    @property
    def names(self) -> list[str]:
        """In the order of their first appearance."""
        return list(dict.fromkeys(name for _, numbers in self.rows for name in numbers))

    def save(self, path: Path) -> None:
        """Writes `step,name,value` lines; into a file of its own that nobody changed it adds the new rows only."""
        rows = 0
        if self._written is not None and self._written[0] == path and path.is_file():
            _, rows, size = self._written
            rows = rows if path.stat().st_size == size and rows <= len(self.rows) else 0
        if rows:
            with path.open("a", newline="", encoding="utf-8") as file:
                self._write(file, rows)
        else:
            replace_file(path, self._write_whole)
        self._written = path, len(self.rows), path.stat().st_size

    def _write_whole(self, path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(HEAD)
            self._write(file, 0)

    def _write(self, file: TextIO, first: int) -> None:
        rows = self.rows[first:]
        csv.writer(file).writerows((step, name, repr(value)) for step, row in rows for name, value in row.items())

    def load(self, path: Path, up_to: int) -> None:
        """Reads what `save` wrote, up to a step, in place of what is held; lines that a killed run tore are left out."""
        rows: dict[int, dict[str, float]] = {}
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            for line in csv.reader(part.replace("\0", "") for part in file):
                with suppress(ValueError):
                    step, name, value = line
                    if 1 <= int(step) <= up_to:
                        rows.setdefault(int(step), {})[name] = float(value)
        self.rows = sorted(rows.items())
        self._written = None

    def picture(self) -> Tensor:
        """One curve per number, each over its own range, (1, 3, H, W) in [0, 1]."""
        names = self.names or ["no step was taken"]
        height = len(names) * (TOP + PLOT_HEIGHT + BOTTOM)
        image = Image.new("RGB", (WIDTH, height), "white")
        draw = ImageDraw.Draw(image)
        for index, name in enumerate(names):
            _curve(draw, index * (TOP + PLOT_HEIGHT + BOTTOM), name, self.series(name), COLORS[index % len(COLORS)])
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 255


def smoothed(values: list[float], window: int) -> list[float]:
    """Mean of the last `window` values at each place."""
    return [sum(values[max(0, i + 1 - window) : i + 1]) / min(i + 1, window) for i in range(len(values))]


def _curve(
    draw: ImageDraw.ImageDraw, top: int, name: str, points: list[tuple[int, float]], color: tuple[int, int, int]
) -> None:
    """The values in grey and their running mean in color."""
    draw.text((LEFT, top + 5), name, fill=color)
    frame = (LEFT, top + TOP, WIDTH - 12, top + TOP + PLOT_HEIGHT)
    draw.rectangle(frame, outline=(200, 200, 200))
    values = [value for _, value in points if math.isfinite(value)]
    if not values:
        return
    low, high = min(values), max(values)
    spread = high - low or 1.0
    first, last = points[0][0], points[-1][0]

    def place(step: int, value: float) -> tuple[float, float]:
        x = frame[0] + (step - first) / max(last - first, 1) * (frame[2] - frame[0])
        return x, frame[3] - 4 - (value - low) / spread * (PLOT_HEIGHT - 8)

    draw.text((4, frame[1]), f"{high:.4g}", fill=(90, 90, 90))
    draw.text((4, frame[3] - 12), f"{low:.4g}", fill=(90, 90, 90))
    draw.text((frame[0], frame[3] + 3), f"step {first}", fill=(90, 90, 90))
    draw.text((frame[2] - 70, frame[3] + 3), f"step {last}", fill=(90, 90, 90))
    steps = [step for step, _ in points]
    means = smoothed([value for _, value in points], max(1, len(points) // 20))
    for line, shade, width in ((points, (210, 210, 210), 1), (list(zip(steps, means)), color, 2)):
        dots = [place(step, value) for step, value in line]
        if len(dots) > 1:
            draw.line(dots, fill=shade, width=width)
        else:
            draw.ellipse((dots[0][0] - 2, dots[0][1] - 2, dots[0][0] + 2, dots[0][1] + 2), fill=shade)
