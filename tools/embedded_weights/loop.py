"""A phase of the embedded recipe as a run of the shared skeleton."""

from __future__ import annotations

import datetime
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...training.optim import learning_rate, set_learning_rate
from ...training.runs import TrainingRun, backward, clear, finish_step, resume_run, save_run, take_step, train
from .config import PhaseConfig
from .pool import Batches

log = logging.getLogger("adaptivesr")

# (HR, LR, generator) -> scalar loss and named numbers to report.
LossFn = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, dict[str, float]]]
PHASES = ("regression", "teacher", "student", "polish", "chain", "texture")
"""polish is more of the teacher's training; chain goes on between the schedule's entries, for chains of more steps; texture
is the student's last phase, with a discriminator on the finished teacher's features."""
STREAMS = (*PHASES, "one_step", "latent_base")
"""Phases by the number that keys their random draws; the last two have recipes of their own."""
SHOWN_EVERY = 50


@dataclass
class PhaseRun(TrainingRun):
    """One network, one loss; `about` is the recipe's text, which is all that a state must agree in."""

    phase: PhaseConfig
    pool: Batches
    loss: LossFn
    seed: int
    clip_norm: float

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.seed, STREAMS.index(self.state.phase)

    def recipe(self) -> str:
        return self.about

    def train_step(self, generator: torch.Generator) -> dict[str, float]:
        """Down the gradient of the phase's loss, with the rate of its step."""
        phase, state = self.phase, self.state
        hr, lr = self.pool.batch(generator, phase.batch, phase.patch)
        set_learning_rate(state.optimizers, learning_rate(phase.lr, state.step, phase.warmup, phase.steps))
        loss, numbers = self.loss(hr, lr, generator)
        clear(state.optimizers)
        backward(state, loss, numbers)
        norm = take_step(state.optimizers, state.model.parameters(), self.clip_norm)
        finish_step(state, phase.batch)
        return {**numbers, "norm": norm}


def header(title: str, kind: str, licence: str, sources: str, recipe: Mapping[str, object]) -> dict[str, str]:
    """What a file of weights says of itself."""
    return {
        "title": title,
        "kind": kind,
        "licence": licence,
        "training_data": sources,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "recipe": json.dumps(recipe, sort_keys=True),
    }


def train_phase(run: TrainingRun, path: Path, steps: int, *, until: int, save_every: int) -> None:
    """Trains from the state at path, if any, to step `until` of a phase of `steps`; saves and says how it goes."""
    if path.exists():
        resume_run(run, path)
    started, first, phase = time.monotonic(), run.state.step, path.stem

    def after_step(current: TrainingRun) -> None:
        step = current.state.step
        if step % SHOWN_EVERY == 0:
            pace = (time.monotonic() - started) / (step - first)
            shown = " ".join(f"{name} {value:.4f}" for name, value in current.log.rows[-1][1].items())
            log.info("%s %d/%d %s %.2f s/step", phase, step, steps, shown, pace)
        if step % save_every == 0 or step == until:
            save_run(current, path)

    train(run, until, after_step)
