"""Settings of the gain regressor's training, frozen and saved beside every checkpoint."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

from ...models.gain_regressor import MmleConfig

PAPER, SMALL = "paper", "small"
SMALL_WIDTHS = (8, 8, 16, 16, 16, 16, 16)


def regressor_config(size: str, channels: int, metrics: int) -> MmleConfig:
    """PAPER: 2.19 M parameters, for the UNets of Stable Diffusion. SMALL: 0.04 M with statistics, for bases of about a million (ours)."""
    if size == PAPER:
        return MmleConfig(latent_channels=channels, metrics=metrics)
    if size == SMALL:
        return MmleConfig(channels, SMALL_WIDTHS, hidden=64, metrics=metrics, statistics=64)
    raise ValueError(f"Got the size {size!r} of a gain regressor: expected {PAPER} or {SMALL}.")


@dataclass(frozen=True)
class MmleTrainConfig:
    """Defaults are ours; the paper says L2 and a frozen base (section 3.2)."""

    batch: int = 64
    lr: float = 1e-4
    schedule: int = 50_000
    """Steps of the cosine from lr to 0; 0 keeps lr."""
    seed: int = 0
    t_half: float = 500.0
    floor: bool = True
    convolutions: bool = True
    """False: a network with statistics learns from them and the times alone; its convolutions stay silent."""
    held_out: float = 0.125
    """Share of the trajectories that is kept for the correlations."""

    def __post_init__(self) -> None:
        check_optimiser(self.batch, self.lr, self.schedule)
        if not 0 <= self.held_out < 1:
            raise ValueError(f"Got held_out {self.held_out}: expected a share of at least 0 and below 1.")

    def text(self, **more: object) -> str:
        """JSON of everything that decides a run, by which a resumed run knows its own file."""
        return json.dumps({**asdict(self), **more}, sort_keys=True)


def check_optimiser(batch: int, lr: float, schedule: int) -> None:
    """ValueError for numbers that no run can have."""
    if batch < 1 or schedule < 0 or not (math.isfinite(lr) and lr > 0):
        raise ValueError(
            f"Got batch {batch}, learning rate {lr} and a schedule of {schedule} steps: expected at least 1, above 0 and at least 0."
        )


def cosine(lr: float, step: int, schedule: int) -> float:
    """The learning rate at a step (from 0): half a cosine over `schedule` steps, 1 % of it afterwards; constant where that is 0."""
    if schedule == 0:
        return lr
    return lr * max(0.01, 0.5 * (1 + math.cos(math.pi * min(step, schedule) / schedule)))
