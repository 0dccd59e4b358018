"""Noise keyed by what it is for, never by the order in which it is drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from ..imaging.transfer import upload


def generator_for(*key: int) -> torch.Generator:
    """A CPU generator whose state depends on all numbers of the key, e.g. (seed, step)."""
    # Hashed, since seed + step would give (7, 1) and (8, 0) the same noise.
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator(device="cpu").manual_seed(int.from_bytes(digest, "big") >> 1)


def gaussian_field(
    shape: Sequence[int],
    *,
    seed: int,
    step: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normal noise of (seed, step), the same on every device.

    `shape` is (C, h, w), without the batch: every image of a batch gets the same field, whatever the batch size.
    """
    # Drawn on the CPU in float32: other devices and dtypes have generators of their own.
    return upload(torch.randn(tuple(shape), generator=generator_for(seed, step)), device, dtype)


NOISE_CELL = 64
"""Side of the squares that `gaussian_region` draws."""


def gaussian_region(channels: int, top: int, left: int, height: int, width: int, *, seed: int, step: int = 0) -> Tensor:
    """Standard normal noise (channels, height, width) of a rectangle of an endless canvas, keyed by (seed, step) and by where it lies.

    Rectangles that overlap have the same noise there, whatever their sizes: a canvas can be sampled in parts that never meet in one memory.
    It is another noise than `gaussian_field`'s, whose every value depends on the size of the whole canvas.
    """
    field = torch.empty(channels, height, width)
    for row in range(top // NOISE_CELL, (top + height - 1) // NOISE_CELL + 1):
        for column in range(left // NOISE_CELL, (left + width - 1) // NOISE_CELL + 1):
            cell = torch.randn(channels, NOISE_CELL, NOISE_CELL, generator=generator_for(seed, step, row, column))
            y, x = row * NOISE_CELL - top, column * NOISE_CELL - left
            ys, xs = slice(max(0, y), min(height, y + NOISE_CELL)), slice(max(0, x), min(width, x + NOISE_CELL))
            field[:, ys, xs] = cell[:, ys.start - y : ys.stop - y, xs.start - x : xs.stop - x]
    return field
