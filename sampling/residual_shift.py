"""The equations of residual-shift diffusion on tensors (ResShift, Yue et al. 2023; SinSR, Wang et al. 2024).

Latents are (B, C, h, w); t is (B,) int64, an index INTO the schedule. Coefficients are float32, so half-precision
latents are promoted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..imaging.transfer import upload
from .schedules import ResidualShiftSchedule, Table


def at(table: Table, t: Tensor, like: Tensor) -> Tensor:
    """Entries t of a schedule table as float32, shaped to broadcast over `like` (B, ...)."""
    # Rounded to float32 before the move: some devices have no float64.
    values = upload(torch.as_tensor(table, dtype=torch.float32), like.device)
    return values[upload(t, like.device)].reshape(-1, *[1] * (like.ndim - 1))  # (B, 1, ...)


def network_time(t: Tensor, schedule: ResidualShiftSchedule) -> Tensor:
    """The time indices that the network was trained with, (B,) int64."""
    return upload(torch.tensor(schedule.timestep_map), t.device)[t]


def last_index(y: Tensor, schedule: ResidualShiftSchedule) -> Tensor:
    """t = T - 1 for every image of the batch, (B,) int64."""
    return torch.full((y.shape[0],), schedule.num_steps - 1, dtype=torch.int64, device=y.device)


def q_mean(x0: Tensor, y: Tensor, t: Tensor, schedule: ResidualShiftSchedule) -> Tensor:
    """Mean of q(x_t | x0, y): x0 + eta_t (y - x0) (ResShift, eq. 2)."""
    return x0 + at(schedule.etas, t, x0) * (y - x0)


def q_variance(t: Tensor, like: Tensor, schedule: ResidualShiftSchedule) -> Tensor:
    """Variance of q(x_t | x0, y): kappa^2 eta_t (ResShift, eq. 2), (B, 1, ...)."""
    return at(schedule.kappa**2 * schedule.etas, t, like)


def q_sample(x0: Tensor, y: Tensor, t: Tensor, noise: Tensor, schedule: ResidualShiftSchedule) -> Tensor:
    """x_t = x0 + eta_t (y - x0) + kappa sqrt(eta_t) n (ResShift, eq. 2)."""
    return q_mean(x0, y, t, schedule) + at(schedule.prior_std, t, x0) * noise


def prior_sample(y: Tensor, noise: Tensor, schedule: ResidualShiftSchedule) -> Tensor:
    """x_T = y + kappa sqrt(eta_{T-1}) n; the mean is exactly y (ResShift, section 2.1)."""
    return y + float(schedule.prior_std[-1]) * noise


def scale_input(x_t: Tensor, t: Tensor, schedule: ResidualShiftSchedule) -> Tensor:
    """x_t / sqrt(kappa^2 eta_t + 1), what the network sees."""
    return x_t / at(schedule.input_std, t, x_t)


def posterior_mean(x0: Tensor, x_t: Tensor, t: Tensor, schedule: ResidualShiftSchedule) -> Tensor:
    """(eta_{t-1} / eta_t) x_t + (alpha_t / eta_t) x0 (ResShift, eq. 6)."""
    return at(schedule.posterior_mean_coef1, t, x_t) * x_t + at(schedule.posterior_mean_coef2, t, x_t) * x0


def ancestral_step(x0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor, schedule: ResidualShiftSchedule) -> Tensor:
    """Draws x_{t-1} ~ q(x_{t-1} | x_t, x0, y) (ResShift, eq. 6); without noise where t = 0."""
    spread = torch.exp(0.5 * at(schedule.posterior_log_variance_clipped, t, x_t))
    noisy = (t != 0).to(spread.dtype).reshape(spread.shape)
    return posterior_mean(x0, x_t, t, schedule) + noisy * spread * noise


def deterministic_step(x0: Tensor, x_t: Tensor, y: Tensor, t: Tensor, schedule: ResidualShiftSchedule) -> Tensor:
    """x_{t-1} = k_t x0 + m_t x_t + j_t y (SinSR, eq. 6; TAD-SR, eq. 3)."""
    k, m, j = (at(table, t, x_t) for table in (schedule.ddim_k, schedule.ddim_m, schedule.ddim_j))
    return k * x0 + m * x_t + j * y


def inverse_step(x0: Tensor, x_prev: Tensor, y: Tensor, t: Tensor, schedule: ResidualShiftSchedule) -> Tensor:
    """x_t = (x_{t-1} - k_t x0 - j_t y) / m_t for t >= 1: the deterministic step read backwards."""
    k, m, j = (at(table, t, x_prev) for table in (schedule.ddim_k, schedule.ddim_m, schedule.ddim_j))
    return (x_prev - k * x0 - j * y) / m


def eps_from_x0(x_t: Tensor, x0: Tensor, y: Tensor, t: Tensor, schedule: ResidualShiftSchedule) -> Tensor:
    """The noise in x_t: (x_t - (1 - eta_t) x0 - eta_t y) / (kappa sqrt(eta_t))."""
    return (x_t - q_mean(x0, y, t, schedule)) / at(schedule.prior_std, t, x_t)


def x0_from_eps(x_t: Tensor, eps: Tensor, y: Tensor, t: Tensor, schedule: ResidualShiftSchedule) -> Tensor:
    """The clean latent behind x_t: (x_t - eta_t y - kappa sqrt(eta_t) eps) / (1 - eta_t)."""
    eta = at(schedule.etas, t, x_t)
    return (x_t - eta * y - at(schedule.prior_std, t, x_t) * eps) / (1.0 - eta)


def to_variance_exploding(x_t: Tensor, y: Tensor, t: Tensor, schedule: ResidualShiftSchedule) -> Tensor:
    """u = (x_t - eta_t y) / (1 - eta_t) = x0 + sigma_t n, the coordinates of an ordinary denoiser (our extension)."""
    eta = at(schedule.etas, t, x_t)
    return (x_t - eta * y) / (1.0 - eta)


def from_variance_exploding(u: Tensor, y: Tensor, t: Tensor, schedule: ResidualShiftSchedule) -> Tensor:
    """x_t = (1 - eta_t) u + eta_t y, the inverse of `to_variance_exploding`."""
    eta = at(schedule.etas, t, u)
    return (1.0 - eta) * u + eta * y
