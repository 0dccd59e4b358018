"""The training run of TASR: two optimisers in turns, exact resume.

What happens at step n depends on the seed, the stage and n alone, so that a resumed run equals an uninterrupted one bit for
bit. Nothing of the frozen networks is touched; see `tasr_steps` for one step, `host.tasr_training` for the networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from ..models.time_aware_adapter import TimeAwareAdapters
from ..sampling.noise import generator_for
from .checkpoint import TrainState, load_checkpoint, save_checkpoint
from .ema import Ema
from .loss_log import LossLog
from .rewards import Reward
from .tasr_config import BOTH, TasrConfig
from .tasr_steps import FrozenBase, Pictures, draw, step_loss

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
    model = nn.ModuleDict(networks)
    optimizers = tuple(
        torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay, foreach=False)
        for network in networks.values()
    )
    no_average = Ema(nn.Module(), 0.0)  # the paper averages nothing
    return TrainState(PHASES[config.stage], 0, 0, model, no_average, optimizers)


def train(run: Run, until: int, after_step: Callable[[Run], None] | None = None) -> None:
    """Trains from the state's step up to step `until`; after_step may save, show and raise.

    ValueError if a loss is not finite: the networks still hold the values of the step before.
    """
    run.state.model.train()
    while run.state.step < until:
        numbers = train_step(run)
        run.log.add(run.state.step, numbers)
        if after_step is not None:
            after_step(run)


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
    if not bool(loss.detach().isfinite()):
        raise ValueError(
            f"The loss of step {step + 1} is not finite ({numbers}): expected a number; lower the learning rate, train in "
            "float32, and look at the pictures and at the model."
        )
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    run.state.step += 1
    run.state.images += config.batch
    return numbers


def turn(run: Run, adapters_learn: bool) -> None:
    """Lets gradients into the network whose turn it is and into no other."""
    run.controlnet.requires_grad_(not adapters_learn)
    if run.adapters is not None:
        run.adapters.requires_grad_(adapters_learn)


def trained_tensors(run: Run) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """State dicts of the ControlNet and, in stage II, of the adapters, on the CPU."""
    control = _on_cpu(run.controlnet.state_dict())
    return control, None if run.adapters is None else _on_cpu(run.adapters.state_dict())


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()}


def save_run(run: Run, path: Path) -> None:
    """Everything that a resumed run needs, and the losses as a table beside it."""
    save_checkpoint(path, run.state, run.config.text(about=run.about))
    run.log.save(log_path(path))


def resume_run(run: Run, path: Path) -> None:
    """Continues where a checkpoint stopped; ValueError if it belongs to other settings."""
    load_checkpoint(path, run.state, run.config.text(about=run.about))
    if log_path(path).is_file():
        run.log.load(log_path(path), up_to=run.state.step)


def log_path(path: Path) -> Path:
    """The table of losses beside a checkpoint."""
    return path.with_suffix(".losses.csv")
