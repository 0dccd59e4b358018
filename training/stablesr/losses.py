"""What trains StableSR's encoder and SFT layers: the denoiser's own loss, with the LR latent beside it (Wang et al. 2023, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...sampling.schedules import stable_diffusion_alphas
from ..tad_sr.losses import per_sample_mse

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x_t (B, C, h, w), timesteps (B,), LR latent (B, C, h, w)) -> the network's output, eps or v."""


def guided_diffusion_loss(
    predict: Predict,
    hr: Tensor,
    lr: Tensor,
    timesteps: Tensor,
    noise: Tensor,
    *,
    predicts_v: bool,
    weighted_as_v: bool = False,
) -> Tensor:
    """Squared error of the prediction for each image, (B,); the caller averages it.

    hr, lr: scaled latents (B, C, h, w) of the truth and of the enlarged LR image; timesteps: (B,) of 0 to 999; noise: unit
    normal, like hr. The target is the noise (Ho et al. 2020, eq. 14), or v for a base that predicts it. weighted_as_v: errors
    of the noise are taken over abar, which are those of v (Salimans and Ho 2022, appendix D).
    """
    target = velocity(hr, timesteps, noise) if predicts_v else noise
    errors = per_sample_mse(predict(noised(hr, timesteps, noise), timesteps, lr), target)
    return errors / factors(timesteps)[0].flatten().square() if weighted_as_v and not predicts_v else errors


def factors(timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(abar) and sqrt(1 - abar) at timesteps, (B, 1, 1, 1) each."""
    a = torch.from_numpy(stable_diffusion_alphas()).float().to(timesteps.device)[timesteps].view(-1, 1, 1, 1)
    return a.sqrt(), (1.0 - a).sqrt()


def noised(latent: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
    """x_t = sqrt(abar) latent + sqrt(1 - abar) noise (Ho et al. 2020, eq. 4)."""
    signal, deviation = factors(timesteps)
    return signal * latent + deviation * noise


def velocity(latent: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
    """v = sqrt(abar) noise - sqrt(1 - abar) latent (Salimans and Ho 2022, section 4)."""
    signal, deviation = factors(timesteps)
    return signal * noise - deviation * latent
