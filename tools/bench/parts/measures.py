"""Full-reference numbers of the embedded benchmark: pyiqa's, scikit-image's SSIM, and our gradient-energy ratio.

SSIM has Wang et al.'s settings (Gaussian window 11, sigma 1.5), as pyiqa's, whose float64 convolution takes 10 s a picture.
"""

from __future__ import annotations

from functools import lru_cache

import pyiqa
import torch
import torch.nn.functional as F
from pyiqa.utils.color_util import to_y_channel
from skimage.metrics import structural_similarity
from torch import Tensor

BORDER = 4
NAMES = ("psnr", "ssim", "nlpd", "gmsd", "ger")


@lru_cache(maxsize=8)
def _metric(name: str) -> torch.nn.Module:
    options = {"test_y_channel": True, "crop_border": BORDER} if name == "psnr" else {}
    return pyiqa.create_metric(name, device="cpu", **options)


def luma(image: Tensor) -> Tensor:
    """BT.601 luma (1, 1, H, W) without the border."""
    return F.pad(to_y_channel(image), (-BORDER,) * 4)


def ssim(image: Tensor, truth: Tensor) -> float:
    """SSIM of luma (Wang et al. 2004)."""
    a, b = luma(image)[0, 0].numpy(), luma(truth)[0, 0].numpy()
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    return float(structural_similarity(a, b, **options))


def gradient_energy_ratio(image: Tensor, truth: Tensor) -> float:
    """GER: sum of squared luma differences to the next pixel in image over that in truth, border of four left out.

    1 is as sharp as the truth, less is softer; noise and ringing raise it too. (1, 3, H, W) in [0, 1].
    """
    energies = []
    for x in (image, truth):
        y = luma(x)
        energies.append(float(y.diff(dim=-1).square().sum() + y.diff(dim=-2).square().sum()))
    return energies[0] / energies[1]


def measure(image: Tensor, truth: Tensor) -> dict[str, float]:
    """All numbers of an image (1, 3, H, W) in [0, 1] against the truth, both rounded to 8 bit first."""
    image, truth = ((x.clamp(0, 1) * 255).round() / 255 for x in (image, truth))
    values = {name: float(_metric(name)(image, truth)) for name in ("psnr", "nlpd", "gmsd")}
    return {**values, "ssim": ssim(image, truth), "ger": gradient_energy_ratio(image, truth)}


def vif(image: Tensor, truth: Tensor) -> float:
    """VIF of luma (Sheikh & Bovik 2006), 1 for the truth itself."""
    return float(_metric("vif")(image.clamp(0, 1), truth))


def piqe(image: Tensor) -> float:
    """PIQE (Venkatanath et al. 2015), without a reference; less is better."""
    return float(_metric("piqe")(image.clamp(0, 1)))
