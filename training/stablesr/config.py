"""Settings of StableSR's training, frozen and saved beside every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..config import RunOptions, TrainConfig, check_optimiser

NEAR_BASE, FRESH = "near the base (ours)", "fresh norms (public code)"
STARTS = (NEAR_BASE, FRESH)
PAPER, SMALL, TINY = "paper", "small", "tiny"
SIZES = (PAPER, SMALL, TINY)


@dataclass(frozen=True)
class StableSRConfig(TrainConfig):
    """Defaults are the paper's for the 512 model, but for the batch, which is one GPU's small share."""

    batch: int = 4
    """Pairs at a time."""
    accumulate: int = 1
    """Batches whose gradients make one step."""
    lr: float = 5e-5
    weight_decay: float = 0.01
    seed: int = 0
    sharpened: bool = True
    """Targets are sharpened, as for the 512 model (public code)."""
    start: str = NEAR_BASE
    weighted_as_v: bool = False
    """The error of predicted noise counts as that of v does, over abar (ours, for the embedded base, whose layers give v)."""

    def __post_init__(self) -> None:
        check_optimiser(self.batch, self.lr)
        if self.accumulate < 1 or not 0 <= self.weight_decay < 1:
            raise ValueError(
                f"Got {self.accumulate} batches a step and weight decay {self.weight_decay}: expected at least 1, and 0 up to 1."
            )
        if self.start not in STARTS:
            raise ValueError(f"Got the start {self.start!r}: expected one of {', '.join(STARTS)}.")


@dataclass(frozen=True)
class StableSROptions(RunOptions):
    """What a run of Train StableSR is told beyond its config."""

    name: str = "stablesr"
    degradation: str = "stablesr"
    precision: str = "bfloat16"
    size: str = PAPER
    checkpointing: bool = True
    """The frozen network's blocks are computed again on the way back, which saves memory and changes no number."""


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {
        "batch": 6, "accumulate": 32, "lr": 5e-5, "weight_decay": 0.01, "sharpened": True, "crop": 512,
        "degradation": "stablesr", "size": PAPER,
    },
    "paper, 768": {
        "batch": 3, "accumulate": 32, "lr": 5e-5, "weight_decay": 0.01, "sharpened": False, "crop": 768,
        "degradation": "stablesr_768", "size": PAPER,
    },
    "adadiffsr base": {
        "batch": 6, "accumulate": 32, "lr": 5e-5, "weight_decay": 0.0, "sharpened": True, "crop": 512,
        "degradation": "adadiffsr", "size": PAPER,
    },
}  # fmt: skip
"""Settings of the papers by name, over those of the node. 8 GPUs by 4 batches are 32 batches of one (StableSR, section 4.1).

AdaDiffSR (section 4.1) fine-tunes its base with Adam, without a word on weight decay, at the same rate and size.
"""
