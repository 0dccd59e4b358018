"""A training run under the host: its progress bar, its Cancel button, its memory; the state is saved however it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import comfy.model_management as mm
import comfy.utils

from ...training.loss_log import LossLog
from ...training.runs import AnyRun, save_run


def train_under_host(
    run: AnyRun,
    train: Callable[[AnyRun, int, Callable[[AnyRun], None]], None],
    steps: int,
    save_every: int,
    path: Path,
) -> None:
    """Makes `steps` more steps by train(run, until, after_step), saving every so many (0: at the end only).

    A cancel or an error saves the state and goes on to the host.
    """
    first = run.state.step
    bar = comfy.utils.ProgressBar(steps)

    def after_step(current: AnyRun) -> None:
        bar.update(1)
        if save_every and current.state.step % save_every == 0:
            save_run(current, path)
        mm.throw_exception_if_processing_interrupted()

    mm.unload_all_models()  # the run has copies of its own
    mm.in_training = True
    try:
        train(run, first + steps, after_step)
    finally:
        mm.in_training = False
        if run.state.step > first:
            save_run(run, path)


def ends_of(log: LossLog) -> dict[str, list[float]]:
    """Mean of the first and of the last tenth of every loss."""
    return {name: _ends(log.series(name)) for name in log.names}


def _ends(series: Sequence[tuple[int, float]]) -> list[float]:
    values, share = [value for _, value in series], max(1, len(series) // 10)
    return [round(sum(part) / len(part), 6) for part in (values[:share], values[-share:])]
