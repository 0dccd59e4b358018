"""A variance-preserving chain respaced to fewer steps (Nichol and Dhariwal 2021, section 4), as StableSR and TASR run it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from .schedules import Table, sigma_of, stable_diffusion_alphas


def spaced_timesteps(steps: int, total: int = 1000) -> tuple[int, ...]:
    """`steps` timesteps of 0 .. total - 1, rising, first and last included; one step keeps 0.

    The stride is summed up, not multiplied, and halves go to even, so that the choice is that of the published codes.
    """
    if not 1 <= steps <= total:
        raise ValueError(f"Expected 1 to {total} steps, got {steps}.")
    stride, place, kept = (total - 1) / max(1, steps - 1), 0.0, []
    for _ in range(steps):
        kept.append(round(place))
        place += stride
    return tuple(kept)


@dataclass(frozen=True)
class SpacedSchedule:
    """Tables (S,) of a respaced chain, least noise first. Networks are given `timesteps`, equations the index."""

    timesteps: tuple[int, ...]
    alphas_cumprod: Table

    @classmethod
    def of(cls, steps: int, alphas_cumprod: Table | None = None) -> SpacedSchedule:
        """The chain of `steps` entries of a full one (default: Stable Diffusion's)."""
        full = stable_diffusion_alphas() if alphas_cumprod is None else alphas_cumprod
        kept = spaced_timesteps(steps, len(full))
        return cls(kept, full[list(kept)])

    @cached_property
    def alphas_cumprod_prev(self) -> Table:
        """The same one entry earlier, with 1 before the first."""
        return np.append(np.ones(1, self.alphas_cumprod.dtype), self.alphas_cumprod[:-1])

    @cached_property
    def betas(self) -> Table:
        """b_k = 1 - abar_k / abar_{k-1} (Nichol and Dhariwal 2021, eq. 19)."""
        return 1.0 - self.alphas_cumprod / self.alphas_cumprod_prev

    @cached_property
    def posterior_variance(self) -> Table:
        """Variance of q(z_{k-1} | z_k, x0) (Ho et al. 2020, eq. 7)."""
        return self.betas * (1.0 - self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod)

    @cached_property
    def posterior_mean_coef_x0(self) -> Table:
        """Factor of x0 in the mean of q(z_{k-1} | z_k, x0) (Ho et al. 2020, eq. 7)."""
        return self.betas * np.sqrt(self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod)

    @cached_property
    def posterior_mean_coef_xt(self) -> Table:
        """Factor of z_k in the same mean."""
        return (1.0 - self.alphas_cumprod_prev) * np.sqrt(1.0 - self.betas) / (1.0 - self.alphas_cumprod)

    @cached_property
    def sigmas(self) -> Table:
        """Noise deviation of z / sqrt(abar) = x0 + sigma n."""
        return sigma_of(self.alphas_cumprod)

    def step(self, index: int, x: Tensor, x0: Tensor, noise: Tensor) -> Tensor:
        """z_{k-1} from z_k, the predicted x0 and unit noise, all of one shape (Ho et al. 2020, eqs. 6-7); x0 at k = 0."""
        mean = float(self.posterior_mean_coef_x0[index]) * x0 + float(self.posterior_mean_coef_xt[index]) * x
        if index == 0:
            return mean
        return mean + float(self.posterior_variance[index]) ** 0.5 * noise
