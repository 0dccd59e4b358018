"""Middles of held-out photographs and what is measured of their restorations, for bases that are slow or small.

Options of a bench that uses them: photos, side (pixels of the truth) and degradation.
"""

from __future__ import annotations

import argparse
from statistics import mean

from torch import Tensor

from ....imaging.resize import bicubic_upsample
from ..embedded import as_tensor
from .heldout import SETS, low_resolution, picture
from .measures import luma, measure, piqe
from .spectrum import spectrum_distance

NYQUIST = 1 / 8
"""Of the LR picture, in cycles per HR pixel."""
MEASURES = ("psnr", "ssim", "ger", "spectrum", "piqe")
Rows = dict[str, dict[str, list[float]]]  # kind -> measure -> one value for each picture and seed


def crops(options: argparse.Namespace) -> list[tuple[Tensor, Tensor]]:
    """(LR, truth) of the middle of each held-out photograph, (1, 3, h, w) in [0, 1]."""
    pairs: list[tuple[Tensor, Tensor]] = []
    side = options.side // 4
    for index, name in enumerate(SETS["photos"][: options.photos]):
        whole = picture(name)
        small = low_resolution(whole, options.degradation, index)
        top, left = (small.shape[0] - side) // 2, (small.shape[1] - side) // 2
        part = whole[4 * top : 4 * (top + side), 4 * left : 4 * (left + side)]
        pairs.append((as_tensor(small[top : top + side, left : left + side]), as_tensor(part)))
    return pairs


def measured(result: Tensor, truth: Tensor) -> dict[str, float]:
    """What is asked of a picture; the reward of the trainings, gradient energy in windows, is near to GER alone."""
    found = measure(result, truth)
    spectrum = float(spectrum_distance(luma(result), luma(truth), NYQUIST))
    return {name: found[name] for name in ("psnr", "ssim", "ger")} | {"spectrum": spectrum, "piqe": piqe(result)}


def table(rows: Rows, first: str) -> list[str]:
    """Means of each kind."""
    lines = [f"| {first} | PSNR-Y | SSIM | GER | spectrum distance, dB | PIQE |", "|---" * 6 + "|"]
    for name, values in rows.items():
        psnr, ssim, ger, spectrum, naturalness = (mean(values[key]) for key in MEASURES)
        lines.append(f"| {name} | {psnr:.2f} | {ssim:.3f} | {ger:.2f} | {spectrum:.2f} | {naturalness:.1f} |")
    return lines


def bicubic(options: argparse.Namespace) -> Rows:
    """The enlarged LR picture itself, for a scale."""
    found = [measured(bicubic_upsample(low, 4).clamp(0, 1), truth) for low, truth in crops(options)]
    return {"bicubic": {key: [row[key] for row in found] for key in MEASURES}}
