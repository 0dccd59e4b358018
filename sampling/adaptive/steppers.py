"""One sampling step of many rows, each between its own two noise levels.

The operations and their order are those of k-diffusion (Karras et al. 2022, code of Crowson), so that rows of one region
repeat the plain sampler bit for bit on the same device. A formula that does not hold in a noise space is not offered there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .types import NoiseSpace


@dataclass(frozen=True)
class Last:
    """The previous call of every row: its x0 (N, C, h, w) and its sigma (N, 1, 1, 1)."""

    x0: Tensor
    sigma: Tensor


@dataclass(frozen=True)
class Step:
    """What a step is made of: x, x0 and noise are (N, C, h, w), sigmas (N, 1, 1, 1), all float32.

    sigma_next may be 0. noise is None where the stepper takes none or every sigma_next is 0; last is None at a row's first
    call and for steppers without a memory.
    """

    x: Tensor
    x0: Tensor
    sigma: Tensor
    sigma_next: Tensor
    noise: Tensor | None = None
    last: Last | None = None


@dataclass(frozen=True)
class Stepper:
    """A step function and what it needs."""

    name: str
    step: Callable[[Step], Tensor]
    needs_noise: bool = False
    needs_last: bool = False


def euler(step: Step) -> Tensor:
    """x + (x - x0) / sigma (sigma' - sigma) (Karras et al. 2022, algorithm 1).

    In both spaces it keeps x0 and n and changes sigma, so it is DDIM with eta = 0 (Song et al. 2021, eq. 12).
    """
    slope = (step.x - step.x0) / step.sigma
    return step.x + slope * (step.sigma_next - step.sigma)


def ddpm(step: Step) -> Tensor:
    """x0 + (x - x0) s'^2 / s^2 + sqrt(s'^2 (s^2 - s'^2) / s^2) n, the posterior of a jump s -> s' of any length.

    Ho et al. 2020, eq. 7, marginalised over the skipped steps, in coordinates of a variance-exploding process.
    """
    variance, variance_next = step.sigma.square(), step.sigma_next.square()
    mean = step.x0 + (step.x - step.x0) * (variance_next / variance)
    if step.noise is None:
        return mean
    return mean + (variance_next * (variance - variance_next) / variance).sqrt() * step.noise


def ancestral_ve(step: Step) -> Tensor:
    """Euler to sigma_down, then noise sigma_up with sigma_down^2 + sigma_up^2 = sigma'^2 (k-diffusion, eta = 1)."""
    ratio = (step.sigma_next**2 * (step.sigma**2 - step.sigma_next**2) / step.sigma**2) ** 0.5
    up = torch.minimum(step.sigma_next, ratio)
    down = (step.sigma_next**2 - up**2) ** 0.5
    moved = step.x + (step.x - step.x0) / step.sigma * (down - step.sigma)
    noisy = moved if step.noise is None else moved + step.noise * up
    return torch.where(step.sigma_next == 0, step.x0, noisy)


def ancestral_flow(step: Step) -> Tensor:
    """Euler to sigma_down = sigma'^2 / sigma, then signal and noise scaled to the marginal of sigma' (eta = 1).

    With a = 1 - sigma: x' = a'/a_down x_down + sqrt(sigma'^2 - sigma_down^2 a'^2 / a_down^2) n.
    """
    down = step.sigma_next * (1 + (step.sigma_next / step.sigma - 1))
    signal = (1 - step.sigma_next) / (1 - down)
    renoise = (step.sigma_next**2 - down**2 * (1 - step.sigma_next) ** 2 / (1 - down) ** 2) ** 0.5
    ratio = down / step.sigma
    moved = ratio * step.x + (1 - ratio) * step.x0
    noisy = moved if step.noise is None else signal * moved + step.noise * renoise
    return torch.where(step.sigma_next == 0, step.x0, noisy)


def dpmpp_2m(step: Step) -> Tensor:
    """DPM-Solver++(2M) in t = -log sigma (Lu et al. 2022, algorithm 2), with the row's own last call; levels may be uneven.

    First order at the row's first call and where it ends at sigma' = 0. In flow space it uses the same t, as the host does.
    """
    t, t_next = step.sigma.log().neg(), step.sigma_next.log().neg()
    h = t_next - t
    x0 = step.x0
    if step.last is not None:
        r = (t - step.last.sigma.log().neg()) / h
        usable = (step.sigma_next > 0) & (step.last.sigma > step.sigma)
        weight = torch.where(usable, 1 / (2 * r), torch.zeros_like(r))
        x0 = (1 + weight) * x0 - weight * step.last.x0
    return (t_next.neg().exp() / t.neg().exp()) * step.x - (-h).expm1() * x0


_VE, _FLOW = NoiseSpace.VARIANCE_EXPLODING, NoiseSpace.FLOW
_STEPPERS: dict[tuple[str, NoiseSpace], Stepper] = {
    **{(name, space): Stepper(name, euler) for name in ("euler", "ddim") for space in NoiseSpace},
    ("euler_ancestral", _VE): Stepper("euler_ancestral", ancestral_ve, needs_noise=True),
    ("euler_ancestral", _FLOW): Stepper("euler_ancestral", ancestral_flow, needs_noise=True),
    ("ddpm", _VE): Stepper("ddpm", ddpm, needs_noise=True),
    **{("dpmpp_2m", space): Stepper("dpmpp_2m", dpmpp_2m, needs_last=True) for space in NoiseSpace},
}


def stepper_for(name: str, space: NoiseSpace) -> Stepper:
    """The stepper of that name, or ValueError where it does not exist or is not exact in this space."""
    found = _STEPPERS.get((name, space))
    if found is None:
        offered = ", ".join(known for known, at in _STEPPERS if at is space)
        kind = "flow" if space is NoiseSpace.FLOW else "eps or v prediction"
        raise ValueError(
            f"Sampler {name!r} cannot step regions of a {kind} model one by one; choose one of: {offered}."
        )
    return found
