"""The skeleton of all trainings: the loop, the optimiser's step, and files from which a run goes on exactly.

What happens at step n depends on the run's seeds and n alone, so that a resumed run equals an uninterrupted one bit for bit.
A method derives its run from `TrainingRun`, with one method: the step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..sampling.noise import generator_for
from .atomic import sweep
from .checkpoint import TrainState, load_checkpoint, save_checkpoint
from .ema import Ema
from .loss_log import LossLog


@dataclass
class TrainingRun(ABC):
    """A run holds its state and the table of its losses; `about` is what a state must agree in beside the settings."""

    state: TrainState
    log: LossLog = field(default_factory=LossLog, kw_only=True)
    about: str = field(default="", kw_only=True)

    @property
    @abstractmethod
    def seeds(self) -> tuple[int, ...]:
        """What decides all random numbers of a step, together with its number."""

    @abstractmethod
    def recipe(self) -> str:
        """JSON of everything that decides the run, by which it knows its own file."""

    @abstractmethod
    def train_step(self, generator: torch.Generator) -> dict[str, float]:
        """Takes one step of the optimisers and counts it by `descend` or `finish_step`; returns the losses by name."""


AnyRun = TypeVar("AnyRun", bound=TrainingRun)


def new_state(
    phase: str, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], ema: Ema | None = None
) -> TrainState:
    """Step 0. All networks that learn are parts of the model, a discriminator too; every optimiser is saved with them."""
    return TrainState(phase, 0, 0, model, ema or Ema(nn.Module(), 0.0), tuple(optimizers))


def train(run: AnyRun, until: int, after_step: Callable[[AnyRun], None] | None = None) -> None:
    """Trains from the state's step up to step `until`; after_step may save, show and raise.

    ValueError if a loss is not finite: the networks still hold the values of the step before.
    """
    run.state.model.train()
    while run.state.step < until:
        numbers = run.train_step(generator_for(*run.seeds, run.state.step))
        run.log.add(run.state.step, numbers)
        if after_step is not None:
            after_step(run)


def backward(state: TrainState, loss: Tensor, numbers: Mapping[str, float], share: float = 1.0) -> None:
    """Adds the gradients of a finite loss, times its share of the batch; numbers are its parts, for the error's sentence."""
    if not math.isfinite(float(loss.detach())):
        raise ValueError(
            f"The loss of step {state.step + 1} is not finite ({dict(numbers)}): expected a number; lower the learning rate, train in "
            "float32, and look at the pictures and at the model."
        )
    (loss if share == 1.0 else share * loss).backward()


def take_step(
    optimizers: Sequence[torch.optim.Optimizer], parameters: Iterable[Tensor] = (), clip_norm: float = 0.0
) -> float:
    """Takes a step of each optimiser along the gradients, and clears them; returns their norm where it is clipped, else 0."""
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, clip_norm)) if clip_norm else 0.0
    for optimizer in optimizers:
        optimizer.step()
    clear(optimizers)
    return norm


def clear(optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Forgets the gradients of all parameters of the optimisers."""
    for optimizer in optimizers:
        optimizer.zero_grad()


def finish_step(state: TrainState, images: int) -> None:
    """Counts a step, and averages what it changed."""
    state.step += 1
    state.images += images
    state.ema.update(state.step)


def descend(
    state: TrainState, optimizer: torch.optim.Optimizer, loss: Tensor, numbers: Mapping[str, float], images: int
) -> None:
    """The whole step of a training that has one loss: its gradients, one optimiser's step, and the count."""
    clear([optimizer])
    backward(state, loss, numbers)
    take_step([optimizer])
    finish_step(state, images)


def add_share(numbers: dict[str, float], parts: Mapping[str, float], share: float) -> None:
    """Adds the numbers of a part of the batch, times its share."""
    for name, value in parts.items():
        numbers[name] = numbers.get(name, 0.0) + share * value


@contextmanager
def closed(discriminator: nn.Module | None) -> Generator[None, None, None]:
    """Keeps gradients out of a discriminator's own parameters while those of what it judges pass through it."""
    if discriminator is not None:
        discriminator.requires_grad_(False)
    try:
        yield
    finally:
        if discriminator is not None:
            discriminator.requires_grad_(True)


def on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies for a file."""
    return {key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()}


def save_run(run: TrainingRun, path: Path) -> None:
    """Everything that a resumed run needs, and the losses as a table beside it.

    The table comes first: a run that is killed between the two finds rows ahead of its state, which resuming leaves out, and
    never lacks some.
    """
    run.log.save(log_path(path))
    save_checkpoint(path, run.state, run.recipe())


def resume_run(run: TrainingRun, path: Path) -> None:
    """Continues where a checkpoint stopped; ValueError if it belongs to other settings."""
    for file in (path, log_path(path)):
        sweep(file)
    load_checkpoint(path, run.state, run.recipe())
    if log_path(path).is_file():
        run.log.load(log_path(path), up_to=run.state.step)


def log_path(path: Path) -> Path:
    """The table of losses beside a checkpoint."""
    return path.with_suffix(".losses.csv")
