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
