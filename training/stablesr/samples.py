"""Restoring pictures with a base and parts as they are being trained: StableSR's own chain (section 3.1), without tiles."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.struct_parts import StructParts
from ...sampling.spaced import SpacedSchedule
from .run import GuidedBase


@torch.no_grad()
def sampled(
    base: GuidedBase, parts: StructParts | None, z_lr: Tensor, steps: int, generator: torch.Generator
) -> Tensor:
    """Latents (B, C, h, w) at the end of a respaced DDPM chain that starts from the noised LR latent z_lr."""
    chain = SpacedSchedule.of(steps)

    def noise() -> Tensor:
        return torch.randn(z_lr.shape, generator=generator).to(z_lr)

    last = float(chain.alphas_cumprod[-1])
    x = last**0.5 * z_lr + (1 - last) ** 0.5 * noise()
    for index in reversed(range(steps)):
        t = torch.full((len(x),), chain.timesteps[index], device=x.device)
        output = base.predict(parts, x, t, z_lr)
        x0 = clean_prediction(x, output, float(chain.alphas_cumprod[index]), predicts_v=base.predicts_v)
        x = chain.step(index, x, x0, noise())
    return x


def clean_prediction(x: Tensor, output: Tensor, a: float, *, predicts_v: bool) -> Tensor:
    """x0 from eps (Ho et al. 2020, eq. 15) or v (Salimans and Ho 2022, appendix D), at abar = a."""
    if predicts_v:
        return a**0.5 * x - (1 - a) ** 0.5 * output
    return (x - (1 - a) ** 0.5 * output) / a**0.5


@torch.no_grad()
def side_by_side(
    base: GuidedBase, parts: StructParts, pair: tuple[Tensor, Tensor], steps: int, generator: torch.Generator
) -> Tensor:
    """LR, restored and true picture in a row, (1, 3, H, 3 W) in [0, 1] on the CPU."""
    target, low = pair
    restored = base.decode(sampled(base, parts, base.encode(low), steps, generator)).clamp(0, 1).cpu()
    return torch.cat([low, restored, target], dim=3)[:1]
