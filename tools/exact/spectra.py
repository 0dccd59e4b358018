"""Variances of the modes of a stationary area, and the orthonormal modes of a square region."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Spectrum = Callable[[Tensor], Tensor]
"""Frequencies in cycles per cell -> variances of modes, equal shapes."""


def flat(frequency: Tensor) -> Tensor:
    """Nearly nothing: 1e-6 / f."""
    return 1e-6 / frequency


def soft(frequency: Tensor) -> Tensor:
    """Out of focus: 2e-3, falling as f^-4 above 0.05."""
    return 2e-3 * (frequency / 0.05).pow(-4).clamp(max=1)


def texture(frequency: Tensor) -> Tensor:
    """Fine structure that the input does not tell: 0.05 up to half of the highest frequency, then falling as f^-1."""
    return 0.05 * (frequency / 0.25).pow(-1).clamp(max=1)


SPECTRA: Mapping[str, Spectrum] = {"flat": flat, "soft": soft, "texture": texture}


def frequencies(size: int) -> Tensor:
    """|f| (size, size) of the modes of a periodic region; the mean counts as half of the lowest frequency."""
    axis = torch.fft.fftfreq(size, dtype=torch.float64)
    return torch.hypot(axis[:, None], axis[None]).clamp(min=0.5 / size)


def modes(size: int) -> Tensor:
    """Orthonormal real modes (size^2, size^2) of a periodic region, one a row: cos + sin of 2 pi (u x + v y) / size."""
    at = torch.arange(size, dtype=torch.float64)
    y, x = (grid.flatten() for grid in torch.meshgrid(at, at, indexing="ij"))
    phase = (2 * math.pi / size) * (torch.outer(y, y) + torch.outer(x, x)).remainder(size)
    return (phase.cos() + phase.sin()) / size
