"""Settings of the embedded model's training, frozen and saved beside every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ...models.compact_denoiser import CompactDenoiserConfig
from ...models.pixel_denoiser import PixelDenoiserConfig
from ...training.tad_sr.config import HSD, MUON, TIME_AWARE, DistillSettings


@dataclass(frozen=True)
class PhaseConfig:
    """One phase: optimiser steps, crops per step, LR crop side in pixels, peak learning rate and warm-up steps."""

    steps: int
    batch: int
    patch: int
    lr: float
    warmup: int = 60


@dataclass(frozen=True)
class StudentWeights:
    """Weights of the student's losses; 0 leaves a part out."""

    fidelity: float = 1.0
    distill: float = 0.5
    score: float = 0.25
    energy: float = 0.006


def texture_losses() -> DistillSettings:
    """The texture phase's losses: the truth, sharpness, and all of TAD-SR's with the finished teacher, on a share of the batch."""
    return DistillSettings(
        distill=0.5,
        score=HSD,
        score_weight=0.25,
        adversarial=TIME_AWARE,
        adversarial_weight=0.01,
        fidelity=1.0,
        energy=0.008,
        teacher_steps=2,
        teacher_batch=2,
        optimizer=MUON,
        discriminator_lr=5e-4,
        discriminator_width=16,
        ema_decay=0.998,
        clip_norm=1.0,
        # The noise says nothing of the image: its gradient would be chance.
        frozen=("embed_latent",),
    )


@dataclass(frozen=True)
class RecipeConfig:
    """Everything that decides the weights, apart from the code and the library versions."""

    seed: int = 1
    pool_images: int = 2000
    network: PixelDenoiserConfig = field(default_factory=lambda: PixelDenoiserConfig(refine_channels=32))
    regression: PhaseConfig = field(default_factory=lambda: PhaseConfig(steps=2400, batch=8, patch=32, lr=3e-3))
    teacher: PhaseConfig = field(default_factory=lambda: PhaseConfig(steps=1200, batch=8, patch=32, lr=2.5e-3))
    student: PhaseConfig = field(default_factory=lambda: PhaseConfig(steps=650, batch=8, patch=32, lr=1e-3))
    polish: PhaseConfig = field(default_factory=lambda: PhaseConfig(steps=700, batch=8, patch=32, lr=2e-3))
    chain: PhaseConfig = field(default_factory=lambda: PhaseConfig(steps=5000, batch=8, patch=32, lr=2e-3))
    texture: PhaseConfig = field(default_factory=lambda: PhaseConfig(steps=1200, batch=8, patch=32, lr=1e-3, warmup=20))
    texture_losses: DistillSettings = field(default_factory=texture_losses)
    weights: StudentWeights = field(default_factory=StudentWeights)
    ema_decay: float = 0.998
    last_level_share: float = 0.3
    distill_batch: int = 2
    teacher_chain: int = 2
    score_levels: int = 5
    clip_norm: float = 1.0


@dataclass(frozen=True)
class OneStepConfig:
    """Everything that decides the one-step weights, apart from sources, code and library versions."""

    seed: int = 1
    network: CompactDenoiserConfig = field(default_factory=CompactDenoiserConfig)
    phase: PhaseConfig = field(default_factory=lambda: PhaseConfig(steps=4300, batch=4, patch=32, lr=5e-4, warmup=50))
    late: float = 0.75  # from this share of the steps on crops are larger: fewer of their pixels see the border's zeros
    late_batch: int = 3
    late_patch: int = 44
    eps: float = 0.01
    soft: float = 0.65  # from here on the loss's foot, eps, widens by `widening`, towards a squared error
    widening: float = 4.0
    luma_share: float = 0.5
    energy: float = 0.004  # weight of local sharpness, from `sharp` on
    sharp: float = 0.7
    amplitude: float = 0.0  # weight of the match of amplitudes
    photo_pictures: int = 2280
    generated_pictures: int = 320
    photo_share: float = 0.65
    clean_share: float = 0.5
    ema_decay: float = 0.998
    clip_norm: float = 1.0


def crisp_config() -> OneStepConfig:
    """The crisp weights': imitation of one sharp answer wants no soft end, and its amplitudes from the first step on.

    Counts of pictures are those that the enlarger answers; `clean_share` is of them.
    """
    return replace(
        OneStepConfig(),
        phase=PhaseConfig(steps=4000, batch=4, patch=32, lr=4e-4, warmup=50),
        widening=1.0,
        energy=0.0,
        amplitude=0.03,
        photo_pictures=250,
        generated_pictures=40,
        clean_share=0.4,
    )
