"""A small base without a prompt and without an LR picture, for controls that steer it: trained on rearranged pixels."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ...models.latent_base import CONTEXT_DIM, LATENT_SCALE
from ...sampling.noise import generator_for
from ...training.checkpoint import TrainState
from ...training.tasr.losses import at, noised
from .config import PhaseConfig
from .loop import LossFn
from .objectives import codec


@dataclass(frozen=True)
class LatentBaseConfig:
    """Everything that decides the weights, apart from sources, code and library versions."""

    seed: int = 1
    phase: PhaseConfig = field(default_factory=lambda: PhaseConfig(steps=4500, batch=16, patch=16, lr=1e-3, warmup=100))
    photo_pictures: int = 1000
    generated_pictures: int = 160
    photo_share: float = 0.8
    ema_decay: float = 0.999
    clip_norm: float = 1.0


SILENT = (".out_layers.3.", ".proj_out.", "out.2.")
"""Ends of branches, which begin at zero (Dhariwal and Nichol 2021, as in the public code of latent diffusion)."""


def initialise(network: nn.Module, seed: int) -> None:
    """Gives every parameter a start that follows from the seed: normal by fan-in, norms at one, ends of branches at zero."""
    generator = generator_for(seed, 0)
    for name, parameter in network.named_parameters():
        with torch.no_grad():
            if parameter.ndim == 1:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
            else:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5)
            if any(end in f".{name}" for end in SILENT):
                parameter.zero_()


def latent_base_loss(state: TrainState, alphas_cumprod: Tensor) -> LossFn:
    """Squared error of v (Salimans and Ho 2022), which is that of the noise over abar, at all timesteps, with the prompt of zeros."""

    def loss(hr: Tensor, lr: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        z_0 = LATENT_SCALE * codec.encode(hr)
        t = torch.randint(len(alphas_cumprod), (len(hr),), generator=generator)
        eps = torch.randn(z_0.shape, generator=generator)
        abar = at(alphas_cumprod, t)
        found = state.model(noised(z_0, eps, abar), t, context=torch.zeros(len(hr), 1, CONTEXT_DIM))
        value = ((found - eps).square() / abar).mean()
        return value, {"loss": float(value.detach())}

    return loss
