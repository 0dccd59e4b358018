"""How far apart two pictures are in the strength of their detail, whatever its place: rings of the power spectrum."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = 1 / (12 * 255**2)
"""Variance of rounding to 8 bit: rings weaker than that are not told apart."""


def ring_powers(luma: Tensor, low: float, high: float = 0.5, rings: int = 16) -> Tensor:
    """Mean power spectral density of (N, 1, H, W) in [0, 1] on equal rings from low to high cycles per pixel, (N, rings).

    The mean is taken off and a Hann window put on, which keeps the picture's borders out. White noise of variance v has v on
    every ring. A ring without a frequency on it (a picture of a few pixels) has zero.
    """
    if not 0 <= low < high:
        raise ValueError(f"Rings from {low} to {high} cycles per pixel: expected 0 <= low < high.")
    height, width = luma.shape[-2:]
    columns = torch.hann_window(width, periodic=False, device=luma.device)
    window = torch.outer(torch.hann_window(height, periodic=False, device=luma.device), columns)
    centred = luma.float() - luma.float().mean((-2, -1), keepdim=True)
    power = torch.fft.fft2(centred * window).abs().square() / window.square().sum()  # (N, 1, H, W)
    across, down = (torch.fft.fftfreq(side, device=luma.device) for side in (width, height))
    ring = ((torch.hypot(down[:, None], across) - low) / (high - low) * rings).floor().long()
    inside = (ring >= 0) & (ring < rings)
    sums = power.new_zeros(len(luma), rings).index_add(1, ring[inside], power[:, 0][:, inside])
    return sums / ring[inside].bincount(minlength=rings).clamp_min(1)


def spectrum_difference(luma: Tensor, truth: Tensor, low: float, high: float = 0.5, rings: int = 16) -> Tensor:
    """Power of luma over the truth's on each ring in dB, (N, rings): below zero is softer, above zero is busier."""
    ours, theirs = (ring_powers(picture, low, high, rings) + ROUNDING for picture in (luma, truth))
    return 10 * torch.log10(ours / theirs)


def spectrum_distance(luma: Tensor, truth: Tensor, low: float, high: float = 0.5, rings: int = 16) -> Tensor:
    """Mean magnitude of `spectrum_difference` in dB, (N,); 0 for equal spectra, whatever the phases.

    Grain of the right strength has a small distance too, so this says nothing without a measure of fidelity beside it.
    """
    return spectrum_difference(luma, truth, low, high, rings).abs().mean(1)
