"""Settings of InvSR's training, frozen and saved beside every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...sampling.inversion import LAST_STEP, TRAINED_STARTS
from ..config import RunOptions, TrainConfig, check_optimiser


@dataclass(frozen=True)
class InvSRConfig(TrainConfig):
    """Defaults are the paper's (InvSR, section 4.1) and, where it is silent, those of its released configuration."""

    batch: int = 64
    microbatch: int = 0
    """Images in one forward; gradients are summed over the batch. 0: the batch."""
    lr: float = 5e-5
    warmup: int = 2000
    """Steps of the predictor's linear warm-up; the discriminator has none."""
    discriminator_lr: float = 5e-5
    discriminator_decay: float = 1e-3
    ema_decay: float = 0.999
    taus: tuple[int, ...] = TRAINED_STARTS
    """Start steps, of which each image gets one; networks are given the index tau - 1."""
    mse_weight: float = 1.0
    lpips_weight: float = 2.0
    """Weight of the latent LPIPS; 0: the run of the paper's Table 6, which needs no file."""
    adversarial_weight: float = 0.1
    """Weight of the discriminator's verdict; 0: there is no discriminator."""
    adversarial_after: int = 10_000
    """Steps before the predictor is told the verdict; the discriminator learns from the first step on."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_optimiser(self.batch, self.lr, self.warmup)
        if self.microbatch < 0 or not self.discriminator_lr > 0 or self.adversarial_after < 0:
            raise ValueError(
                f"Got a microbatch of {self.microbatch}, a discriminator's rate of {self.discriminator_lr} and its verdict after "
                f"{self.adversarial_after} steps: expected 0 or more, above 0, and 0 or more."
            )
        if not self.taus or len(set(self.taus)) < len(self.taus) or not all(1 <= t <= LAST_STEP for t in self.taus):
            raise ValueError(
                f"Got the start steps {self.taus}: expected different whole numbers of 1 to {LAST_STEP}, such as "
                f"{', '.join(map(str, TRAINED_STARTS))}."
            )
        if min(self.mse_weight, self.lpips_weight, self.adversarial_weight) < 0 or not (
            self.mse_weight or self.lpips_weight
        ):
            raise ValueError(
                f"Got the weights {self.mse_weight}, {self.lpips_weight} and {self.adversarial_weight} of MSE, latent LPIPS and discriminator: expected 0 "
                "or more, and one of the first two above 0."
            )


PAPER, PAPER_WITHOUT_LPIPS, OWN = "paper", "paper, no latent LPIPS (Table 6)", "own settings"
PRESETS: Mapping[str, Mapping[str, float]] = {PAPER: {}, PAPER_WITHOUT_LPIPS: {"lpips_weight": 0.0}}
"""What presets change in the paper's settings."""


def preset_settings(name: str, own: InvSRConfig) -> InvSRConfig:
    """The settings of a preset, which leaves the seed and the microbatch to the user; OWN leaves everything."""
    if name == OWN:
        return own
    if name not in PRESETS:
        raise ValueError(f"Got the preset {name!r}: expected one of {', '.join((*PRESETS, OWN))}.")
    return replace(InvSRConfig(seed=own.seed, microbatch=own.microbatch), **PRESETS[name])  # type: ignore[arg-type]


SIZES = ("paper", "small")
"""Fresh predictors: the published one of 34 M parameters, and one for trials (ours); `sizes.PREDICTORS` has them."""


@dataclass(frozen=True)
class InvSROptions(RunOptions):
    """What a run of Train Noise Predictor is told beyond its config."""

    name: str = "noise_predictor"
    degradation: str = "invsr"
    precision: str = "bfloat16"
    size: str = "paper"
    samples_every: int = 500
    checkpointing: bool = True
    """Keep less for the gradients and compute it again."""
