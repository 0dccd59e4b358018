"""The training run of TASR: two optimisers in turns. Nothing of the frozen networks is touched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from ...models.time_aware_adapter import TimeAwareAdapters
from ..checkpoint import TrainState
from ..optim import make_adamw
from ..runs import TrainingRun, descend, new_state, on_cpu
from .config import TasrConfig
from .rewards import Reward
from .steps import FrozenBase, PromptedBatch, draw, step_loss

PHASES = {1: "stage I", 2: "stage II"}


class PromptedSource(Protocol):
    """Where batches come from; the same generator state gives the same batch."""

    def batch(self, generator: torch.Generator, size: int) -> PromptedBatch: ...


@dataclass
class TasrRun(TrainingRun):
    """`state.model` has the trained networks under `controlnet` and, where there are any, `adapters`."""

    config: TasrConfig
    base: FrozenBase
    source: PromptedSource
    reward: Reward | None

    @property
    def controlnet(self) -> nn.Module:
        return self.state.model.get_submodule("controlnet")

    @property
    def adapters(self) -> TimeAwareAdapters | None:
        if not self.config.has_adapters:
            return None
        return cast("TimeAwareAdapters", self.state.model.get_submodule("adapters"))

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.config.seed, self.config.stage

    def recipe(self) -> str:
        return self.config.text(about=self.about)

    def train_step(self, generator: torch.Generator) -> dict[str, float]:
        """One optimiser step of the network whose turn it is; returns the loss's parts."""
        config, step = self.config, self.state.step
        pictures = self.source.batch(generator, config.batch)
        cells = [side // self.base.pixels_per_cell for side in pictures.target.shape[-2:]]
        drawn = draw(
            config,
            step,
            (len(pictures.target), self.base.latent_channels, *cells),
            len(self.base.alphas_cumprod),
            generator,
        )
        learn = config.trains_adapters(step)
        turn(self, learn)
        parts = (self.base, self.controlnet, self.adapters, pictures, drawn, self.reward)
        loss, numbers = step_loss(config, step, *parts)
        descend(self.state, self.state.optimizers[1 if learn else 0], loss, numbers, config.batch)
        return numbers


def tasr_state(config: TasrConfig, controlnet: nn.Module, adapters: TimeAwareAdapters | None) -> TrainState:
    """Step 0 of a stage, with one AdamW for each trained network (TASR, section 4.2: weight decay 0.01)."""
    networks = {"controlnet": controlnet, **({} if adapters is None else {"adapters": adapters})}
    if (adapters is None) == config.has_adapters:
        raise ValueError(
            "Stage II trains adapters and stage I has none, nor has a stage II whose reward moves the ControlNet: expected "
            "adapters to be given in stage II only."
        )
    if adapters is not None and not config.sees_time:
        adapters.forget_time()
    optimizers = [make_adamw(network, config.lr, config.weight_decay) for network in networks.values()]
    return new_state(PHASES[config.stage], nn.ModuleDict(networks), optimizers)  # the paper averages nothing


def turn(run: TasrRun, adapters_learn: bool) -> None:
    """Lets gradients into the network whose turn it is and into no other."""
    run.controlnet.requires_grad_(not adapters_learn)
    if run.adapters is not None:
        run.adapters.requires_grad_(adapters_learn)
        if not run.config.sees_time:
            run.adapters.forget_time()


def trained_tensors(run: TasrRun) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """State dicts of the ControlNet and, where there are any, of the adapters, on the CPU."""
    control = on_cpu(run.controlnet.state_dict())
    return control, None if run.adapters is None else on_cpu(run.adapters.state_dict())
