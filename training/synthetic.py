"""Deterministic synthetic training images: dead leaves with texture, strokes, lines, text, lighting and optics.

Occluding shapes with power-law sizes give natural images' edge and scale statistics (Lee, Mumford & Huang 2001;
Achddou et al. 2021 for restoration). Image i of a seed is always the same: its generator is keyed by (seed, i).
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont

from .textures import COUNT, FloatArray, texture_window

SIZE = 320
GREY_SHARE, TEXT_SHARE, FIELD_SHARE, LINES_SHARE = 0.12, 0.22, 0.3, 0.35
WORDS = "the quick Scale 0123456789 resolution light of and Image 42 northern house GATE red Street 1998 a market"
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def blurred(image: npt.NDArray[np.floating], sigma: float) -> FloatArray:
    """Gaussian blur of a (H, W) or (H, W, 3) array, deviation in pixels."""
    from kornia.filters import gaussian_blur2d  # noqa: PLC0415  a node imports this module, and kornia takes over a second

    planes = image if image.ndim == 3 else image[..., None]
    tensor = torch.from_numpy(planes.transpose(2, 0, 1).copy())[None]
    kernel = 2 * math.ceil(2.5 * sigma) + 1
    result = gaussian_blur2d(tensor, (kernel, kernel), (sigma, sigma), border_type="replicate")[0]
    return result.numpy().transpose(1, 2, 0).reshape(image.shape)


@lru_cache(maxsize=1)
def font_files() -> tuple[str, ...]:
    """DejaVu text fonts that matplotlib carries, or none, in which case Pillow's own font is used."""
    try:
        from matplotlib import get_data_path  # noqa: PLC0415 - optional
    except ImportError:
        return ()
    folder = Path(get_data_path()) / "fonts" / "ttf"
    return tuple(str(path) for path in sorted(folder.glob("DejaVu*.ttf")) if "Display" not in path.name)


@lru_cache(maxsize=256)
def _font(index: int, size: int) -> Font:
    files = font_files()
    return ImageFont.truetype(files[index % len(files)], size) if files else ImageFont.load_default(size)


def random_colour(rng: np.random.Generator) -> FloatArray:
    """RGB (3,) in [0, 1]: any lightness, mostly low chroma as in photographs."""
    chroma = rng.normal(0, 1, 3) * (0.3 if rng.random() < 0.2 else 0.08)
    return np.clip(rng.beta(1.1, 1.2) + chroma - chroma.mean(), 0, 1).astype(np.float32)


def _outline(rng: np.random.Generator, radius: float) -> npt.NDArray[np.float64]:
    """Vertices (n, 2) around the origin: ellipse, polygon, turned rectangle or smooth blob."""
    kind, aspect, turn = rng.integers(4), rng.uniform(0.25, 1), rng.uniform(0, 2 * math.pi)
    if kind == 0:
        angles, r = np.linspace(0, 2 * math.pi, 48, endpoint=False), np.ones(48)
    elif kind == 1:
        angles = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(3, 8))))
        r = rng.uniform(0.6, 1.3, len(angles))
    elif kind == 2:
        angles, r = np.arange(4) * math.pi / 2 + math.pi / 4, np.full(4, 1.2)
    else:
        angles = np.linspace(0, 2 * math.pi, 64, endpoint=False)
        r = 1 + sum(rng.normal(0, 0.25 / k) * np.cos(k * angles + rng.uniform(0, 6.28)) for k in range(1, 6))
    x, y = radius * r * np.cos(angles), aspect * radius * r * np.sin(angles)
    if kind == 2 and rng.random() < 0.5:
        turn = rng.normal(0, 0.03)  # buildings and screens stand upright
    return np.stack([x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)], 1)


def _fill(rng: np.random.Generator, height: int, width: int, field: bool) -> FloatArray:
    """Surface (height, width, 3): colour, light gradient, texture and an always-on fine 1/f grain."""
    surface = np.empty((height, width, 3), np.float32)
    surface[:] = random_colour(rng)
    gy, gx = rng.normal(0, 0.12, 2)
    surface += (np.linspace(-gy, gy, height)[:, None] + np.linspace(-gx, gx, width)[None])[..., None].astype(np.float32)
    tint = (1 + rng.normal(0, 0.25, 3)).astype(np.float32)
    if field or rng.random() < 0.6:
        strength = np.float32(
            rng.uniform(0.06, 0.2) if field else math.exp(rng.uniform(math.log(0.01), math.log(0.12)))
        )
        index = int(rng.choice([5, 6, 7])) + 8 * int(rng.integers(COUNT // 8)) if field else None
        surface += texture_window(rng, height, width, index)[..., None] * (strength * tint)
    if rng.random() < 0.85:
        grain = 8 * int(rng.integers(COUNT // 8)) + int(rng.integers(2))  # the two noise kinds
        surface += texture_window(rng, height, width, grain)[..., None] * np.float32(rng.uniform(0.006, 0.05))
    return surface


def _paste(canvas: FloatArray, mask: Image.Image, left: int, top: int, fill: FloatArray, softness: float) -> None:
    """Blends fill into canvas in place through a mask drawn at twice the size."""
    alpha = np.asarray(mask.reduce(2), np.float32) / 255
    if softness > 0:
        alpha = blurred(alpha, softness)
    h, w = alpha.shape
    window = canvas[top : top + h, left : left + w]
    window += alpha[..., None] * (fill - window)


def _leaf(rng: np.random.Generator, canvas: FloatArray, radius: float, field: bool) -> None:
    size = canvas.shape[0]
    points = _outline(rng, radius) + rng.uniform(0, size, 2)
    softness = rng.uniform(0.4, 2.5) if rng.random() < 0.3 else 0.0
    margin = 2 + math.ceil(3 * softness)
    left, top = (max(int(v), 0) for v in points.min(0) - margin)
    right, bottom = (min(int(v) + 1, size) for v in points.max(0) + margin)
    if right - left < 4 or bottom - top < 4:
        return
    mask = Image.new("L", (2 * (right - left), 2 * (bottom - top)))
    ImageDraw.Draw(mask).polygon([(2 * (x - left), 2 * (y - top)) for x, y in points], fill=255)
    _paste(canvas, mask, left, top, _fill(rng, bottom - top, right - left, field), softness)


def _lines(rng: np.random.Generator, canvas: FloatArray) -> None:
    """Thin bent lines: wires, twigs, cracks, rims."""
    size = canvas.shape[0]
    for _ in range(int(rng.integers(2, 9))):
        mask = Image.new("L", (2 * size, 2 * size))
        start, angle = rng.uniform(0, 2 * size, 2), rng.uniform(0, 2 * math.pi)
        bend, step = rng.normal(0, 0.06), rng.uniform(8, 40)
        angles = angle + bend * np.arange(20)
        path = start + np.cumsum(np.stack([np.cos(angles), np.sin(angles)], 1) * step, 0)
        ImageDraw.Draw(mask).line([(float(x), float(y)) for x, y in path], 255, int(rng.integers(1, 9)), joint="curve")
        _paste(canvas, mask, 0, 0, random_colour(rng)[None, None], 0.0)


def _text(rng: np.random.Generator, canvas: FloatArray, page: bool) -> None:
    size, words = canvas.shape[0], WORDS.split()
    if page:
        canvas[:] = canvas * np.float32(0.15) + np.float32(rng.uniform(0.6, 0.85))
    for _ in range(1 if page else int(rng.integers(1, 4))):
        points = int(math.exp(rng.uniform(math.log(8), math.log(24 if page else 60))))
        font, lines = _font(int(rng.integers(64)), 2 * points), (size // points if page else int(rng.integers(1, 4)))
        text = "\n".join(" ".join(rng.choice(words, int(rng.integers(2, 9 if page else 4)))) for _ in range(lines))
        mask = Image.new("L", (2 * size, 2 * size))
        corner = rng.uniform(0, 0.2 if page else 1.4, 2) * size
        ImageDraw.Draw(mask).multiline_text((float(corner[0]), float(corner[1])), text, fill=255, font=font)
        if rng.random() < 0.4:
            mask = mask.rotate(float(rng.normal(0, 4 if page else 15)), Image.Resampling.BICUBIC)
        ink = random_colour(rng) * np.float32(0.2) if page else random_colour(rng)
        _paste(canvas, mask, 0, 0, ink[None, None], 0.0)


def _optics(rng: np.random.Generator, image: FloatArray) -> FloatArray:
    """Lighting, local defocus, lens blur, sometimes sharpening, tone, grey, a trace of sensor noise."""
    size = image.shape[0]
    if rng.random() < 0.5:
        light = blurred(texture_window(rng, size // 8, size // 8, 8), 2.0)
        soft = Image.fromarray(light).resize((size, size), Image.Resampling.BICUBIC)
        image = image * (1 + np.float32(rng.uniform(0.1, 0.5)) * np.asarray(soft, np.float32)[..., None])
    if rng.random() < 0.2:
        slope = np.linspace(rng.uniform(-2, 0.5), rng.uniform(0.5, 3), size, dtype=np.float32)
        falling: FloatArray = slope if rng.random() < 0.5 else slope[::-1]
        weight: FloatArray = np.clip(falling, 0, 1)[:, None, None]
        image = image + (weight * (blurred(image, rng.uniform(1, 4)) - image)).astype(np.float32, copy=False)
    if rng.random() < 0.75:
        image = blurred(image, rng.triangular(0.3, 0.5, 1.5))
    if rng.random() < 0.15:
        image = image + np.float32(rng.uniform(0.2, 0.6)) * (image - blurred(image, 1.0))
    if rng.random() < GREY_SHARE:
        image = np.repeat(image @ np.array([[0.299], [0.587], [0.114]], np.float32), 3, axis=2)
    gain, gamma = rng.uniform(0.8, 1.2), math.exp(rng.normal(-0.1, 0.25))
    image = np.clip(image * np.float32(gain), 0, 1) ** np.float32(gamma)
    if rng.random() < 0.3:
        image = image + rng.normal(0, rng.uniform(0.3, 1.5) / 255, image.shape).astype(np.float32)
    return image


def synthetic_image(seed: int, index: int, size: int = SIZE) -> npt.NDArray[np.uint8]:
    """Training image `index` of `seed`: (size, size, 3) RGB, 8 bit; size at most 384."""
    rng = np.random.default_rng((seed, index))
    field_image = rng.random() < FIELD_SHARE
    canvas = _fill(rng, size, size, field_image)
    smallest, count = math.exp(rng.uniform(math.log(3), math.log(16))), int(rng.integers(15, 110))
    if field_image:
        count //= 4
    # Density ~ r^-2.5 between smallest and half the frame: inverse transform of r^-1.5.
    low, high = smallest**-1.5, (0.5 * size) ** -1.5
    radii = (low + rng.random(count) * (high - low)) ** (-1 / 1.5)
    radii = np.concatenate([rng.uniform(0.1, 0.45, int(rng.integers(2, 9))) * size, radii])
    for radius in rng.permutation(radii):
        _leaf(rng, canvas, float(radius), rng.random() < 0.15)
    if rng.random() < LINES_SHARE:
        _lines(rng, canvas)
    if rng.random() < TEXT_SHARE:
        _text(rng, canvas, page=rng.random() < 0.3)
    return np.clip(_optics(rng, canvas) * 255 + 0.5, 0, 255).astype(np.uint8)
