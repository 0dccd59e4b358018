"""Trainings that are killed while they save: what is left resumes, with every step and row up to the last save."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from ...training.runs import TrainingRun, log_path, new_state, resume_run, save_run
from .outcomes import Outcomes

ROWS = 2000
"""Of the table of losses: a run of some length."""
WIDTH = 256


@dataclass
class _Run(TrainingRun):
    """A small network with its optimiser, in the place of a training."""

    @property
    def seeds(self) -> tuple[int, ...]:
        return (0,)

    def recipe(self) -> str:
        return "a run to be killed"

    def train_step(self, generator: torch.Generator) -> dict[str, float]:
        raise NotImplementedError


def _fresh() -> _Run:
    network = torch.nn.Linear(WIDTH, WIDTH)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, WIDTH)).sum().backward()
    optimizer.step()
    return _Run(new_state("train", network, [optimizer]))


def run(count: int, seed: int, case: int | None = None) -> Outcomes:
    """Kills so many runs, or the one of a case, at a time that follows from seed and case."""
    outcomes = Outcomes("kills", seed)
    for number in range(count) if case is None else [case]:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            outcome = _killed(Path(folder) / "run_00001.state.safetensors", random.Random(f"{seed} {number}"))
        outcomes.add(number, "killed while saving", outcome, time.monotonic() - started)
    return outcomes


def _killed(path: Path, rng: random.Random) -> str:
    first = _fresh()
    for step in range(1, ROWS + 1):
        first.log.add(step, {"loss": 1 / step})
    first.state.step = ROWS
    save_run(first, path)
    child = os.fork()
    if child == 0:
        while True:  # as a training that saves after every step
            first.state.step += 1
            first.log.add(first.state.step, {"loss": 1 / first.state.step})
            save_run(first, path)
    time.sleep(rng.uniform(0.001, 0.08))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    second = _fresh()
    try:
        resume_run(second, path)
    except (ValueError, OSError, LookupError, TypeError, RuntimeError) as error:
        return f"BAD lost: {type(error).__name__} {error}"
    steps, rows = second.state.step, [step for step, _ in second.log.rows]
    if steps < ROWS or rows != list(range(1, steps + 1)):
        return f"BAD loss: step {steps}, {len(rows)} rows"
    stray = [name for name in os.listdir(path.parent) if name not in (path.name, log_path(path).name)]
    return f"BAD stray: {stray[0]}" if stray else "resumed"
