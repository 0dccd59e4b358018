"""Noise schedules as float64 tables: residual shift (ResShift, Yue et al. 2023, sections 2.1-2.2) and Stable Diffusion's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Table: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class ResidualShiftSchedule:
    """Noise levels of q(x_t | x0, y) = N(x0 + eta_t (y - x0), kappa^2 eta_t I), least noise first.

    `timestep_map[i]` is the time index that the network is given at entry i. The tables are float64 arrays of shape (T,).
    """

    sqrt_etas: tuple[float, ...]
    kappa: float
    timestep_map: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.sqrt_etas) < 2 or len(self.sqrt_etas) != len(self.timestep_map):
            raise ValueError(
                f"A residual-shift schedule has at least 2 levels and one time index per level, got {len(self.sqrt_etas)} "
                f"levels and {len(self.timestep_map)} indices; for one step use the last entry of the full schedule."
            )
        levels = (0.0, *self.sqrt_etas, 1.0)
        if not all(low < high for low, high in pairwise(levels)):
            raise ValueError(f"sqrt_etas must rise strictly inside (0, 1), got {self.sqrt_etas}.")

    @property
    def num_steps(self) -> int:
        """T, the number of noise levels."""
        return len(self.sqrt_etas)

    @cached_property
    def etas(self) -> Table:
        """eta_t, the share of the residual y - x0 that is already shifted in."""
        return np.asarray(self.sqrt_etas, dtype=np.float64) ** 2

    @cached_property
    def etas_prev(self) -> Table:
        """eta_{t-1}, with eta_{-1} = 0."""
        return np.append(0.0, self.etas[:-1])

    @cached_property
    def alpha(self) -> Table:
        """alpha_t = eta_t - eta_{t-1} (ResShift, eq. 1)."""
        return self.etas - self.etas_prev

    @cached_property
    def posterior_variance(self) -> Table:
        """kappa^2 (eta_{t-1} / eta_t) alpha_t (ResShift, eq. 6)."""
        return self.kappa**2 * self.etas_prev / self.etas * self.alpha

    @cached_property
    def posterior_variance_clipped(self) -> Table:
        """The posterior variance with entry 0, which is zero, replaced by entry 1."""
        return np.append(self.posterior_variance[1], self.posterior_variance[1:])

    @cached_property
    def posterior_log_variance_clipped(self) -> Table:
        """Natural logarithm of the clipped posterior variance."""
        return np.log(self.posterior_variance_clipped)

    @cached_property
    def posterior_mean_coef1(self) -> Table:
        """Factor of x_t in the posterior mean (ResShift, eq. 6)."""
        return self.etas_prev / self.etas

    @cached_property
    def posterior_mean_coef2(self) -> Table:
        """Factor of x0 in the posterior mean (ResShift, eq. 6)."""
        return self.alpha / self.etas

    @cached_property
    def weight_loss_mse(self) -> Table:
        """w_t = alpha_t / (2 kappa^2 eta_t eta_{t-1}) (ResShift, eq. 8), with the clipped variance at t = 0."""
        return 0.5 / self.posterior_variance_clipped * self.posterior_mean_coef2**2

    @cached_property
    def ddim_m(self) -> Table:
        """Factor of x_t in the deterministic step (SinSR, Wang et al. 2024, eq. 6)."""
        return np.sqrt(self.etas_prev / self.etas)

    @cached_property
    def ddim_j(self) -> Table:
        """Factor of y in the deterministic step (SinSR, eq. 6)."""
        return self.etas_prev - np.sqrt(self.etas_prev * self.etas)

    @cached_property
    def ddim_k(self) -> Table:
        """Factor of x0 in the deterministic step (SinSR, eq. 6); k + m + j = 1."""
        return 1.0 - self.etas_prev + np.sqrt(self.etas_prev * self.etas) - np.sqrt(self.etas_prev / self.etas)

    @cached_property
    def input_std(self) -> Table:
        """sqrt(kappa^2 eta_t + 1), what the noisy latent is divided by before it enters the network."""
        return np.sqrt(self.kappa**2 * self.etas + 1.0)

    @cached_property
    def prior_std(self) -> Table:
        """kappa sqrt(eta_t), the noise deviation of x_t; its last entry is that of the prior."""
        return self.kappa * np.asarray(self.sqrt_etas, dtype=np.float64)

    @cached_property
    def sigmas(self) -> Table:
        """kappa sqrt(eta_t) / (1 - eta_t), the noise deviation of u = (x_t - eta_t y) / (1 - eta_t) = x0 + sigma n."""
        return self.prior_std / (1.0 - self.etas)


def residual_shift_schedule(
    num_steps: int = 15,
    min_noise_level: float = 0.04,
    kappa: float = 2.0,
    power: float = 0.3,
    etas_end: float = 0.99,
    *,
    clip_start: bool = False,
) -> ResidualShiftSchedule:
    """The "exponential" schedule sqrt_eta_i = s0 (etas_end / s0)^((i / (T - 1))^power) (ResShift, eqs. 9-10).

    `etas_end` is the last sqrt_eta. `clip_start` also bounds s0 by sqrt(0.001), as the SinSR and TAD-SR codes do.
    """
    if num_steps < 2:
        raise ValueError(
            f"num_steps must be 2 or more, got {num_steps}; one step is the last entry of the full schedule."
        )
    start = min(min_noise_level / kappa, min_noise_level)
    if clip_start:
        start = min(start, math.sqrt(0.001))
    ramp = np.linspace(0.0, 1.0, num_steps, dtype=np.float64) ** power
    sqrt_etas = start * (etas_end / start) ** ramp
    return ResidualShiftSchedule(tuple(sqrt_etas.tolist()), kappa, tuple(range(num_steps)))


def respace(schedule: ResidualShiftSchedule, num_steps: int) -> ResidualShiftSchedule:
    """Keeps entries floor(T / N * i), i = 0..N-1; the network keeps its original indices. N >= T changes nothing.

    The last entry is not kept when N < T, so the prior noise becomes smaller. N = 1 would keep the cleanest entry only,
    which is not one-step inference, and is refused.
    """
    if num_steps < 2:
        raise ValueError(
            f"Cannot respace to {num_steps} steps; for one step call sample_one_step on the full schedule."
        )
    total = schedule.num_steps
    kept = sorted({int(total / num_steps * i) for i in range(num_steps)})
    return ResidualShiftSchedule(
        tuple(schedule.sqrt_etas[i] for i in kept), schedule.kappa, tuple(schedule.timestep_map[i] for i in kept)
    )


def shorten(schedule: ResidualShiftSchedule, num_steps: int) -> ResidualShiftSchedule:
    """num_steps >= 2 evenly spaced entries of a schedule, first and last included (ours).

    Unlike `respace` it keeps T - 1, where the prior has its mean: on evenly log-spaced levels a chain that begins lower finds
    much of the residual missing from x_t.
    """
    if not 2 <= num_steps <= schedule.num_steps:
        raise ValueError(f"Expected 2 to {schedule.num_steps} steps, got {num_steps}.")
    kept = [round(i * (schedule.num_steps - 1) / (num_steps - 1)) for i in range(num_steps)]
    levels = tuple(schedule.sqrt_etas[i] for i in kept)
    return ResidualShiftSchedule(levels, schedule.kappa, tuple(schedule.timestep_map[i] for i in kept))


def stable_diffusion_alphas(timesteps: int = 1000, first: float = 0.00085, last: float = 0.012) -> Table:
    """Cumulated alphas (T,) of betas whose roots are evenly spaced (Rombach et al. 2022), least noise first."""
    betas = np.linspace(first**0.5, last**0.5, timesteps, dtype=np.float64) ** 2
    return np.cumprod(1.0 - betas, dtype=np.float64)


def sigma_of(alpha_bar: Table) -> Table:
    """sqrt((1 - abar) / abar), the noise deviation of y = z / sqrt(abar) = x0 + sigma n."""
    return np.sqrt((1.0 - alpha_bar) / alpha_bar)
