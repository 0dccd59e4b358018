"""Colour of one image given to another: wavelet, AdaIN and Lab transfer on whole frames (B, C, H, W)."""

from __future__ import annotations

from enum import Enum

import torch.nn.functional as F
from torch import Tensor

from .resize import resize


class ColorFix(str, Enum):
    """How colour is transferred."""

    WAVELET = "wavelet"
    ADAIN = "adain"
    LAB = "lab"


def match_color(image: Tensor, reference: Tensor, mode: ColorFix, levels: int = 5) -> Tensor:
    """Gives image (B, 3, H, W) in [0, 1] the colours of reference (1 or B, 3, any size); levels are the wavelet's. Not clamped."""
    if reference.shape[0] not in (1, image.shape[0]):
        raise ValueError(
            f"Got {image.shape[0]} images and {reference.shape[0]} references: expected one reference, or one for each image."
        )
    reference = resize(reference, *image.shape[-2:]).clamp(0, 1)
    if mode is ColorFix.WAVELET:
        return wavelet_color_fix(image, reference, levels)
    if mode is ColorFix.ADAIN:
        return adain(image, reference)
    return lab_transfer(image, reference)


def adain(content: Tensor, style: Tensor, eps: float = 1e-5) -> Tensor:
    """Gives each channel of content the mean and deviation of style (Huang & Belongie 2017, eq. 8; unbiased variance + eps)."""
    content_mean, content_std = _moments(content, eps)
    style_mean, style_std = _moments(style, eps)
    return (content - content_mean) / content_std * style_std + style_mean


def _moments(image: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    # a single pixel has no unbiased variance: take 0
    correction = 1 if image.shape[-2] * image.shape[-1] > 1 else 0
    variance = image.var((2, 3), keepdim=True, correction=correction)
    return image.mean((2, 3), keepdim=True), (variance + eps).sqrt()  # (B, C, 1, 1)


def wavelet_color_fix(content: Tensor, style: Tensor, levels: int = 5) -> Tensor:
    """High bands of content plus the low band of style (StableSR, section 3.1 and its released code); any affine range."""
    if levels < 1:
        raise ValueError(f"Expected at least 1 wavelet level, got {levels}.")
    high, _ = wavelet_decompose(content, levels)
    _, low = wavelet_decompose(style, levels)
    return high + low


def wavelet_decompose(image: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Splits into (high, low), high + low = image; low is the a trous low pass after radii 1, 2, 4, ... 2^(levels - 1)."""
    low = image
    for level in range(levels):
        low = blur_level(low, 2**level)
    return image - low, low


def blur_level(image: Tensor, radius: int) -> Tensor:
    """One a trous step: the binomial kernel (1 2 1)/4 along each axis, dilated by radius, edges replicated."""
    return _binomial(_binomial(image, -2, radius), -1, radius)


def _binomial(image: Tensor, dim: int, radius: int) -> Tensor:
    # sums of shifted views: a dilated depthwise convolution of the same kernel is several times slower on a CPU
    padding = (radius, radius, 0, 0) if dim == -1 else (0, 0, radius, radius)
    padded, length = F.pad(image, padding, mode="replicate"), image.shape[dim]
    before, middle, after = (padded.narrow(dim, start, length) for start in (0, radius, 2 * radius))
    return (before + after).add_(middle, alpha=2).mul_(0.25)


def lab_transfer(content: Tensor, style: Tensor) -> Tensor:
    """AdaIN in CIELAB: mean and deviation of L, a and b are those of style (Reinhard et al. 2001, section 2). RGB in [0, 1]."""
    import kornia.color as kc  # noqa: PLC0415  costs over a second, and only this mode needs it

    return kc.lab_to_rgb(adain(kc.rgb_to_lab(content.clamp(0, 1)), kc.rgb_to_lab(style)), clip=False)
