"""Settings of InvSR's training, frozen and saved beside every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...models.noise_predictor import NoisePredictorConfig
from ...sampling.inversion import TRAINED_STARTS
from ..config import RunOptions, TrainConfig, check_optimiser

LATEST_START = 1000
"""The last of the schedule's steps, counted from 1."""


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
    mse: float = 1.0
    lpips: float = 2.0
    """Weight of the latent LPIPS; 0: the run of the paper's Table 6, which needs no file."""
    adversarial: float = 0.1
    """Weight of the discriminator's verdict; 0: there is no discriminator."""
    adversarial_after: int = 10_000
    """Steps before the predictor is told the verdict; the discriminator learns from the first step on."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_optimiser(self.batch, self.lr, self.warmup)
        if not 0 <= self.microbatch <= self.batch or not self.discriminator_lr > 0 or self.adversarial_after < 0:
            raise ValueError(
                f"Got microbatch {self.microbatch} of {self.batch}, a discriminator's rate of {self.discriminator_lr} and its verdict "
                f"after {self.adversarial_after} steps: expected 0 up to the batch, above 0, and 0 or more."
            )
        if not self.taus or len(set(self.taus)) < len(self.taus) or not all(1 <= t <= LATEST_START for t in self.taus):
            raise ValueError(
                f"Got the start steps {self.taus}: expected different whole numbers of 1 to {LATEST_START}, such as "
                f"{', '.join(map(str, TRAINED_STARTS))}."
            )
        if min(self.mse, self.lpips, self.adversarial) < 0 or not (self.mse or self.lpips):
            raise ValueError(
                f"Got the weights {self.mse}, {self.lpips} and {self.adversarial} of MSE, latent LPIPS and discriminator: expected 0 "
                "or more, and one of the first two above 0."
            )


PAPER, PAPER_WITHOUT_LPIPS, OWN = "paper", "paper, no latent LPIPS (Table 6)", "own settings"
PRESETS: Mapping[str, Mapping[str, float]] = {PAPER: {}, PAPER_WITHOUT_LPIPS: {"lpips": 0.0}}
"""What presets change in the paper's settings."""


def preset_settings(name: str, own: InvSRConfig) -> InvSRConfig:
    """The settings of a preset, which leaves the seed and the microbatch to the user; OWN leaves everything."""
    if name == OWN:
        return own
    if name not in PRESETS:
        raise ValueError(f"Got the preset {name!r}: expected one of {', '.join((*PRESETS, OWN))}.")
    paper = InvSRConfig(seed=own.seed)
    changes: dict[str, float] = {**PRESETS[name], "microbatch": min(own.microbatch, paper.batch)}
    return replace(paper, **changes)  # type: ignore[arg-type]


SIZES: Mapping[str, NoisePredictorConfig] = {
    "paper": NoisePredictorConfig((256, 512), (3, 3), 256, 512, out_channels=8, mid_attention=True),
    "small": NoisePredictorConfig((64, 128), (1, 1), 128, 256, out_channels=8, mid_attention=True),
}
"""Fresh predictors: the published one of 34 M parameters, and one for trials (ours)."""


@dataclass(frozen=True)
class InvSROptions(RunOptions):
    """What a run of Train Noise Predictor is told beyond its config."""

    name: str = "noise_predictor"
    degradation: str = "tad_sr"
    precision: str = "bfloat16"
    size: str = "paper"
    samples_every: int = 500
    checkpointing: bool = True
    """Keep less for the gradients and compute it again."""
