"""Reference for the checks: coefficients of jumps t -> s over any number of steps of a variance-preserving chain, in float64.

The pack takes the same jumps in sigma space (`sampling.adaptive.steppers.ddpm` and `euler`). a and b are the cumulated alphas of
t and s; b = 1 stands for "finish" and makes the result x0 (AdaDiffSR, section 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...sampling.schedules import Table


@dataclass(frozen=True)
class AncestralJump:
    """z' = x0_factor x0 + z_factor z + sqrt(variance) n, or with mean z_factor_eps z + eps_factor eps; equal shapes."""

    x0_factor: Table
    z_factor: Table
    variance: Table
    z_factor_eps: Table
    eps_factor: Table


@dataclass(frozen=True)
class ImplicitJump:
    """z' = x0_factor x0 + eps_factor eps + noise_factor n; equal shapes."""

    x0_factor: Table
    eps_factor: Table
    noise_factor: Table


def ancestral_jump(a: Table, b: Table) -> AncestralJump:
    """The posterior q(z_s | z_t, x0), skipped steps marginalised (Ho et al. 2020, eqs. 6-7, with alpha = a / b)."""
    alpha = a / b
    beta = 1.0 - alpha
    return AncestralJump(
        x0_factor=np.sqrt(b) * beta / (1.0 - a),
        z_factor=np.sqrt(alpha) * (1.0 - b) / (1.0 - a),
        variance=beta * (1.0 - b) / (1.0 - a),
        z_factor_eps=1.0 / np.sqrt(alpha),
        eps_factor=-beta / np.sqrt(alpha * (1.0 - a)),
    )


def implicit_jump(a: Table, b: Table, eta: float) -> ImplicitJump:
    """DDIM (Song et al. 2021, eqs. 12 and 16); eta = 1 is the ancestral jump, eta = 0 has no noise."""
    noise = eta * np.sqrt((1.0 - b) / (1.0 - a) * (1.0 - a / b))
    # 1 - b - noise^2 with the cancellation at eta = 1 carried out by hand
    rest = (1.0 - eta**2) * (1.0 - b) + eta**2 * (1.0 - b) ** 2 * a / (b * (1.0 - a))
    return ImplicitJump(np.sqrt(b), np.sqrt(rest), noise)


def grid_timesteps(entries: int = 200, timesteps: int = 1000) -> tuple[int, ...]:
    """The timesteps of the grid, least noise first: j (T - 1) / (n - 1), halves to even (AdaDiffSR, section 3.3)."""
    if entries < 2:
        raise ValueError(f"A grid of timesteps has at least 2 entries, got {entries}.")
    return tuple(round(j * (timesteps - 1) / (entries - 1)) for j in range(entries))


def grid_jumps(
    intervals: Sequence[int] = (5, 10, 15, 20), entries: int = 200, timesteps: int = 1000
) -> tuple[int, ...]:
    """Intervals in timesteps as jumps on the grid, at least 1, halves to even."""
    return tuple(max(1, round(interval * entries / timesteps)) for interval in intervals)


def ancestral_codebook(alphas_cumprod: Table, grid: Sequence[int], jumps: Sequence[int]) -> AncestralJump:
    """Tables (n, jumps) for grid entry j and jump d to entry j - d: -1 finishes, NaN where a jump goes further.

    `alphas_cumprod` is (T,), least noise first.
    """
    # entry -1 is "finish"; an index below it is looked up anywhere and blanked
    known = np.append(alphas_cumprod[np.asarray(grid)], 1.0)
    targets = np.arange(len(grid))[:, None] - np.asarray(jumps)[None]  # (n, jumps)
    a = np.broadcast_to(known[:-1, None], targets.shape)
    b = np.where(targets >= -1, known[np.maximum(targets, -1)], np.nan)
    table = ancestral_jump(a, b)
    return AncestralJump(**{name: np.where(targets >= -1, value, np.nan) for name, value in vars(table).items()})
