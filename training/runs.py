"""What the runs of all trained parts share: the loop, the check of the loss, and files from which a run goes on exactly.

What happens at step n depends on the seed and n alone, so that a resumed run equals an uninterrupted one bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from .checkpoint import TrainState, load_checkpoint, save_checkpoint
from .ema import Ema
from .loss_log import LossLog


class Settings(Protocol):
    """Frozen settings of a run."""

    def text(self, **more: object) -> str:
        """JSON of everything that decides a run, by which a resumed run knows its own file."""
        ...


class TrainingRun(Protocol):
    """Everything a run holds; `about` is what else a checkpoint must agree in."""

    @property
    def config(self) -> Settings: ...

    @property
    def state(self) -> TrainState: ...

    @property
    def log(self) -> LossLog: ...

    @property
    def about(self) -> str: ...


AnyRun = TypeVar("AnyRun", bound=TrainingRun)


def fresh_state(phase: str, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> TrainState:
    """Step 0 of a run that averages no parameters."""
    return TrainState(phase, 0, 0, model, Ema(nn.Module(), 0.0), tuple(optimizers))


def advance(
    run: AnyRun,
    step: Callable[[AnyRun], Mapping[str, float]],
    until: int,
    after_step: Callable[[AnyRun], None] | None = None,
) -> None:
    """Trains from the state's step up to step `until`; after_step may save, show and raise.

    ValueError if a loss is not finite: the networks still hold the values of the step before.
    """
    run.state.model.train()
    while run.state.step < until:
        numbers = step(run)
        run.log.add(run.state.step, numbers)
        if after_step is not None:
            after_step(run)


def descend(
    state: TrainState, optimizer: torch.optim.Optimizer, loss: Tensor, numbers: Mapping[str, float], images: int
) -> None:
    """One step of an optimiser down a loss that is finite; numbers are its parts, for the error's sentence."""
    if not bool(loss.detach().isfinite()):
        raise ValueError(
            f"The loss of step {state.step + 1} is not finite ({dict(numbers)}): expected a number; lower the learning rate, train in "
            "float32, and look at the pictures and at the model."
        )
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    state.step += 1
    state.images += images


def on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies for a file."""
    return {key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()}


def save_run(run: TrainingRun, path: Path) -> None:
    """Everything that a resumed run needs, and the losses as a table beside it."""
    save_checkpoint(path, run.state, run.config.text(about=run.about))
    run.log.save(log_path(path))


def resume_run(run: TrainingRun, path: Path) -> None:
    """Continues where a checkpoint stopped; ValueError if it belongs to other settings."""
    load_checkpoint(path, run.state, run.config.text(about=run.about))
    if log_path(path).is_file():
        run.log.load(log_path(path), up_to=run.state.step)


def log_path(path: Path) -> Path:
    """The table of losses beside a checkpoint."""
    return path.with_suffix(".losses.csv")
