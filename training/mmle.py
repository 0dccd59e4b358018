"""The training run of the gain regressor: L2 on gains of pairs of cached predictions, exact resume (AdaDiffSR, section 3.2).

The base is not needed here: it is frozen, and its predictions lie on disk (`trajectories`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from ..models.gain_models import MetricInfo
from ..models.mmle import Mmle
from ..sampling.adaptive.gain import GainMetric
from ..sampling.noise import generator_for
from .checkpoint import TrainState
from .loss_log import LossLog
from .mmle_config import MmleTrainConfig, cosine
from .mmle_labels import JUMPS, Labels
from .runs import advance, descend, fresh_state
from .trajectories import Trajectories


@dataclass
class MmleRun:
    """Everything a run holds."""

    config: MmleTrainConfig
    network: Mmle
    trajectories: Trajectories
    metrics: tuple[GainMetric, ...]
    timesteps: tuple[float, ...]
    labels: Labels
    scales: Tensor
    """s_c (M,): deviations of the targets that are trained on."""
    state: TrainState
    log: LossLog
    device: torch.device
    about: str = ""

    @property
    def training(self) -> Tensor:
        """Trajectories that are trained on: all but the last ones."""
        return torch.arange(len(self.trajectories) - held_out(self.config, len(self.trajectories)))

    @property
    def metric_infos(self) -> tuple[MetricInfo, ...]:
        """What the file says about the metrics."""
        return tuple(
            MetricInfo(m.name, m.low, m.high, m.lower_better, m.full_reference, m.weight, scale)
            for m, scale in zip(self.metrics, self.scales.tolist())
        )


def held_out(config: MmleTrainConfig, count: int) -> int:
    """Number of trajectories that are kept from training; at least one is left."""
    return min(count - 1, round(config.held_out * count))


def initialise(network: Mmle, generator: torch.Generator) -> None:
    """He initialisation, whose first layer sees differences too.

    Of every four of its channels one reads x0 - last x0, one x0 - o and one last x0 - o (ours): gains are small differences between
    three latents that are nearly alike.
    """
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        now, before, original = cast("Tensor", network.convs[0].weight).chunk(3, dim=1)
        before[0::4], original[0::4] = -now[0::4], 0
        original[1::4], before[1::4] = -now[1::4], 0
        original[2::4], now[2::4] = -before[2::4], 0
        cast("Tensor", network.fc2.weight).mul_(0.1)


def new_run(
    config: MmleTrainConfig,
    network: Mmle,
    trajectories: Trajectories,
    metrics: Sequence[GainMetric],
    timesteps: Sequence[float],
    device: torch.device,
    about: str = "",
) -> MmleRun:
    """Step 0; the metrics have their final ranges (`mmle_labels.with_ranges`)."""
    labels = Labels.of(trajectories, metrics, timesteps, config.t_half)
    initialise(network, generator_for(config.seed))
    network.to(device).requires_grad_(True)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr, foreach=False)
    state = fresh_state("mmle", network, [optimizer])
    run = MmleRun(
        config,
        network,
        trajectories,
        tuple(metrics),
        tuple(timesteps),
        labels,
        torch.ones(len(metrics)),
        state,
        LossLog(),
        device,
        about,
    )
    run.scales = labels.deviations(run.training)
    return run


def train(run: MmleRun, until: int, after_step: Callable[[MmleRun], None] | None = None) -> None:
    """Trains up to step `until`; see `runs.advance`."""
    advance(run, train_step, until, after_step)


def draw_pairs(run: MmleRun, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """(trajectory, before, now), each (B,): jumps are uniform in `JUMPS`, so that the network sees all gains."""
    places, size = run.labels.values.shape[1], run.config.batch
    allowed = [jump for jump in JUMPS if jump < places]
    jump = torch.tensor(allowed)[torch.randint(len(allowed), (size,), generator=generator)]
    before = (torch.rand(size, generator=generator) * (places - jump)).long()
    trajectory = torch.randint(len(run.training), (size,), generator=generator)
    return trajectory, before, before + jump


def train_step(run: MmleRun) -> dict[str, float]:
    """One step: the squared error of every defined gain in units of s_c."""
    optimizer = run.state.optimizers[0]
    for group in optimizer.param_groups:
        group["lr"] = cosine(run.config.lr, run.state.step, run.config.schedule)
    pairs = draw_pairs(run, generator_for(run.config.seed, 1, run.state.step))
    targets, defined = run.labels.gains(*pairs)
    optimizer.zero_grad()
    found = predicted(run, *pairs)
    error = ((found - targets.to(found)) / run.scales.to(found)).square() * defined.to(found)
    loss = error.sum() / defined.sum().clamp_min(1).to(found)
    counts = defined.sum(0).tolist()
    parts = {
        metric.name: value / count
        for metric, value, count in zip(run.metrics, error.detach().sum(0).tolist(), counts)
        if count
    }
    numbers = {"loss": float(loss.detach()), **parts}
    descend(run.state, optimizer, loss, numbers, run.config.batch)
    return numbers


def predicted(run: MmleRun, trajectory: Tensor, before: Tensor, now: Tensor) -> Tensor:
    """The network's gains (B, M) for pairs of cached predictions."""
    rows, first, second = trajectory.tolist(), before.tolist(), now.tolist()
    x0, last = (run.trajectories.latents(rows, places).to(run.device) for places in (second, first))
    times = torch.tensor(run.timesteps)
    t, t_last = times[now].to(run.device), times[before].to(run.device)
    return run.network(x0, last, run.trajectories.references(rows).to(run.device), t, t_last)
