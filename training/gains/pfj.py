"""The training run of the injection network on a frozen base and a frozen gain regressor (AdaDiffSR, section 3.4).

Two calls without gradients give a region its gains, the third one sees the injected condition and is compared with the
target; the paper does not say how it trained, so order and loss are ours.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.feature_injection import Pfj, inject
from ...models.gain_models import MetricInfo
from ...models.gain_regressor import Mmle
from ...sampling.adaptive.steppers import Step, stepper_for
from ...sampling.adaptive.types import NoiseSpace
from ...sampling.noise import generator_for
from ..data import PairSource
from ..runs import TrainingRun, descend, new_state
from .base import GainBase, Seen
from .config import PfjTrainConfig
from .mmle_labels import JUMPS

MEASURED = 2**32
"""Steps of batches that are only measured, never trained on, count from here."""


@dataclass
class PfjTraining(TrainingRun):
    """Everything a run holds; only `network` learns."""

    config: PfjTrainConfig
    base: GainBase
    source: PairSource
    regressor: Mmle
    metrics: tuple[MetricInfo, ...]
    t_half: float
    network: Pfj

    @property
    def seeds(self) -> tuple[int, ...]:
        return (self.config.seed,)

    def recipe(self) -> str:
        return self.config.text(about=self.about)

    def train_step(self, generator: torch.Generator) -> dict[str, float]:
        """One step of Adam; returns the loss's parts."""
        loss, numbers = third_loss(self, prepared(self, generator))
        descend(self.state, self.state.optimizers[0], loss, numbers, self.config.batch)
        return numbers


@dataclass(frozen=True)
class ThirdCall:
    """The state of a batch before the call that is trained on."""

    x: Tensor  # (B, C, h, w)
    sigma: Tensor  # (B,)
    gains: Tensor  # (B, M)
    seen: Seen
    z_0: Tensor
    target: Tensor  # (B, 3, H, W) in [0, 1]


def new_pfj_run(
    config: PfjTrainConfig,
    base: GainBase,
    source: PairSource,
    regressor: Mmle,
    metrics: Sequence[MetricInfo],
    t_half: float,
    network: Pfj,
    about: str = "",
) -> PfjTraining:
    """Step 0. The network starts as the identity whatever the seed: its last layer is zero."""
    if len(base.timesteps) < 2 + 1:
        raise ValueError(
            f"Got a chain of {len(base.timesteps)} calls: expected at least 3, two of which give the gains."
        )
    initialise(network, generator_for(config.seed))
    network.to(base.device).requires_grad_(True)
    regressor.to(base.device).requires_grad_(False).eval()
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr, foreach=False)
    state = new_state("pfj", network, [optimizer])
    return PfjTraining(state, config, base, source, regressor, tuple(metrics), t_half, network, about=about)


def initialise(network: Pfj, generator: torch.Generator) -> None:
    """He initialisation; the gains modulate a little from the start, and the output is zero: alpha is 1 and beta 0."""
    for name, parameter in network.named_parameters():
        if name.startswith("out.") or name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
        elif ".film." in name:
            torch.nn.init.normal_(parameter, 0, 0.02, generator=generator)
        elif parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)


@torch.no_grad()
def prepared(run: PfjTraining, generator: torch.Generator) -> ThirdCall:
    """A batch at random places of the chain, after two calls and two jumps; rows of a first call stand at its start."""
    base, config = run.base, run.config
    target, lr = run.source.batch(generator, config.batch)
    seen, z_0 = base.see(lr), base.encode(target)
    first, place, jumps = drawn_places(config, len(base.timesteps), generator)

    def noise() -> Tensor:
        return torch.randn(z_0.shape, generator=generator).to(z_0)

    sigmas, times = base.sigmas.to(z_0), z_0.new_tensor(base.timesteps)
    places = [place, place + jumps[0], place + jumps[0] + jumps[1]]
    begin = base.start(seen, noise())
    x = z_0 + sigmas[place].view(-1, 1, 1, 1) * noise()
    predictions: list[Tensor] = []
    for now, after in itertools.pairwise(places):
        predictions.append(base.predict(x, sigmas[now], seen))
        x = _jump(config.sampler, x, predictions[-1], sigmas[now], sigmas[after], noise())
    t = [times[index] for index in places]
    gains = run.regressor(predictions[1], predictions[0], seen.reference, t[1], t[0])
    full_reference = torch.tensor([metric.full_reference for metric in run.metrics], device=t[0].device)
    late = (t[0] < run.t_half)[:, None] | full_reference[None]
    rows = first.to(x.device)
    gains = gains * (late & ~rows[:, None])
    x = torch.where(rows[:, None, None, None], begin, x)
    sigma = torch.where(rows, sigmas[0], sigmas[places[2]])
    return ThirdCall(x, sigma, gains, seen, z_0, target.to(z_0))


def drawn_places(
    config: PfjTrainConfig, calls: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """(which rows are first calls, place of the first of three calls, both jumps), each (B,)."""
    size = config.batch
    first = torch.rand(size, generator=generator) < config.first_share
    most = min(JUMPS[-1], (calls - 1) // 2)
    jumps = torch.randint(1, most + 1, (2, size), generator=generator)
    place = (torch.rand(size, generator=generator) * (calls - jumps.sum(0))).long()
    return first, place, (jumps[0], jumps[1])


def _jump(sampler: str, x: Tensor, x0: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Tensor) -> Tensor:
    stepper = stepper_for(sampler, NoiseSpace.VARIANCE_EXPLODING)
    column = (-1, 1, 1, 1)
    return stepper.step(
        Step(x, x0, sigma.view(column), sigma_next.view(column), noise if stepper.needs_noise else None)
    )


def third_loss(run: PfjTraining, third: ThirdCall, *, injected: bool = True) -> tuple[Tensor, dict[str, float]]:
    """min(SNR, limit) |x0 - z_0|^2 of the third call, and the mean absolute error of its picture."""
    o = third.seen.condition
    o_hat = inject(o, *run.network(o, third.gains)) if injected else o
    x0 = run.base.predict(third.x, third.sigma, third.seen.with_condition(o_hat))
    weight = (1 / third.sigma.square()).clamp(max=run.config.snr_limit)  # SNR = abar / (1 - abar) = 1 / sigma^2
    error = (x0 - third.z_0).square().flatten(1).mean(1)
    latent = (weight * error).mean()
    pixels = (run.base.decode(x0) - third.target).abs().mean()
    loss = latent + run.config.pixel_weight * pixels
    moved = (o_hat - o).detach().abs().mean()
    return loss, {
        "loss": float(loss.detach()),
        "x0": float(error.detach().mean()),
        "l1": float(pixels.detach()),
        "moved": float(moved),
    }


@torch.no_grad()
def compared(run: PfjTraining, batches: int) -> tuple[float, float]:
    """Mean squared error of the third call's x0 with and without injection, on batches that are not trained on."""
    run.network.eval()
    with_it, without = 0.0, 0.0
    for index in range(batches):
        third = prepared(run, generator_for(run.config.seed, MEASURED + index))
        with_it += third_loss(run, third)[1]["x0"] / batches
        without += third_loss(run, third, injected=False)[1]["x0"] / batches
    run.network.train()
    return with_it, without
