"""Residual shift written as an ordinary variance-exploding denoiser, so that any sampler for those can run it (ours).

With x = (1 - eta) x0 + eta y + kappa sqrt(eta) n (ResShift, eq. 2) put u = (x - eta y) / (1 - eta). Then u = x0 + sigma n with
sigma = kappa sqrt(eta) / (1 - eta), and SinSR's deterministic chain (its eq. 6) is Euler's method in u: it keeps n and
changes eta. ResShift's stochastic posterior is not that of a variance-exploding process.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sqrt_eta_of_sigma(sigma: Tensor, kappa: float) -> Tensor:
    """Solves sigma = kappa s / (1 - s^2) for s = sqrt(eta) in [0, 1); sigma >= 0 of any shape."""
    # the root with its conjugate multiplied out, since sqrt(kappa^2 + 4 sigma^2) - kappa cancels at small sigma
    return 2 * sigma / (kappa + torch.sqrt(kappa**2 + 4 * sigma.square()))


def sigma_of_sqrt_eta(sqrt_eta: Tensor, kappa: float) -> Tensor:
    """sigma = kappa sqrt(eta) / (1 - eta)."""
    return kappa * sqrt_eta / (1 - sqrt_eta.square())


def fractional_index(value: Tensor, table: Tensor) -> Tensor:
    """Position of value (B,) in the rising table (T,): linear between entries, held at the ends."""
    upper = torch.searchsorted(table, value).clamp(1, len(table) - 1)  # (B,)
    low, high = table[upper - 1], table[upper]
    return (upper - 1 + (value - low) / (high - low)).clamp(0, len(table) - 1)


def entry_at(index: Tensor, table: Tensor) -> Tensor:
    """Inverse of fractional_index: table (T,) at positions index (B,), linear between entries."""
    place = index.clamp(0, len(table) - 1)
    low = place.floor().long()
    return torch.lerp(table[low], table[(low + 1).clamp_max(len(table) - 1)], place - low)
