"""Colour of one image given to another: wavelet, AdaIN, Lab and YCbCr transfer on whole frames (B, C, H, W)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .resize import resize


class ColorFix(str, Enum):
    """How colour is transferred."""

    WAVELET = "wavelet"
    ADAIN = "adain"
    LAB = "lab"
    YCBCR = "ycbcr"


GLOBAL_FIXES = (ColorFix.ADAIN, ColorFix.LAB)
"""Transfers by statistics of the whole picture; the others look at a neighbourhood."""


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
    return lab_transfer(image, reference) if mode is ColorFix.LAB else ycbcr_transfer(image, reference)


def adain(content: Tensor, style: Tensor, eps: float = 1e-5) -> Tensor:
    """Gives each channel of content the mean and deviation of style (Huang & Belongie 2017, eq. 8; unbiased variance + eps)."""
    return transfer_moments(content, _moments(content, eps), _moments(style, eps))


class Moments(NamedTuple):
    """Mean and deviation of each channel (B, C, 1, 1)."""

    mean: Tensor
    deviation: Tensor


def transfer_moments(content: Tensor, own: Moments, wanted: Moments) -> Tensor:
    """AdaIN (Huang & Belongie 2017, eq. 8) of a picture (B, C, H, W) or a part of it, by the moments of the whole one."""
    return (content - own.mean) / own.deviation * wanted.deviation + wanted.mean


def _moments(image: Tensor, eps: float) -> Moments:
    # a single pixel has no unbiased variance: take 0
    correction = 1 if image.shape[-2] * image.shape[-1] > 1 else 0
    variance = image.var((2, 3), keepdim=True, correction=correction)
    return Moments(image.mean((2, 3), keepdim=True), (variance + eps).sqrt())


class RunningMoments:
    """Moments of one picture that comes in parts, which are summed in double precision on the CPU."""

    def __init__(self) -> None:
        self._count, self._sum, self._squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, part: Tensor) -> None:
        """part: (1, C, H, W)."""
        values = part.detach().cpu().double()
        self._count += values.shape[-2] * values.shape[-1]
        self._sum = self._sum + values.sum((2, 3), keepdim=True)
        self._squares = self._squares + values.square().sum((2, 3), keepdim=True)

    def moments(self, eps: float = 1e-5) -> Moments:
        """Those of all parts, as `adain` takes them, in float32."""
        mean = self._sum / self._count
        variance = (self._squares - self._count * mean.square()) / max(1, self._count - 1)
        return Moments(mean.float(), (variance.clamp(min=0) + eps).sqrt().float())


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
    return lab_to_rgb(adain(rgb_to_lab(content), rgb_to_lab(style)))


def rgb_to_lab(image: Tensor) -> Tensor:
    """RGB (B, 3, H, W), clamped to [0, 1], in CIELAB."""
    import kornia.color as kc  # noqa: PLC0415  costs over a second, and only this mode needs it

    return kc.rgb_to_lab(image.clamp(0, 1))


def lab_to_rgb(image: Tensor) -> Tensor:
    """Inverse of `rgb_to_lab`; not clamped."""
    import kornia.color as kc  # noqa: PLC0415  as above

    return kc.lab_to_rgb(image, clip=False)


# ITU-R BT.601 with 8-bit levels, as Matlab's rgb2ycbcr has it; kornia's conversion is the full-range one.
_YCBCR = ((65.481, 128.553, 24.966), (-37.797, -74.203, 112.0), (112.0, -93.786, -18.214))
_YCBCR_OFFSET = (16.0, 128.0, 128.0)
_RGB = ((0.00456621, 0.0, 0.00625893), (0.00456621, -0.00153632, -0.00318811), (0.00456621, 0.00791071, 0.0))
_RGB_OFFSET = (-222.921, 135.576, -276.836)


def rgb_to_ycbcr(image: Tensor) -> Tensor:
    """RGB (B, 3, H, W) in [0, 1] -> luma and chroma (BT.601, 8-bit levels over 255), clamped to [0, 1]."""
    return (_mix(image, _YCBCR, _YCBCR_OFFSET) / 255.0).clamp(0, 1)


def ycbcr_to_rgb(image: Tensor) -> Tensor:
    """Inverse of `rgb_to_ycbcr` with Matlab's rounded coefficients, clamped to [0, 1]."""
    return (_mix(image * 255.0**2, _RGB, _RGB_OFFSET) / 255.0).clamp(0, 1)


def ycbcr_transfer(content: Tensor, style: Tensor) -> Tensor:
    """The luma of content with the chroma of style. RGB in [0, 1]."""
    luma, chroma = rgb_to_ycbcr(content)[:, :1], rgb_to_ycbcr(style)[:, 1:]
    return ycbcr_to_rgb(torch.cat([luma, chroma], dim=1))


def _mix(image: Tensor, matrix: Sequence[Sequence[float]], offset: Sequence[float]) -> Tensor:
    weights = torch.tensor(matrix, dtype=image.dtype, device=image.device)
    return torch.einsum("ij,bjhw->bihw", weights, image) + weights.new_tensor(offset)[:, None, None]
