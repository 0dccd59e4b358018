"""Settings of the embedded model's training, frozen and saved beside every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..models.pixel_denoiser import PixelDenoiserConfig


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
    weights: StudentWeights = field(default_factory=StudentWeights)
    ema_decay: float = 0.998
    last_level_share: float = 0.3
    distill_batch: int = 2
    teacher_chain: int = 2
    score_levels: int = 5
    clip_norm: float = 1.0
