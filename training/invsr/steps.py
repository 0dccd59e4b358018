"""One step of InvSR's training: what is drawn, one step of diffusion, and what is minimised (Yue et al. 2025, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor, nn

from ...imaging.resize import bicubic_upsample
from ...models.judges.latent_discriminator import LatentDiscriminator
from ...models.judges.latent_lpips import LatentLPIPS
from ...models.noise_predictor import NoisePredictor
from ..tad_sr.losses import discriminator_hinge, generator_hinge, per_sample_mse
from .config import InvSRConfig

LATENT_LIMIT = 10.0
"""Predictions are clamped to this before they are judged."""


class OneStepBase(Protocol):
    """The networks that stay as they are; whoever binds them to a host decides how."""

    pixels_per_cell: int
    device: torch.device

    @property
    def sigmas(self) -> Tensor:
        """(T,) noise levels by index, sigma^2 = (1 - abar) / abar."""
        ...

    def cast(self) -> AbstractContextManager[object]:
        """The arithmetic in which the trained networks run."""
        ...

    def encode(self, picture: Tensor) -> Tensor:
        """Scaled latents (B, 4, h, w) of a picture (B, 3, H, W), [0, 1] but not clamped, without gradients."""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """The picture in [0, 1], not clamped, of scaled latents."""
        ...

    def predict(self, z: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """Predicted noise of z_t / sqrt(1 + sigma^2) at the indices t (B,); differentiable in it."""
        ...


@dataclass(frozen=True)
class InvSRBatch:
    """What a step compares, all on the networks' device."""

    lr: Tensor
    """(B, 3, H / scale, W / scale) in [0, 1]."""
    z_lr: Tensor
    """Latent (B, 4, h, w) of the enlarged LR picture."""
    z_gt: Tensor
    t: Tensor
    """Indices tau - 1, (B,)."""
    noise: Tensor
    """Standard normal, from which the predicted distribution is sampled."""
    text: Tensor
    """(B, L, C)."""

    def split(self, size: int) -> list[tuple[InvSRBatch, float]]:
        """Parts of at most `size` images (0: all of them), each with its share of the batch."""
        columns = [getattr(self, field.name).split(size or len(self.t)) for field in fields(self)]
        return [(InvSRBatch(*part), len(part[0]) / len(self.t)) for part in zip(*columns)]


@torch.no_grad()
def prepare(
    config: InvSRConfig, base: OneStepBase, hr: Tensor, lr: Tensor, text: Tensor, generator: torch.Generator
) -> InvSRBatch:
    """Latents, start steps and noise for pictures in [0, 1] and one text (1, L, C); the generator is on the CPU.

    The LR picture is enlarged as inference does, its overshoot left in.
    """
    hr, lr = hr.to(base.device), lr.to(base.device)
    large, size = bicubic_upsample(lr, hr.shape[-1] // lr.shape[-1]), config.microbatch or len(hr)
    z_gt, z_lr = (torch.cat([base.encode(part) for part in side.split(size)]) for side in (hr, large))
    chosen = torch.randint(len(config.taus), (len(hr),), generator=generator)
    t = torch.tensor(config.taus)[chosen] - 1
    noise = torch.randn(z_gt.shape, generator=generator)
    return InvSRBatch(lr, z_lr, z_gt, t.to(base.device), noise.to(z_gt), text.to(base.device).expand(len(hr), -1, -1))


def one_step(
    base: OneStepBase, predict: Callable[[Tensor, Tensor], Tensor], network: NoisePredictor, batch: InvSRBatch
) -> tuple[Tensor, Tensor]:
    """The start z_t = z_lr + sigma_t n with predicted noise n, and the clean latent z_t - sigma_t eps (InvSR, eqs. 8, 10).

    In the paper's coordinates both are divided by sqrt(1 + sigma_t^2). Gradients come through eps and directly.
    """
    sigma = base.sigmas.to(batch.z_lr)[batch.t].view(-1, 1, 1, 1)
    noise = network.distribution(predict(batch.lr, batch.t)).sample(batch.noise)
    z_t = batch.z_lr + sigma * noise
    eps = base.predict(z_t / (sigma.square() + 1).sqrt(), batch.t, batch.text)
    return z_t, z_t - sigma * eps


def predictor_losses(
    config: InvSRConfig,
    step: int,
    z: Tensor,
    batch: InvSRBatch,
    lpips: LatentLPIPS | None,
    discriminator: LatentDiscriminator | None,
) -> dict[str, Tensor]:
    """Losses (B,) of predictions z by name, to be weighed by the settings `<name>_weight`; step counts from 0."""
    losses = {"mse": per_sample_mse(z, batch.z_gt)}
    if lpips is not None and config.lpips_weight:
        losses["lpips"] = lpips(z, batch.z_gt)
    if discriminator is not None and step >= config.adversarial_after:
        logits = discriminator(z.clamp(-LATENT_LIMIT, LATENT_LIMIT), batch.t, batch.text)
        losses["adversarial"] = torch.stack([generator_hinge(head.float()) for head in logits]).mean(0)
    return losses


def discriminator_loss(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """Half the hinge loss, averaged over the heads, (B,)."""
    return 0.5 * torch.stack([discriminator_hinge(*pair) for pair in zip(real, fake)]).mean(0)


def judged(discriminator: nn.Module, z: Tensor, batch: InvSRBatch) -> tuple[list[Tensor], list[Tensor]]:
    """Logits of the true latents and of predictions, which get no gradients, at the same times and text."""
    fake = z.detach().clamp(-LATENT_LIMIT, LATENT_LIMIT)
    real, made = (discriminator(latent, batch.t, batch.text) for latent in (batch.z_gt, fake))
    return [head.float() for head in real], [head.float() for head in made]
