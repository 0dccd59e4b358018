"""How well a trained regressor tells the gains of trajectories that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .mmle import MmleRun, predicted
from .mmle_labels import against_input

CHUNK = 64


@dataclass(frozen=True)
class Agreement:
    """Correlation of predicted and measured gains by metric, and the share of calls that both call changing or still."""

    correlations: dict[str, float]
    same_class: float
    pairs: int


@torch.no_grad()
def held_out_agreement(run: MmleRun, tau: float, most: int = 2048, seed: int = 0) -> Agreement | None:
    """On pairs of the trajectories that were kept back; None where there are none.

    tau is the gain per step of the chain that divides changing from still, compared with the weighted sum of gains against the
    input, as the first half of a run has it.
    """
    rows = torch.arange(len(run.training), len(run.trajectories))
    if not len(rows):
        return None
    pairs = run.labels.all_pairs(rows)
    chosen = torch.randperm(len(pairs[0]), generator=torch.Generator().manual_seed(seed))[:most]
    trajectory, before, now = (part[chosen] for part in pairs)
    run.network.eval()
    found = torch.cat(
        [
            predicted(run, *part).cpu()
            for part in zip(trajectory.split(CHUNK), before.split(CHUNK), now.split(CHUNK), strict=True)
        ]
    )
    run.network.train()
    targets, defined = run.labels.gains(trajectory, before, now)
    correlations = {
        metric.name: correlation(found[defined[:, i], i], targets[defined[:, i], i])
        for i, metric in enumerate(run.metrics)
    }
    changing = [(against_input(gains, run.metrics).abs() / (now - before)) > tau for gains in (found, targets)]
    return Agreement(correlations, float((changing[0] == changing[1]).float().mean()), len(chosen))


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's; NaN where one of both is constant or there are fewer than three values."""
    if len(a) < 3:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt())
