"""Losses of TASR (arXiv 2412.03355, section 3.3). Latents are (B, C, h, w), pictures (B, 3, H, W) in [0, 1], times (B,)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import torch
from torch import Tensor


class X0Formula(Enum):
    """How the clean latent is estimated from a noise prediction."""

    CORRECT = "correct"
    PUBLISHED_CODE = "published code"
    """The formula of a v-prediction, which the public code applies to a network that predicts noise."""


def at(values: Tensor, t: Tensor) -> Tensor:
    """values[t] as (B, 1, 1, 1)."""
    return values.to(t.device)[t].view(-1, 1, 1, 1)


def noised(z_0: Tensor, eps: Tensor, abar: Tensor) -> Tensor:
    """z_t = sqrt(abar) z_0 + sqrt(1 - abar) eps (DDPM, Ho et al. 2020, eq. 4); abar (B, 1, 1, 1)."""
    return abar.sqrt() * z_0 + (1 - abar).sqrt() * eps


def predicted_x0(z_t: Tensor, eps: Tensor, abar: Tensor, formula: X0Formula = X0Formula.CORRECT) -> Tensor:
    """The clean latent that a noise prediction implies: (z_t - sqrt(1 - abar) eps) / sqrt(abar) (TASR eq. 4).

    Deviation: the paper prints alpha_t where abar_t is meant. The public code computes sqrt(abar) z_t - sqrt(1 - abar) eps,
    whose coefficients are too small by abar and sqrt(abar): 0.75 and 0.87 at t = 200, but 0.04 and 0.19 at t = 799.
    """
    signal, noise = abar.sqrt(), (1 - abar).sqrt()
    if formula is X0Formula.PUBLISHED_CODE:
        return signal * z_t - noise * eps
    return (z_t - noise * eps) / signal


def denoise_loss(prediction: Tensor, eps: Tensor) -> Tensor:
    """L_d, the mean squared error of the noise (TASR eq. 2; a norm there, its square's mean in the public code)."""
    return (prediction.float() - eps.float()).square().mean()


def masked_l1(picture: Tensor, target: Tensor, chosen: Tensor) -> Tensor:
    """L_1 = |I_HR - I_hat| over the chosen samples (B,) (TASR eq. 3).

    Normalised by the chosen samples' pixels plus 1e-5, so that a batch without one gives 0.
    """
    counts = chosen.to(picture)  # (B,)
    errors = (picture - target).abs().flatten(1).sum(1)  # (B,)
    return (errors * counts).sum() / (counts.sum() * picture[0].numel() + 1e-5)


def reward_loss(rewards: Tensor) -> Tensor:
    """ReLU(1 - R) per sample (TASR eq. 5), of rewards whose best is 1."""
    return (1 - rewards).relu()


def neutral_pull(alphas: Sequence[Tensor], neutral: float = 1.0) -> Tensor:
    """Mean squared distance of all gates from `neutral`, every site alike (our addition, off by default)."""
    return torch.stack([(alpha.float() - neutral).square().mean() for alpha in alphas]).mean()
