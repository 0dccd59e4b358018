"""Samplers of residual-shift models: one step, the deterministic chain and its inverse, the ancestral chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypedDict

import torch
from torch import Tensor

from .residual_shift import (
    ancestral_step,
    deterministic_step,
    inverse_step,
    last_index,
    network_time,
    prior_sample,
    scale_input,
)
from .schedules import ResidualShiftSchedule

Denoise: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(scaled latent (B, C, h, w), network time index (B,) int64) -> predicted x0 (B, C, h, w)."""


class StepReport(TypedDict):
    """What a callback is told after a step, with k-diffusion's keys."""

    i: int
    x: Tensor
    denoised: Tensor


Callback: TypeAlias = Callable[[StepReport], None]


def predict_x0(denoise: Denoise, x_t: Tensor, t: Tensor, schedule: ResidualShiftSchedule) -> Tensor:
    """The network's x0 for the unscaled latent x_t at schedule indices t (B,)."""
    return denoise(scale_input(x_t, t, schedule), network_time(t, schedule))


def sample_one_step(
    denoise: Denoise, y: Tensor, schedule: ResidualShiftSchedule, noise: Tensor, callback: Callback | None = None
) -> Tensor:
    """x0 = f(x_T, T - 1) at the last entry of the FULL schedule (SinSR, section 3.2; TAD-SR, section 3.1).

    `y` is the latent of the upscaled image, `noise` standard normal; both (B, C, h, w).
    """
    x = predict_x0(denoise, prior_sample(y, noise, schedule), last_index(y, schedule), schedule)
    if callback is not None:
        callback({"i": 0, "x": x, "denoised": x})
    return x


def sample_deterministic(
    denoise: Denoise, y: Tensor, schedule: ResidualShiftSchedule, noise: Tensor, callback: Callback | None = None
) -> Tensor:
    """The deterministic chain t = T-1..0 from x_T (SinSR, eq. 6; TAD-SR, eq. 3)."""
    return deterministic_chain(denoise, prior_sample(y, noise, schedule), y, schedule, callback)


def deterministic_chain(
    denoise: Denoise, x: Tensor, y: Tensor, schedule: ResidualShiftSchedule, callback: Callback | None = None
) -> Tensor:
    """The deterministic chain from a latent x at the schedule's last entry to its end (SinSR, eq. 6)."""
    t = last_index(y, schedule)
    for i in range(schedule.num_steps):
        x0 = predict_x0(denoise, x, t, schedule)
        x, t = deterministic_step(x0, x, y, t, schedule), t - 1
        if callback is not None:
            callback({"i": i, "x": x, "denoised": x0})
    return x


def sample_ancestral(
    denoise: Denoise,
    y: Tensor,
    schedule: ResidualShiftSchedule,
    noise: Tensor,
    step_noise: Callable[[int], Tensor],
    callback: Callback | None = None,
) -> Tensor:
    """The stochastic chain t = T-1..0 (ResShift, eq. 6).

    `step_noise(i)` gives the noise of loop iteration i, broadcastable to (B, C, h, w); it is not asked for at t = 0.
    """
    x, t = prior_sample(y, noise, schedule), last_index(y, schedule)
    for i in range(schedule.num_steps):
        x0 = predict_x0(denoise, x, t, schedule)
        is_last = i == schedule.num_steps - 1
        x = x0 if is_last else ancestral_step(x0, x, t, step_noise(i), schedule)
        t = t - 1
        if callback is not None:
            callback({"i": i, "x": x, "denoised": x0})
    return x


def invert_deterministic(
    denoise: Denoise, y: Tensor, schedule: ResidualShiftSchedule, x: Tensor, callback: Callback | None = None
) -> Tensor:
    """From a clean latent x towards x_T: the inverse chain t = 1..T-1 (SinSR, section 3.2).

    x0 is predicted from the state at hand scaled with the index it is going to, as the reference does.
    """
    for t_index in range(1, schedule.num_steps):
        t = torch.full((y.shape[0],), t_index, dtype=torch.int64, device=y.device)
        x0 = predict_x0(denoise, x, t, schedule)
        x = inverse_step(x0, x, y, t, schedule)
        if callback is not None:
            callback({"i": t_index - 1, "x": x, "denoised": x0})
    return x
