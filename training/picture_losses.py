"""Losses against the true picture: fidelity and sharpness."""

from __future__ import annotations

from torch import Tensor

from .sharpness import gradient_energy


def charbonnier(prediction: Tensor, target: Tensor, eps: float = 0.01) -> Tensor:
    """mean sqrt(d^2 + eps^2) - eps: absolute error with a smooth foot."""
    return ((prediction - target).square() + eps**2).sqrt().mean() - eps


def energy_loss(prediction: Tensor, target: Tensor, floor: float = 1e-3) -> Tensor:
    """Mean absolute log ratio of local gradient energies (our addition): 0 where both are equally sharp.

    Pixels (B, 3, H, W) in [-1, 1]. The floor keeps flat windows, where the ratio is noise, out of it.
    """
    return ((gradient_energy(prediction) + floor) / (gradient_energy(target) + floor)).log().abs().mean()
