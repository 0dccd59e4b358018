"""A distillation over many steps: batches, the table of losses, and files from which it goes on exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ...sampling.noise import generator_for
from ..loss_log import LossLog
from ..runs import log_path
from .data import PairSource
from .distillation import DistillState, resume_run, save_run, train_step


@dataclass
class DistillRun:
    """A state, where its batches come from, and what was logged."""

    state: DistillState
    source: PairSource
    log: LossLog = field(default_factory=LossLog)

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.state.train.step


def train(run: DistillRun, until: int, after_step: Callable[[DistillRun], None] | None = None) -> None:
    """Trains from the state's step up to step `until`; after_step may save, show and raise."""
    settings = run.state.settings
    device = next(run.state.student.parameters()).device
    while run.step < until:
        # What happens at a step depends on the seed and the step alone.
        generator = generator_for(settings.seed, run.step)
        hr, lr = (side.to(device) for side in run.source.batch(generator, settings.batch))
        numbers = train_step(run.state, hr, lr, generator)
        run.log.add(run.step, numbers)
        if after_step is not None:
            after_step(run)


def save(run: DistillRun, path: Path) -> None:
    """Everything that a resumed run needs, and the losses as a table beside it."""
    save_run(run.state, path)
    run.log.save(log_path(path))


def resume(run: DistillRun, path: Path) -> None:
    """Continues where a checkpoint stopped; ValueError if it belongs to other settings."""
    resume_run(run.state, path)
    if log_path(path).is_file():
        run.log.load(log_path(path), up_to=run.step)
