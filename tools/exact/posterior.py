"""What a region may look like: Gaussians whose modes and variances are known, mixtures of them, and the optimal denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from .spectra import SPECTRA, frequencies, modes


@dataclass(frozen=True)
class Gaussian:
    """Independent modes of mean 0; n cells."""

    modes: Tensor  # (n, n), orthonormal, one a row
    variance: Tensor  # (n,)

    def shrink(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | x0 + sigma n = x] of rows (N, C, n) with sigmas (N,): each mode times c / (c + sigma^2)."""
        factor = self.variance / (self.variance + sigma.square()[:, None, None])  # (N, 1, n)
        return x @ self.modes.T * factor @ self.modes

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p (N,) of x0 + sigma n = x (N, C, n) up to a constant, all channels together."""
        total = self.variance + sigma.square()[:, None, None]
        return -0.5 * ((x @ self.modes.T).square() / total + total.log()).sum((1, 2))

    def draw(self, noise: Tensor) -> Tensor:
        """A sample (C, n) from standard normal noise (C, n)."""
        return noise * self.variance.sqrt() @ self.modes


@dataclass(frozen=True)
class Posterior:
    """Components of equal weight; one component is a Gaussian, and all that is said of it is exact."""

    components: tuple[Gaussian, ...]

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | x] of rows (N, C, n) with sigmas (N,)."""
        if len(self.components) == 1:
            return self.components[0].shrink(x, sigma)
        shares = torch.stack([part.log_density(x, sigma) for part in self.components]).softmax(0)
        parts = torch.stack([part.shrink(x, sigma) for part in self.components])
        return (shares[..., None, None] * parts).sum(0)

    @property
    def gaussian(self) -> Gaussian:
        """The only component. ValueError where there are several."""
        if len(self.components) != 1:
            raise ValueError("A mixture's samples have no closed form: expected a region of one component.")
        return self.components[0]


@cache
def stationary(kind: str, size: int) -> Gaussian:
    """A periodic region of one area."""
    return Gaussian(modes(size), SPECTRA[kind](frequencies(size)).flatten())


@cache
def divided(kinds: tuple[str, ...], labels: tuple[int, ...], size: int) -> Gaussian:
    """A region whose cells have the areas kinds[labels[i]], labels being (size^2); areas are independent of each other."""
    if len(set(labels)) == 1:
        return stationary(kinds[labels[0]], size)
    which = torch.tensor(labels)
    covariance = torch.zeros(size**2, size**2, dtype=torch.float64)
    for label in set(labels):
        own = (which == label).double()
        area = stationary(kinds[label], size)
        covariance += torch.outer(own, own) * (area.modes.T * area.variance @ area.modes)
    variance, vectors = torch.linalg.eigh(covariance)
    return Gaussian(vectors.T.contiguous(), variance.clamp(min=0))


def posterior(kinds: Sequence[str], labels: Tensor) -> Posterior:
    """The posterior of a square region whose cells (size, size) have these areas; "either" is texture or soft."""
    return _posterior(tuple(kinds), tuple(labels.flatten().tolist()), len(labels))


@cache
def _posterior(kinds: tuple[str, ...], found: tuple[int, ...], size: int) -> Posterior:
    pairs = [("texture", "soft") if kind == "either" else (kind, kind) for kind in kinds]
    # an area that the region does not touch must not make a component of its own
    named = [pair if i in set(found) else ("", "") for i, pair in enumerate(pairs)]
    variants = dict.fromkeys(tuple(pair[i] for pair in named) for i in (0, 1))
    return Posterior(tuple(divided(variant, found, size) for variant in variants))
