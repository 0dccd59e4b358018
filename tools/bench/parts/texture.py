"""Fidelity and texture of a restored picture: the embedded benchmark's numbers, spectrum, and no-reference metrics of pyiqa."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ....imaging.metrics.named import NamedMetrics, named_metrics
from .measures import luma, measure
from .spectrum import spectrum_difference

LR_NYQUIST = 1 / 8
"""Cycles per pixel of the x4 picture above which the LR image says nothing: detail there is made by the network."""
OFFLINE = ("piqe",)
"""pyiqa's no-reference metrics that need no file. PIQE punishes blocks and noise; smooth pictures are its best."""
BETTER: Mapping[str, int] = {"psnr": 1, "ssim": 1, "nlpd": -1, "ger": 0, "spectrum": -1, "bias": 0, "piqe": -1}
"""1: higher is better, -1: lower, 0: nearer to the truth's (1 for GER, 0 for the bias of the spectrum)."""


@lru_cache(maxsize=4)
def metrics_at_hand(names: Sequence[str]) -> NamedMetrics:
    """pyiqa's metrics of these names on the CPU; those whose weights cannot be fetched are left out."""
    return named_metrics(names, torch.device("cpu"))


def measure_texture(image: Tensor, truth: Tensor, more: tuple[str, ...] = ()) -> dict[str, float]:
    """Numbers of an image (1, 3, H, W) in [0, 1] against the truth, both rounded to 8 bit first.

    spectrum: mean distance in dB of the luma's power from the truth's on 16 rings above the LR image's Nyquist frequency; bias:
    the same with its sign, below zero for too smooth. `more` are further metrics of pyiqa, left out where their weights are not
    to be had.
    """
    image, truth = ((x.clamp(0, 1) * 255).round() / 255 for x in (image, truth))
    values = {name: value for name, value in measure(image, truth).items() if name in BETTER}
    difference = spectrum_difference(luma(image), luma(truth), LR_NYQUIST)
    values |= {"spectrum": float(difference.abs().mean()), "bias": float(difference.mean())}
    for name, metric in metrics_at_hand((*OFFLINE, *more)).found.items():
        wants_truth = getattr(metric, "metric_mode", "NR") == "FR"
        values[name] = float(metric(image, truth) if wants_truth else metric(image))
    return values
