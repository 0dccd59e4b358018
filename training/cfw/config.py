"""Settings of CFW's training, frozen and saved beside every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..config import RunOptions, TrainConfig, check_optimiser

NEAR_VAE, FRESH = "near the VAE (ours)", "fresh (torch's start)"
STARTS = (NEAR_VAE, FRESH)
LPIPS = "LPIPS"
GRADIENTS = "gradients at three scales (ours, weight-free)"
PERCEPTUAL = (LPIPS, GRADIENTS)
PAPER, SMALL = "paper", "small"
SIZES: Mapping[str, tuple[int, int]] = {PAPER: (32, 2), SMALL: (8, 1)}
"""Growth of the dense blocks and number of RRDBs in each fusion block."""
DISCRIMINATOR_WIDTHS: Mapping[str, int] = {PAPER: 64, SMALL: 16}


@dataclass(frozen=True)
class CFWTrainConfig(TrainConfig):
    """Defaults are those of the public code (StableSR, section 3.2), at fusion strength w = 1."""

    batch: int = 1
    """Triples at a time."""
    accumulate: int = 8
    """Batches whose gradients make one step."""
    lr: float = 5e-5
    """Of fusion layers and discriminator, Adam with moments of 0.5 and 0.9."""
    perceptual: str = LPIPS
    adversarial_weight: float = 0.025
    """Weight of the discriminator's verdict; 0: there is no discriminator."""
    adversarial_after: int = 501
    """Steps before there is a verdict and before the discriminator learns."""
    start: str = NEAR_VAE
    seed: int = 0

    def __post_init__(self) -> None:
        check_optimiser(self.batch, self.lr)
        if self.accumulate < 1 or self.adversarial_after < 0 or self.adversarial_weight < 0:
            raise ValueError(
                f"Got {self.accumulate} batches a step and a verdict of weight {self.adversarial_weight} after {self.adversarial_after} "
                "steps: expected at least 1, and 0 or more."
            )
        if self.start not in STARTS or self.perceptual not in PERCEPTUAL:
            raise ValueError(
                f"Got the start {self.start!r} and the perceptual loss {self.perceptual!r}: expected one of {', '.join(STARTS)}, and of "
                f"{', '.join(PERCEPTUAL)}."
            )


@dataclass(frozen=True)
class CFWOptions(RunOptions):
    """What a run of Train CFW is told beyond its config."""

    name: str = "cfw"
    degradation: str = "stablesr"
    precision: str = "bfloat16"
    size: str = PAPER
    triples: int = 1000
    """Triples that are made and kept on disk, rounded up to whole files."""
    sampling_steps: int = 200
    """Steps of the chain that gives a triple's latent."""
    checkpointing: bool = True
    """Blocks are computed again on the way back, which saves memory and changes no number."""


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {
        "batch": 1, "accumulate": 8, "lr": 5e-5, "perceptual": LPIPS, "adversarial_weight": 0.025, "adversarial_after": 501,
        "crop": 512, "degradation": "stablesr", "size": PAPER, "triples": 100_000, "sampling_steps": 200,
    },
}  # fmt: skip
"""Settings by name, over those of the node."""
