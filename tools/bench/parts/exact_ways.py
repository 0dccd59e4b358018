"""Every way to spread steps over an exact canvas, as a policy and an estimator for one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ....imaging.detail import sharpness
from ....imaging.metrics.gain_measures import latent_measures
from ....sampling.adaptive.dynamic import DynamicSettings, DynamicTimesteps
from ....sampling.adaptive.gain import LATENT_METRICS, chosen
from ....sampling.adaptive.observers import BackEnd, MetricGains, ProxyGains
from ....sampling.adaptive.policy import BudgetMap, FixedSchedule, budget_steps
from ....sampling.adaptive.prior import region_priors
from ....sampling.adaptive.step_size import Moves, StepSizeControl, StepSizeSettings
from ....sampling.adaptive.types import crop_rows, rows_of
from ...exact.runs import ExactOutcome, ExactTrial, Recorded
from ...exact.theory import karras

EVEN = (4, 6, 8, 12, 20, 30, 44, 66)
GRIDS = (12, 24, 40)
TOLERANCES = (0.03, 0.016, 0.008, 0.004, 0.002, 0.001)
FINE_GRID = 100
TAU = 5e-3
BACK_ENDS = {"latent": 0.125, "proxies": 0.7}
"""Back ends without a VAE, and what MMLE Gain Estimator multiplies tau by for them."""
STILL = 2e-3


def even(trial: ExactTrial, steps: int) -> ExactOutcome:
    """Runs as many steps in every region."""
    return trial.run(karras(steps), FixedSchedule())


def prior_alone(trial: ExactTrial, steps: int) -> ExactOutcome:
    """Runs a budget map by the detail of the input: the busiest region makes all steps."""
    details = sharpness(crop_rows(trial.mean, rows_of(trial.canvas.regions, 1))).tolist()
    brightness = [detail / max(details) for detail in details]
    return trial.run(karras(steps), BudgetMap((budget_steps(brightness, 1, steps),)))


def gains(trial: ExactTrial, steps: int, back_end: str, prior: float) -> ExactOutcome:
    """Runs dynamic timesteps with the node's defaults, the input's latent being the reference."""
    sigmas = karras(steps)
    times = timesteps(sigmas)
    tau = TAU * BACK_ENDS[back_end]
    settings = DynamicSettings(tau=tau, t_sat_max=0.0, patience=10**9)
    if back_end == "proxies":
        settings, observe = replace(settings, still=STILL), ProxyGains(trial.mean, times)
    else:
        metrics = chosen(LATENT_METRICS, ("psnr", "nlpd", "sharpness"))
        observe = MetricGains(BackEnd(trial.mean, latent_measures()), metrics, times)
    priors = region_priors(trial.mean, rows_of(trial.canvas.regions, 1), prior)
    return trial.run(sigmas, DynamicTimesteps(settings.on_grid(steps), times, priors), observe)


def step_size(trial: ExactTrial, tolerance: float, grid: int = FINE_GRID) -> ExactOutcome:
    """Runs step-size control on a grid of so many levels."""
    sigmas = karras(grid)
    return trial.run(sigmas, StepSizeControl(StepSizeSettings(tolerance), sigmas), Moves())


def step_size_in_step(trial: ExactTrial, tolerance: float) -> ExactOutcome:
    """Runs every region at the levels of the region that step-size control gives the most: placement without sharing out."""
    sigmas = karras(FINE_GRID)
    control = Recorded(StepSizeControl(StepSizeSettings(tolerance), sigmas))
    trial.run(sigmas, control, Moves())
    busiest = max(control.levels.values(), key=len)
    return trial.run([sigmas[level] for level in busiest], FixedSchedule())


Way = Callable[[ExactTrial, float], ExactOutcome]
WAYS: Mapping[str, tuple[Way, Sequence[float]]] = {
    "even steps": (even, EVEN),
    "prior alone": (prior_alone, EVEN),
    **{f"{name}, no prior": (partial(gains, back_end=name, prior=0.0), GRIDS) for name in BACK_ENDS},
    **{f"{name} + prior": (partial(gains, back_end=name, prior=1.0), GRIDS) for name in BACK_ENDS},
    "step size": (step_size, TOLERANCES),
    "step size, grid of 40": (partial(step_size, grid=40), TOLERANCES),
    "step size, all in step": (step_size_in_step, TOLERANCES),
}
"""Runs by name, and the numbers that make their curves: steps, or tolerances."""


def timesteps(sigmas: Sequence[float]) -> list[float]:
    """Timesteps of all sigmas but the last in Stable Diffusion's chain of 1000."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas = np.cumprod(1 - betas)
    chain = np.log((1 - alphas) / alphas) / 2
    return [float(np.interp(np.log(sigma), chain, np.arange(1000.0))) for sigma in sigmas[:-1]]
