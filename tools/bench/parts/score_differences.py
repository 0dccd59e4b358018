"""Differences of the teacher's scores between a one-step result and its chain, over the time of the perturbation (TAD-SR, fig. 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ....sampling.noise import gaussian_field
from ....training.tad_sr.base import LatentModel
from ....training.tad_sr.losses import hsd_gradient, teacher_score
from .measures import luma

LR_NYQUIST = 1 / 8
"""Cycles per pixel of a picture above which its reduction by 4 has nothing."""


@dataclass(frozen=True)
class ScoreRow:
    """At one time index: RMS of eps^x - eps^tea, and the share of its power above the LR picture's Nyquist frequency, by result."""

    index: int
    sqrt_eta: float
    size: dict[str, float]
    fine: dict[str, float]


@torch.no_grad()
def score_rows(
    model: LatentModel, lr: Tensor, results: Mapping[str, Tensor], chain: Tensor, seeds: Sequence[int]
) -> list[ScoreRow]:
    """Rows over all times of a schedule, means over the pictures and noise seeds.

    lr: (B, 3, h, w) in [-1, 1]; results and chain: latents (B, C, H, W), which are perturbed by the same noise.
    """
    y, schedule, denoise = model.latents.start(lr, model.scale), model.schedule, model.denoise(lr)
    rows: list[ScoreRow] = []
    for index in range(schedule.num_steps):
        t = torch.full((len(y),), index)
        size, fine = dict.fromkeys(results, 0.0), dict.fromkeys(results, 0.0)
        for seed in seeds:
            noise = gaussian_field(tuple(y.shape[1:]), seed=seed)[None].expand_as(y)
            of_chain = teacher_score(denoise, chain, y, t, noise, schedule)
            for name, z in results.items():
                found = hsd_gradient(teacher_score(denoise, z, y, t, noise, schedule), of_chain)
                size[name] += float(found.square().flatten(1).mean(1).sqrt().mean()) / len(seeds)
                fine[name] += float(fine_share(luma(model.latents.decode(found))).mean()) / len(seeds)
        rows.append(ScoreRow(index, float(schedule.sqrt_etas[index]), size, fine))
    return rows


def fine_share(picture: Tensor, above: float = LR_NYQUIST) -> Tensor:
    """Share of the power of (B, 1, H, W) at frequencies above a number of cycles per pixel, (B,)."""
    power = torch.fft.fft2(picture.float()).abs().square()[:, 0]  # (B, H, W)
    down, across = (torch.fft.fftfreq(side) for side in picture.shape[-2:])
    fine = torch.hypot(down[:, None], across) > above
    return power[:, fine].sum(1) / power.flatten(1).sum(1).clamp_min(1e-12)
