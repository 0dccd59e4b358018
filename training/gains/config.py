"""Settings of the trainings of the gain regressor (MMLE) and of the injection network (PFJ)."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import RunOptions, TrainConfig, check_optimiser

PAPER, SMALL = "paper", "small"
OFFLINE = "psnr, sharpness"
"""Metrics whose measures need no weights."""


@dataclass(frozen=True)
class MmleTrainConfig(TrainConfig):
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


@dataclass(frozen=True)
class PfjTrainConfig(TrainConfig):
    """Defaults are ours; the paper says nothing of this training but that the base is frozen."""

    batch: int = 16
    lr: float = 5e-5
    seed: int = 0
    first_share: float = 0.2
    """Share of rows that stand for a region's first call, without gains."""
    snr_limit: float = 5.0
    pixel_weight: float = 0.1
    sampler: str = "ddpm"

    def __post_init__(self) -> None:
        check_optimiser(self.batch, self.lr)
        if not 0 <= self.first_share <= 1:
            raise ValueError(f"Got first_share {self.first_share}: expected a share from 0 to 1.")


@dataclass(frozen=True)
class GainOptions(RunOptions):
    """What runs of Train MMLE and Train PFJ are told beyond their configs."""

    name: str = "gain"
    size: str = PAPER
    smooth_share: float = 0.1
    calls: int = 40
    denoise: float = 1.0
    sampler: str = "ddpm"
    """Of the cached chains; one, or several with commas."""
    trajectories: int = 200
    metrics: str = OFFLINE

    @property
    def samplers(self) -> tuple[str, ...]:
        """The names in `sampler`."""
        return tuple(name.strip() for name in self.sampler.split(","))
