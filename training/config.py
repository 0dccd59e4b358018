"""Settings of trainings: what decides the weights, and what a single run is told beyond that."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

START_ANEW = "(start anew)"
OWN_SETTINGS = "own settings"
"""In the place of a preset: the inputs count."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the weights of a training; a method's own settings derive from it and are saved with every state."""

    def text(self, **more: object) -> str:
        """JSON of all fields, by which a resumed run knows its own file."""
        return json.dumps({**asdict(self), **more}, sort_keys=True)


@dataclass(frozen=True)
class RunOptions:
    """What a run is told beyond its config: how long, under which name, from where, and on which crops."""

    steps: int
    """Optimiser steps of this execution, on top of those of a resumed run."""
    name: str = "run"
    resume: str = START_ANEW
    crop: int = 512
    """Side of the target crops in pixels."""
    degradation: str = "real-esrgan"
    precision: str = "float32"
    save_every: int = 500
    samples_every: int = 0


def check_optimiser(batch: int, lr: float, schedule: int = 0) -> None:
    """ValueError for numbers that no run can have."""
    if batch < 1 or schedule < 0 or not (math.isfinite(lr) and lr > 0):
        raise ValueError(
            f"Got batch {batch}, learning rate {lr} and a schedule of {schedule} steps: expected at least 1, above 0 and at least 0."
        )
