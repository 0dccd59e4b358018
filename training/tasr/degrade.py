"""The degradation of TASR's public training code (its data set is named after CodeFormer, Zhou et al. 2022, section 4.1).

Blur, bilinear reduction, Gaussian noise, JPEG, and bilinear enlargement back to the size of the target.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...imaging.degradation.parts import filter_per_sample, gaussian_kernel, jpeg, quantize_to_8bit

KERNEL = 41
BLUR_SIGMA = (0.1, 12.0)
REDUCTION = (1.0, 12.0)
NOISE = (0.0, 15.0)
"""Standard deviation in 8-bit levels."""
QUALITY = (30.0, 100.0)
ISOTROPIC = 0.5
"""Share of isotropic kernels."""


def uniform(limits: tuple[float, float], generator: torch.Generator) -> float:
    return limits[0] + (limits[1] - limits[0]) * float(torch.rand((), generator=generator))


def degrade(picture: Tensor, generator: torch.Generator) -> Tensor:
    """The degraded picture at the same size, (B, 3, H, W) in [0, 1] on the CPU; each image has strengths of its own.

    Sides must exceed 20 pixels, half the blur kernel.
    """
    return torch.cat([_degrade_one(one, generator) for one in picture.split(1)])


def _degrade_one(picture: Tensor, generator: torch.Generator) -> Tensor:
    height, width = picture.shape[-2:]
    sigma = uniform(BLUR_SIGMA, generator)
    round_kernel = uniform((0, 1), generator) < ISOTROPIC
    other, angle = uniform(BLUR_SIGMA, generator), uniform((-math.pi, math.pi), generator)
    kernel = gaussian_kernel(KERNEL, sigma) if round_kernel else gaussian_kernel(KERNEL, sigma, other, angle)
    factor = uniform(REDUCTION, generator)
    size = (max(8, round(height / factor)), max(8, round(width / factor)))
    low = F.interpolate(filter_per_sample(picture, kernel[None]), size=size, mode="bilinear", align_corners=False)
    noise = uniform(NOISE, generator) / 255
    low = quantize_to_8bit(low + noise * torch.randn(low.shape, generator=generator))
    low = jpeg(low, torch.tensor([uniform(QUALITY, generator)]))
    return F.interpolate(low, size=(height, width), mode="bilinear", align_corners=False)
