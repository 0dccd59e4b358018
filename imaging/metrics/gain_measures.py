"""Measures for gain estimation: cheap ones on latents, on their linear picture, and any metric on decoded pictures.

A measure takes pictures (N, C, h, w) and references of the same shape and gives raw values (N,), row by row. Pictures are
float32; RGB is in [0, 1], latents are in the model's scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from ..detail import sharpness
from ..resize import bicubic_upsample
from ..transfer import upload
from .pyramid_distance import pyramid_distance

Measure: TypeAlias = Callable[[Tensor, Tensor], Tensor]
HALF_RANGE = 4.0
"""Latents of Stable Diffusion lie in about -4 to 4."""


def latent_measures(half_range: float = HALF_RANGE) -> dict[str, Measure]:
    """psnr with a data range of twice half_range, nlpd of (v + half_range) / (2 half_range), sharpness; all channels alike."""
    if not half_range > 0:
        raise ValueError(
            f"Got a half range of {half_range}: expected the greatest magnitude of usual latents, above 0."
        )

    def nlpd(x: Tensor, reference: Tensor) -> Tensor:
        return pyramid_distance(*((v + half_range) / (2 * half_range) for v in (x, reference)))

    return {
        "psnr": lambda x, reference: psnr(x, reference, 2 * half_range),
        "nlpd": nlpd,
        "sharpness": lambda x, _: sharpness(x),
    }


def rgb_measures() -> dict[str, Measure]:
    """The measures of pictures that need no weights: psnr, nlpd of luma (BT.601), sharpness."""
    return {
        "psnr": lambda x, reference: psnr(x, reference, 1.0),
        "nlpd": lambda x, reference: pyramid_distance(luma(x), luma(reference)),
        "sharpness": lambda x, _: sharpness(x),
    }


def picture_measures(
    metrics: Mapping[str, Callable[..., Tensor]], no_reference: Sequence[str], enlarge: int = 1
) -> dict[str, Measure]:
    """Metrics that were made elsewhere (pyiqa's), those in no_reference called with the picture alone.

    enlarge is for metrics that expect more pixels than the view has. Values stay raw: what they mean says `GainMetric`.
    """

    def measure(name: str) -> Measure:
        def value(x: Tensor, reference: Tensor) -> Tensor:
            seen = [x] if name in no_reference else [x, reference]
            pictures = [bicubic_upsample(picture, enlarge).clamp(0, 1) for picture in seen]
            return metrics[name](*pictures).reshape(len(x)).float()

        return value

    return {name: measure(name) for name in metrics}


def linear_rgb(latent: Tensor, factors: Sequence[Sequence[float]], bias: Sequence[float] | None = None) -> Tensor:
    """The host's linear picture of latents (N, C, h, w), as (N, 3, h, w) in [0, 1]: v = latent factors + bias, (v + 1) / 2.

    factors has a row (R, G, B) for each channel; a latent of another number of channels is refused.
    """
    if len(factors) != latent.shape[1]:
        raise ValueError(
            f"Got latents of {latent.shape[1]} channels and RGB factors for {len(factors)}: expected a row for each channel; "
            "use the back end 'latent'."
        )
    rows = torch.tensor([*factors, bias if bias is not None else (0.0, 0.0, 0.0)], dtype=latent.dtype)
    matrix, offset = upload(rows, latent.device).split([len(factors), 1])  # (C, 3), (1, 3)
    rgb = torch.einsum("nchw,cd->ndhw", latent, matrix) + offset.view(1, 3, 1, 1)
    return ((rgb + 1) / 2).clamp(0, 1)


def psnr(x: Tensor, reference: Tensor, data_range: float) -> Tensor:
    """10 log10(range^2 / MSE) of each row; infinite for equal ones."""
    error = (x - reference).square().flatten(1).mean(1)
    return 10 * torch.log10(data_range**2 / error)


def luma(rgb: Tensor) -> Tensor:
    """BT.601 luma (N, 1, h, w) in [0, 1]."""
    weights = upload(torch.tensor((0.299, 0.587, 0.114), dtype=rgb.dtype), rgb.device)
    return rgb.mul(weights.view(1, 3, 1, 1)).sum(1, keepdim=True)
