"""Grey texture maps for the synthetic images: noise, grain, gratings, weave, gravel and fields of strokes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

FloatArray: TypeAlias = npt.NDArray[np.float32]
SIZE = 384
COUNT = 48
ATLAS_SEED = 20261120


def normalised(field: npt.NDArray[np.floating]) -> FloatArray:
    """Zero mean and unit deviation, tails limited to three deviations."""
    centred = (field - field.mean()) / (field.std() + 1e-6)
    return np.clip(centred, -3, 3).astype(np.float32)


def power_noise(rng: np.random.Generator, size: int, exponent: float, stretch: float = 1.0) -> FloatArray:
    """Gaussian noise with amplitude spectrum 1 / f^exponent, drawn out along a random direction by stretch."""
    fy, fx = np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij")
    angle = rng.uniform(0, math.pi)
    u, v = fx * math.cos(angle) + fy * math.sin(angle), fy * math.cos(angle) - fx * math.sin(angle)
    radius = np.sqrt((u * stretch) ** 2 + (v / stretch) ** 2) + 1.5 / size
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) / radius**exponent
    return normalised(np.fft.irfft2(spectrum, s=(size, size)))


def _noise(rng: np.random.Generator) -> FloatArray:
    return power_noise(rng, SIZE, rng.uniform(0.5, 1.6))


def _grain(rng: np.random.Generator) -> FloatArray:
    return power_noise(rng, SIZE, rng.uniform(0.7, 1.5), rng.uniform(1.8, 5.0))


def _grating(rng: np.random.Generator) -> FloatArray:
    yy, xx = np.mgrid[0:SIZE, 0:SIZE]
    angle, period = rng.uniform(0, math.pi), math.exp(rng.uniform(math.log(4), math.log(40)))
    warp = power_noise(rng, SIZE, 2.0) * rng.uniform(0, 2.0)
    phase = 2 * math.pi * (xx * math.cos(angle) + yy * math.sin(angle)) / period + warp
    return normalised(np.tanh(rng.uniform(0.5, 4) * np.sin(phase)) + 0.3 * power_noise(rng, SIZE, 1.0))


def _weave(rng: np.random.Generator) -> FloatArray:
    yy, xx = np.mgrid[0:SIZE, 0:SIZE]
    angle, px, py = rng.uniform(0, math.pi), rng.uniform(5, 40), rng.uniform(5, 40)
    warp = power_noise(rng, SIZE, 2.0) * rng.uniform(0, 0.6)
    u = np.sin(2 * math.pi * (xx * math.cos(angle) + yy * math.sin(angle)) / px + warp)
    v = np.sin(2 * math.pi * (yy * math.cos(angle) - xx * math.sin(angle)) / py + warp)
    pattern = np.minimum(np.tanh(3 * u + 2), np.tanh(3 * v + 2)) if rng.random() < 0.5 else u * v
    return normalised(pattern + rng.uniform(0.2, 0.8) * power_noise(rng, SIZE, rng.uniform(0.5, 1.2)))


def _gravel(rng: np.random.Generator) -> FloatArray:
    scale = 2
    image = Image.new("L", (SIZE * scale, SIZE * scale), 90)
    draw = ImageDraw.Draw(image)
    radius = rng.uniform(2, 14) * scale
    for _ in range(int(3.0 * (SIZE * scale / radius) ** 2 / math.pi)):
        x, y = rng.uniform(-radius, SIZE * scale + radius, 2)
        sides, r, level = int(rng.integers(5, 9)), radius * rng.uniform(0.4, 1.4), int(rng.integers(50, 210))
        angles = np.sort(rng.uniform(0, 2 * math.pi, sides))
        points = [(x + r * math.cos(a), y + r * math.sin(a)) for a in angles]
        draw.polygon(points, fill=max(level - 45, 0))
        draw.polygon([(px - 0.15 * r, py - 0.15 * r) for px, py in points], fill=level)
    return normalised(np.asarray(image.reduce(scale), np.float32) + 18 * power_noise(rng, SIZE, 0.7))


def _strokes(rng: np.random.Generator) -> FloatArray:
    """Hair, fur or grass: bent strokes that follow a smooth direction field, later ones lighter on average."""
    scale, size = 2, SIZE * 2
    image = Image.new("L", (size, size), 60)
    draw = ImageDraw.Draw(image)
    spread, length = rng.uniform(0.05, 0.6), rng.uniform(10, 70) * scale
    width = max(1, round(rng.uniform(0.5, 2.2) * scale))
    turn = power_noise(rng, 64, 2.2) * rng.uniform(0.1, 0.7) + rng.uniform(0, 2 * math.pi)
    count = int(2.2 * size * size / (length * width))
    starts = rng.uniform(-length / 2, size, (count, 2))
    jitter, bend, tone = rng.normal(0, spread, count), rng.normal(0, 0.3, count), rng.uniform(0, 1, (count, 2))
    for i, (x, y) in enumerate(starts):
        cell = turn[int(np.clip(y * 64 / size, 0, 63)), int(np.clip(x * 64 / size, 0, 63))]
        points = [(x, y)]
        for part in range(3):
            a = cell + jitter[i] + bend[i] * part
            points.append((points[-1][0] + math.cos(a) * length / 3, points[-1][1] + math.sin(a) * length / 3))
        draw.line(points, fill=int(30 + 110 * tone[i, 0] + 90 * tone[i, 1] * i / count), width=width)
    return normalised(np.asarray(image.reduce(scale), np.float32))


KINDS: tuple[Callable[[np.random.Generator], FloatArray], ...] = (
    _noise, _noise, _grain, _grating, _weave, _gravel, _strokes, _strokes,
)  # fmt: skip


@lru_cache(maxsize=COUNT)
def texture_map(index: int) -> FloatArray:
    """Map `index` of COUNT, (SIZE, SIZE), zero mean and unit deviation, of kind index % 8; made when first asked for."""
    return KINDS[index % len(KINDS)](np.random.default_rng((ATLAS_SEED, 7, index)))


def texture_window(rng: np.random.Generator, height: int, width: int, index: int | None = None) -> FloatArray:
    """A random (height, width) window of a random map, randomly mirrored, turned and, one time in three, magnified."""
    tile = texture_map(int(rng.integers(COUNT)) if index is None else index)
    if rng.random() < 0.5:
        tile = tile.T
    if rng.random() < 0.5:
        tile = tile[::-1]
    if rng.random() < 0.33 and max(height, width) < SIZE // 2:
        factor = rng.uniform(1.0, 2.0)
        h, w = math.ceil(height / factor) + 1, math.ceil(width / factor) + 1
        top, left = int(rng.integers(SIZE - h)), int(rng.integers(SIZE - w))
        part = Image.fromarray(np.ascontiguousarray(tile[top : top + h, left : left + w]))
        return np.asarray(part.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    top, left = int(rng.integers(SIZE - height + 1)), int(rng.integers(SIZE - width + 1))
    return tile[top : top + height, left : left + width]
