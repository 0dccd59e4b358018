"""What every stepper must make of a Gaussian: amplitudes and variances per mode, and the distance to the truth."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor


def karras(steps: int, high: float = 20.0, low: float = 0.02, rho: float = 7.0) -> list[float]:
    """`steps` falling sigmas and 0 (Karras et al. 2022, eq. 5)."""
    ends = high ** (1 / rho), low ** (1 / rho)
    return [(ends[0] + i / max(1, steps - 1) * (ends[1] - ends[0])) ** rho for i in range(steps)] + [0.0]


def sampled_variance(variance: Tensor, sigmas: Sequence[float], stepper: str = "euler") -> Tensor:
    """Variances of modes (n,) after a run over these sigmas that started from x0 + sigma n.

    With k = c / (c + a^2), a step a -> b of Euler multiplies a mode by k + (1 - k) b / a. The ancestral step goes to
    b^2 / a instead and adds b^2 (a^2 - b^2) / a^2, which is DDPM's posterior too.
    """
    if stepper == "dpmpp_2m":
        return _second_order(variance, sigmas)
    found = variance + sigmas[0] ** 2
    for a, b in pairwise(sigmas):
        k = variance / (variance + a**2)
        noisy = stepper in ("euler_ancestral", "ddpm")
        ratio = (b / a) ** 2 if noisy else b / a
        found = found * (k + (1 - k) * ratio).square()
        if noisy:
            found = found + b**2 * (a**2 - b**2) / a**2
    return found


def _second_order(variance: Tensor, sigmas: Sequence[float]) -> Tensor:
    """DPM-Solver++(2M): the last prediction extrapolates the next by half of the ratio of steps in log sigma."""
    value, before, length = torch.ones_like(variance), None, 0.0
    for a, b in pairwise(sigmas):
        clean = value * variance / (variance + a**2)
        step = torch.tensor(a / b).double().log().item() if b > 0 else 0.0
        used = clean if before is None or b == 0 else clean + step / (2 * length) * (clean - before)
        value, before, length = value * (b / a) + used * (1 - b / a), clean, step
    return value.square() * (variance + sigmas[0] ** 2)


def distance(sampled: Tensor, truth: Tensor) -> float:
    """W2^2 per cell of two Gaussians that share their modes: mean of (sqrt v - sqrt c)^2."""
    return float((sampled.sqrt() - truth.sqrt()).square().mean())
