"""The training loop: what happens at step n depends on the seed, the phase and n alone, so resuming is exact."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ...sampling.noise import generator_for
from ..checkpoint import TrainState
from ..optim import set_learning_rate
from .config import PhaseConfig
from .pool import Batches

log = logging.getLogger("adaptivesr")

# (HR, LR, generator) -> scalar loss and named numbers to report.
LossFn = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, dict[str, float]]]
PHASES = ("regression", "teacher", "student", "polish", "chain", "texture")
"""polish is more of the teacher's training; chain goes on between the schedule's entries, for chains of more steps; texture
is the student's last phase, with a discriminator on the finished teacher's features."""
STREAMS = (*PHASES, "one_step")
"""Phases by the number that keys their random draws; `one_step` has a recipe of its own."""


def learning_rate(step: int, phase: PhaseConfig) -> float:
    """Linear warm-up, then half a cosine down to one percent of the peak."""
    rising = min(1.0, (step + 1) / max(phase.warmup, 1))
    return phase.lr * rising * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / phase.steps)))


def train(
    state: TrainState,
    phase: PhaseConfig,
    pool: Batches,
    loss_fn: LossFn,
    *,
    seed: int,
    until: int,
    clip_norm: float,
    after_step: Callable[[TrainState], None] | None = None,
) -> None:
    """Runs state from its own step up to step `until`; after_step saves and measures."""
    started, first = time.monotonic(), state.step
    parameters = list(state.model.parameters())
    while state.step < until:
        generator = generator_for(seed, STREAMS.index(state.phase), state.step)
        hr, lr = pool.batch(generator, phase.batch, phase.patch)
        set_learning_rate(state.optimizers, learning_rate(state.step, phase))
        loss, numbers = loss_fn(hr, lr, generator)
        for optimizer in state.optimizers:
            optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
        for optimizer in state.optimizers:
            optimizer.step()
        state.step += 1
        state.images += phase.batch
        state.ema.update(state.model, state.step)
        if state.step % 50 == 0:
            pace = (time.monotonic() - started) / (state.step - first)
            shown = " ".join(f"{name} {value:.4f}" for name, value in numbers.items())
            log.info("%s %d/%d %s norm %.3f %.2f s/step", state.phase, state.step, phase.steps, shown, norm, pace)
        if after_step is not None:
            after_step(state)
