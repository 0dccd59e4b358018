"""The training run of TASR: two optimisers in turns, exact resume.

What happens at step n depends on the seed, the stage and n alone, so that a resumed run equals an uninterrupted one bit for
bit. Nothing of the frozen networks is touched; see `tasr_steps` for one step, `host.training.tasr` for the networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from ...models.time_aware_adapter import TimeAwareAdapters
from ...sampling.noise import generator_for
from ..checkpoint import TrainState
from ..loss_log import LossLog
from ..runs import advance, descend, fresh_state, on_cpu
from .config import BOTH, TasrConfig
from .rewards import Reward
from .steps import FrozenBase, Pictures, draw, step_loss

PHASES = {1: "stage I", 2: "stage II"}


class PictureSource(Protocol):
    """Where batches come from; the same generator state gives the same batch."""

    def batch(self, generator: torch.Generator, size: int) -> Pictures: ...


@dataclass
class Run:
    """Everything a run holds. `state.model` has the trained networks under `controlnet` and, in stage II, `adapters`."""

    config: TasrConfig
    base: FrozenBase
    source: PictureSource
    reward: Reward | None
    state: TrainState
    log: LossLog
    about: str = ""
    """What else a checkpoint must agree in: which networks were trained, on what."""

    @property
    def controlnet(self) -> nn.Module:
        return self.state.model.get_submodule("controlnet")

    @property
    def adapters(self) -> TimeAwareAdapters | None:
        return (
            cast("TimeAwareAdapters", self.state.model.get_submodule("adapters")) if self.config.stage == BOTH else None
        )


def new_state(config: TasrConfig, controlnet: nn.Module, adapters: TimeAwareAdapters | None) -> TrainState:
    """Step 0 of a stage, with one AdamW for each trained network (TASR, section 4.1: weight decay 0.01)."""
    networks = {"controlnet": controlnet, **({} if adapters is None else {"adapters": adapters})}
    if (adapters is None) == (config.stage == BOTH):
        raise ValueError(
            "Stage II trains adapters and stage I has none: expected adapters to be given in stage II only."
        )
    optimizers = [
        torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay, foreach=False)
        for network in networks.values()
    ]
    return fresh_state(PHASES[config.stage], nn.ModuleDict(networks), optimizers)  # the paper averages nothing


def train(run: Run, until: int, after_step: Callable[[Run], None] | None = None) -> None:
    """Trains from the state's step up to step `until`; see `runs.advance`."""
    advance(run, train_step, until, after_step)


def train_step(run: Run) -> dict[str, float]:
    """One optimiser step of the network whose turn it is; returns the loss's parts."""
    config, step = run.config, run.state.step
    generator = generator_for(config.seed, config.stage, step)
    pictures = run.source.batch(generator, config.batch)
    scale = run.base.pixels_per_cell
    cells = [side // scale for side in pictures.target.shape[-2:]]
    drawn = draw(config, step, (len(pictures.target), 4, *cells), len(run.base.alphas_cumprod), generator)
    learn = config.trains_adapters(step)
    optimizer = run.state.optimizers[1 if learn else 0]
    turn(run, learn)
    optimizer.zero_grad()
    loss, numbers = step_loss(config, step, run.base, run.controlnet, run.adapters, pictures, drawn, run.reward)
    descend(run.state, optimizer, loss, numbers, config.batch)
    return numbers


def turn(run: Run, adapters_learn: bool) -> None:
    """Lets gradients into the network whose turn it is and into no other."""
    run.controlnet.requires_grad_(not adapters_learn)
    if run.adapters is not None:
        run.adapters.requires_grad_(adapters_learn)


def trained_tensors(run: Run) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """State dicts of the ControlNet and, in stage II, of the adapters, on the CPU."""
    control = on_cpu(run.controlnet.state_dict())
    return control, None if run.adapters is None else on_cpu(run.adapters.state_dict())
