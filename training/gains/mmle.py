"""The training run of the gain regressor: L2 on gains of pairs of cached predictions, exact resume (AdaDiffSR, section 3.2).

The base is not needed here: it is frozen, and its predictions lie on disk (`trajectories`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from ...models.gain_models import MetricInfo
from ...models.gain_regressor import GROUPS, STATISTICS, Mmle, latent_statistics
from ...sampling.adaptive.gain import GainMetric
from ...sampling.noise import generator_for
from ..optim import learning_rate, set_learning_rate
from ..runs import TrainingRun, descend, new_state
from .config import MmleTrainConfig
from .mmle_labels import JUMPS, Labels
from .trajectories import Trajectories

RULERS = (0.01, 0.3)
"""Least and greatest of the constants that the first layer begins with, in units of its outputs."""
DIFFERENCES = (("x0", "reference"), ("last x0", "reference"), ("x0", "last x0"))
"""Pairs of latents whose difference a channel of the first layer begins with."""


@dataclass
class MmleRun(TrainingRun):
    """Everything that the training of a regressor needs; the base's predictions are cached."""

    config: MmleTrainConfig
    network: Mmle
    trajectories: Trajectories
    metrics: tuple[GainMetric, ...]
    timesteps: tuple[float, ...]
    labels: Labels
    scales: Tensor
    """s_c (M,): deviations of the targets that are trained on."""
    device: torch.device
    statistics: Tensor | None = None
    """(N, n, jumps, 12) `latent_statistics` of the pair that begins at a place, where nothing else is learnt from."""

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.config.seed, 1

    def recipe(self) -> str:
        return self.config.text(about=self.about)

    def train_step(self, generator: torch.Generator) -> dict[str, float]:
        """One step: the squared error of every defined gain in units of s_c."""
        config = self.config
        set_learning_rate(
            self.state.optimizers, learning_rate(config.lr, self.state.step, cosine_steps=config.schedule)
        )
        pairs = draw_pairs(self, generator)
        targets, defined = self.labels.gains(*pairs)
        found = predicted(self, *pairs)
        error = ((found - targets.to(found)) / self.scales.to(found)).square() * defined.to(found)
        loss = error.sum() / defined.sum().clamp_min(1).to(found)
        sums, counts = error.detach().sum(0).tolist(), defined.sum(0).tolist()
        parts = {metric.name: value / count for metric, value, count in zip(self.metrics, sums, counts) if count}
        numbers = {"loss": float(loss.detach()), **parts}
        descend(self.state, self.state.optimizers[0], loss, numbers, config.batch)
        return numbers

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
    """He initialisation, with a first layer that sees differences and their size (ours).

    Gains are small differences between three latents that are nearly alike, so its channels read x0 - o, last x0 - o,
    x0 - last x0 and details of x0 and last x0 in turn. A norm forgets how large its group is; the last channel of every group is
    therefore a constant to measure the others by.
    """
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    weight, bias = (cast("Tensor", getattr(network.convs[0], name)) for name in ("weight", "bias"))
    size = len(weight) // GROUPS
    with torch.no_grad():
        latents: dict[str, Tensor] = dict(zip(("x0", "last x0", "reference"), weight.chunk(3, dim=1)))
        readers = [channel for channel in range(len(weight)) if size == 1 or channel % size < size - 1]
        for number, channel in enumerate(readers):
            if number % 5 > 2:
                _read_detail(latents, channel, "x0" if number % 2 else "last x0")
            else:
                _read_difference(latents, channel, *DIFFERENCES[number % 3])
        for group in range(GROUPS if size > 1 else 0):
            weight[(group + 1) * size - 1] *= 0.1
            bias[(group + 1) * size - 1] = RULERS[0] * (RULERS[1] / RULERS[0]) ** (group / (GROUPS - 1))
        cast("Tensor", network.fc2.weight).mul_(0.1)
        if network.stats is not None:  # what convolutions see comes in later: few trajectories are soon known by heart
            cast("Tensor", network.fc1.weight)[:, : network.config.features] = 0


def _read_difference(latents: Mapping[str, Tensor], channel: int, one: str, other: str) -> None:
    """Leaves a channel the difference of two latents, under its weights for the first."""
    for name, weight in latents.items():
        if name == other:
            weight[channel] = -latents[one][channel]
        elif name != one:
            weight[channel] = 0


def _read_detail(latents: Mapping[str, Tensor], channel: int, name: str) -> None:
    """Leaves a channel the changes within one latent: its weights are zero in the mean of every input channel."""
    for other, weight in latents.items():
        if other == name:
            weight[channel] -= weight[channel].mean((1, 2), keepdim=True)
        else:
            weight[channel] = 0


def new_mmle_run(
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
    if not config.convolutions:
        _silence(network)
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=config.lr, foreach=False)
    state, scales = new_state("mmle", network, [optimizer]), torch.ones(len(metrics))
    parts = (config, network, trajectories, tuple(metrics), tuple(timesteps), labels, scales, device)
    run = MmleRun(state, *parts, about=about)
    run.scales = labels.deviations(run.training)
    run.statistics = None if config.convolutions else pair_statistics(trajectories, len(timesteps))
    return run


@torch.no_grad()
def pair_statistics(trajectories: Trajectories, places: int) -> Tensor:
    """(N, n, jumps, 12) statistics of every pair of places with a jump of `JUMPS`; 0 where the chain is over."""
    table = torch.zeros(len(trajectories), places, len(JUMPS), STATISTICS)
    for row in range(len(trajectories)):
        chain, reference = trajectories.latents([row] * places, range(places)), trajectories.references([row])
        for index, jump in enumerate(JUMPS):
            pairs = max(0, places - jump)
            if pairs:
                original = reference.expand(pairs, -1, -1, -1)
                table[row, :pairs, index] = latent_statistics(chain[jump:], chain[:-jump], original)
    return table


def _silence(network: Mmle) -> None:
    """Freezes the convolutions and the zeros behind which they stand."""
    if network.stats is None:
        raise ValueError(
            "This regressor has no statistics, so it learns nothing without its convolutions: expected size 'small', or convolutions."
        )
    network.convs.requires_grad_(False)
    network.norms.requires_grad_(False)
    feature_mask = torch.ones(network.config.features + network.config.statistics + network.config.time_channels)
    feature_mask[: network.config.features] = 0
    cast("Tensor", network.fc1.weight).register_hook(lambda gradient: gradient * feature_mask.to(gradient))


def draw_pairs(run: MmleRun, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """(trajectory, before, now), each (B,): jumps are uniform in `JUMPS`, so that the network sees all gains."""
    places, size = run.labels.values.shape[1], run.config.batch
    allowed = [jump for jump in JUMPS if jump < places]
    jump = torch.tensor(allowed)[torch.randint(len(allowed), (size,), generator=generator)]
    before = (torch.rand(size, generator=generator) * (places - jump)).long()
    trajectory = torch.randint(len(run.training), (size,), generator=generator)
    return trajectory, before, before + jump


def predicted(run: MmleRun, trajectory: Tensor, before: Tensor, now: Tensor) -> Tensor:
    """The network's gains (B, M) for pairs of cached predictions."""
    times = torch.tensor(run.timesteps)
    t, t_last = times[now].to(run.device), times[before].to(run.device)
    if run.statistics is not None:
        known = run.statistics[trajectory, before, now - before - 1].to(run.device)
        return run.network.from_features(known.new_zeros(len(known), run.network.config.features), known, t, t_last)
    rows, first, second = trajectory.tolist(), before.tolist(), now.tolist()
    x0, last = (run.trajectories.latents(rows, places).to(run.device) for places in (second, first))
    return run.network(x0, last, run.trajectories.references(rows).to(run.device), t, t_last)
