"""Pairs from a folder of photographs: crops at random reductions, and cut-outs with transparency pasted on them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ...training.image_folder import image_files
from ...training.synthetic import SIZE
from .degrade_mild import CLEAN, Pixels, degrade, random_degradation
from .pool import VARIANTS

log = logging.getLogger("adaptivesr")
CUTOUT_SHARE = 0.05
SMALLEST_REDUCTION, LARGEST_REDUCTION = 1.4, 3.5  # a JPEG file's own pixels are soft and carry its blocks
FLAT = 5.0  # summed mean luma differences to the right and to below, 8 bit; flatter crops are drawn anew
TRIES = 6
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
FILTERS = (Image.Resampling.LANCZOS, Image.Resampling.BICUBIC)


def sorted_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Photographs (at least SIZE pixels on a side, opaque) and cut-outs (with an alpha channel) below folder."""
    photos, cutouts = [], []
    for path in sorted(image_files(folder)):
        with Image.open(path) as image:
            if image.mode in ("RGBA", "LA", "PA"):
                cutouts.append(path)
            elif min(image.size) >= SIZE:
                photos.append(path)
    return photos, cutouts


def busyness(image: Pixels) -> float:
    """Mean luma difference to the next pixel, both directions added."""
    luma = image.astype(np.float32) @ LUMA
    return float(np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean())


def random_crop(photo: Image.Image, rng: np.random.Generator) -> Pixels:
    """(SIZE, SIZE, 3): a square of the photo at a random reduction, the busiest of a few where all are flat."""
    best, score = None, -1.0
    most = min(LARGEST_REDUCTION, min(photo.size) / SIZE)
    for _ in range(TRIES):
        reduction = math.exp(rng.uniform(math.log(min(SMALLEST_REDUCTION, most)), math.log(most)))
        side = int(SIZE * reduction)
        left, top = (int(rng.integers(length - side + 1)) for length in photo.size)
        how = FILTERS[int(rng.integers(len(FILTERS)))]
        crop = np.asarray(photo.resize((SIZE, SIZE), how, box=(left, top, left + side, top + side)))
        if busyness(crop) > score:
            best, score = crop, busyness(crop)
        if score > FLAT:
            break
    assert best is not None
    return best


def with_cutouts(background: Pixels, cutouts: Sequence[Path], rng: np.random.Generator) -> Pixels:
    """Two to four cut-outs at random sizes and places, on the background or on one colour."""
    canvas = Image.fromarray(background)
    if rng.random() < 0.5:
        canvas.paste(tuple(int(value) for value in rng.integers(0, 256, 3)), (0, 0, SIZE, SIZE))
    for _ in range(int(rng.integers(2, 5))):
        piece = Image.open(cutouts[int(rng.integers(len(cutouts)))]).convert("RGBA")
        scale = max(0.35, min(float(rng.uniform(0.5, 1)), 1.2 * SIZE / max(piece.size)))
        piece = piece.resize((max(1, int(piece.width * scale)), max(1, int(piece.height * scale))), FILTERS[0])
        corner = [int(rng.integers(-side // 3, max(1, SIZE - side // 2))) for side in piece.size]
        canvas.paste(piece, (corner[0], corner[1]), piece)
    return np.asarray(canvas)


def build_photo_pool(folder: Path, source: Path, seed: int, count: int) -> None:
    """Writes hr.npy and lr.npy of count pictures from the files below source, as `build_pool` does; keeps finished files."""
    done, text = folder / "done.txt", f"{seed} {count}"
    if done.exists() and done.read_text() == text:
        return
    photos, cutouts = sorted_files(source)
    if not photos:
        raise ValueError(f"{source} holds no photograph of {SIZE} x {SIZE} pixels or more.")
    folder.mkdir(parents=True, exist_ok=True)
    shapes = {"hr": (count, SIZE, SIZE, 3), "lr": (count, VARIANTS, SIZE // 4, SIZE // 4, 3)}
    hr, lr = (
        np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.uint8, shape=shape)
        for name, shape in shapes.items()
    )
    plain = count if not cutouts else round(count * (1 - CUTOUT_SHARE))
    opened, photo = None, None
    for index in range(count):
        rng = np.random.default_rng((seed, index, 2))
        # In order of the files, so that each is decoded once.
        path = photos[(index * len(photos)) // plain if index < plain else int(rng.integers(len(photos)))]
        if path != opened or photo is None:
            opened, photo = path, Image.open(path).convert("RGB")
        image = random_crop(photo, rng)
        hr[index] = image if index < plain else with_cutouts(image, cutouts, rng)
        worse = [degrade(hr[index], random_degradation(rng), rng) for _ in range(VARIANTS - 1)]
        lr[index] = np.stack([degrade(hr[index], CLEAN, rng), *worse])
        if (index + 1) % 100 == 0:
            log.info("photographs %d of %d pictures", index + 1, count)
    done.write_text(text)
