"""Mild degradations, 8 bit in and out: blur, antialiased bicubic reduction by four, noise, JPEG."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from kornia.filters import gaussian_blur2d
from PIL import Image

Pixels = npt.NDArray[np.uint8]
SCALE = 4
CLEAN_SHARE = 0.35


@dataclass(frozen=True)
class Degradation:
    """Blur deviations (rows, columns) in HR pixels, noise deviation in 8-bit levels, JPEG quality; 0 leaves a part out."""

    blur: tuple[float, float] = (0.0, 0.0)
    noise: float = 0.0
    jpeg_quality: int = 0
    area: bool = False


CLEAN = Degradation()


def reduce_image(image: Pixels, *, area: bool = False) -> Pixels:
    """(H, W, 3) to (H/4, W/4, 3), Pillow's antialiased bicubic or box filter."""
    height, width = image.shape[0] // SCALE, image.shape[1] // SCALE
    filter_kind = Image.Resampling.BOX if area else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(image).resize((width, height), filter_kind))


def jpeg(image: Pixels, quality: int) -> Pixels:
    """Through Pillow's JPEG codec and back."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def to_levels(image: npt.NDArray[np.floating]) -> Pixels:
    """Rounds to 8 bit."""
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def blur(image: Pixels, sigma: tuple[float, float]) -> Pixels:
    """Gaussian blur with deviations (rows, columns) in pixels."""
    tensor = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))[None]  # (1, 3, H, W)
    sizes = (2 * math.ceil(3 * sigma[0]) + 1, 2 * math.ceil(3 * sigma[1]) + 1)
    return to_levels(gaussian_blur2d(tensor, sizes, sigma, border_type="reflect")[0].numpy().transpose(1, 2, 0))


def degrade(image: Pixels, how: Degradation, rng: np.random.Generator) -> Pixels:
    """LR image (H/4, W/4, 3) of an (H, W, 3) image whose sides are multiples of four."""
    if image.shape[0] % SCALE or image.shape[1] % SCALE:
        raise ValueError(f"image is {image.shape[:2]}, expected multiples of {SCALE}: crop it first")
    if min(how.blur) > 0.05:
        image = blur(image, how.blur)
    low = reduce_image(image, area=how.area)
    if how.noise > 0:
        low = to_levels(low + rng.normal(0, how.noise, low.shape))
    return jpeg(low, how.jpeg_quality) if how.jpeg_quality else low


def random_degradation(rng: np.random.Generator) -> Degradation:
    """The training mixture without its clean share, which `CLEAN` is."""
    rows = float(rng.uniform(0, 2.2))
    columns = float(rng.uniform(0, 2.2)) if rng.random() < 0.3 else rows
    noise = float(rng.uniform(0.5, 10)) if rng.random() < 0.7 else 0.0
    quality = int(rng.integers(55, 97)) if rng.random() < 0.6 else 0
    return Degradation((rows, columns), noise, quality, bool(rng.random() < 0.2))
