"""Losses against the true picture: fidelity and sharpness."""

from __future__ import annotations

import torch
from torch import Tensor

from .sharpness import gradient_energy

WINDOW, STRIDE = 16, 8
LUMA = (0.299, 0.587, 0.114)


def charbonnier(prediction: Tensor, target: Tensor, eps: float = 0.01) -> Tensor:
    """mean sqrt(d^2 + eps^2) - eps: absolute error with a smooth foot."""
    return ((prediction - target).square() + eps**2).sqrt().mean() - eps


def energy_loss(prediction: Tensor, target: Tensor, floor: float = 1e-3) -> Tensor:
    """Mean absolute log ratio of local gradient energies (our addition): 0 where both are equally sharp.

    Pixels (B, 3, H, W) in [-1, 1]. The floor keeps flat windows, where the ratio is noise, out of it.
    """
    return ((gradient_energy(prediction) + floor) / (gradient_energy(target) + floor)).log().abs().mean()


def amplitude_loss(prediction: Tensor, target: Tensor, floor: float = 0.02) -> Tensor:
    """Mean absolute log ratio of amplitudes, frequency by frequency, in windows of luma that overlap (our addition).

    Pixels (B, 3, H, W) in [-1, 1]. Phases are free: detail need not lie where the target has it. Unlike `energy_loss` it
    cannot be met by a pattern of another frequency. White noise of deviation s has amplitudes about s; the floor is one.
    """
    found, wanted = (_amplitudes(pixels) + floor for pixels in (prediction, target))
    return (found / wanted).log().abs().mean()


def _amplitudes(pixels: Tensor) -> Tensor:
    """(B, windows, rows, columns) of pixels (B, 3, H, W)."""
    luma = (pixels * pixels.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1)
    windows = luma.unfold(1, WINDOW, STRIDE).unfold(2, WINDOW, STRIDE).flatten(1, 2)
    taper = torch.hann_window(WINDOW, device=pixels.device)
    taper = torch.outer(taper, taper)
    spectrum = torch.fft.rfft2((windows - windows.mean((-2, -1), keepdim=True)) * (taper / taper.square().sum().sqrt()))
    return (spectrum.real.square() + spectrum.imag.square() + 1e-12).sqrt()
