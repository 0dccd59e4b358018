"""The ablation's trainings: what is trained, how a finished run is known again, and how one is made."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ....models.pixel_denoiser import DEFAULT_RESIDUAL_STD
from ....sampling.noise import generator_for
from ....training.tad_sr.base import LatentModel, embedded_model
from ....training.tad_sr.config import HSD, NONE, PLAIN, SDS, TIME_AWARE, DistillSettings
from ....training.tad_sr.distillation import DistillRun, distill_state, distill_step
from ....training.tad_sr.steps import prepare
from ...embedded_weights.pool import Pool
from .restorers import WEIGHTS, load_denoiser

log = logging.getLogger("adaptivesr")
FORM = 1  # raised when the same settings no longer give the same run

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "vanilla": {"score": NONE, "adversarial": NONE},
    "+ SDS": {"score": SDS, "adversarial": NONE},
    "+ HSD": {"score": HSD, "adversarial": NONE},
    "+ HSD + GAN": {"score": HSD, "adversarial": PLAIN},
    "+ HSD + time-aware GAN": {"score": HSD, "adversarial": TIME_AWARE},
}
"""Vanilla distillation and what is added to it. GAN: the discriminator is not told the time; the last is TAD-SR."""


def default_distillation() -> DistillSettings:
    """TAD-SR's weights for latents of deviation 1, carried over to pixels by the residual's deviation.

    With z = std z', |z - z'|^2 is divided by std^2 and the score's product with z by std, which makes the gradients in z' those
    of the released weights 1 and 1. The adversarial weight (released: 0.02) and the rates (5e-5) are larger, because some hundred
    steps have to show what 30000 did; they were set on one trial of 100 steps.
    """
    return DistillSettings(
        distill=DEFAULT_RESIDUAL_STD**-2,
        score_weight=1 / DEFAULT_RESIDUAL_STD,
        adversarial_weight=0.1,
        teacher_steps=4,
        lr=5e-4,
        discriminator_lr=5e-4,
        warmup=20,
        ema_decay=0.99,
        batch=4,
        discriminator_width=16,
    )


@dataclass(frozen=True)
class Ablation:
    """What all variants share."""

    distillation: DistillSettings = field(default_factory=default_distillation)
    steps: int = 100
    patch: int = 16
    pool_images: int = 2000
    pool_seed: int = 1

    def settings(self, variant: str, seed: int) -> DistillSettings:
        """A variant's settings; its rate falls to 1 % at the last step."""
        changes: dict[str, Any] = {**VARIANTS[variant], "seed": seed, "cosine_steps": self.steps}
        return replace(self.distillation, **changes)

    def key(self, variant: str, seed: int, teacher: str, pool: str) -> str:
        """A digest of everything that decides a run's weights but the code: settings, the teacher's file, the pool's making."""
        text = self.settings(variant, seed).text(
            steps=self.steps, patch=self.patch, pool=pool, teacher=teacher, form=FORM
        )
        return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def slug(name: str) -> str:
    """A file name for a variant."""
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


@dataclass(frozen=True)
class StudentRun:
    """A finished training: the averaged weights, and its seconds, those of the teacher's chain included."""

    weights: dict[str, Tensor]
    seconds: float


Trainer = Callable[[str, int], StudentRun]


def kept_run(folder: Path, name: str, seed: int, key: str, train: Trainer) -> StudentRun:
    """The run of this name and seed from the folder if it was made with the same key, else a new one, which is kept."""
    path = folder / f"{slug(name)}-seed{seed}.safetensors"
    if path.exists():
        with safe_open(path, framework="pt") as file:
            about = file.metadata()
        if about["key"] == key:
            return StudentRun(load_file(path), float(about["seconds"]))
    run = train(name, seed)
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(run.weights, partial, metadata={"key": key, "seconds": str(run.seconds)})
    partial.replace(path)
    return run


Rows = dict[str, dict[str, dict[str, float]]]  # set and degradation -> picture -> measure -> value


def kept_rows(path: Path, key: str, evaluate: Callable[[], Rows]) -> Rows:
    """Measures from a JSON file if they belong to the same key, else new ones, which are kept."""
    if path.exists():
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["key"] == key:
            return stored["rows"]
    rows = evaluate()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"key": key, "rows": rows}), encoding="utf-8")
    return rows


class Trainings:
    """Trains variants from the teacher's weights. Runs of one seed see the same crops, noise and teacher's pictures."""

    def __init__(self, ablation: Ablation, pool: Pool, device: torch.device) -> None:
        self._ablation, self._pool, self._device = ablation, pool, device
        self._targets: dict[int, Tensor] = {}  # step -> the chain's result, of one seed
        self._seed, self._chain_seconds = -1, 0.0

    def train(self, variant: str, seed: int) -> StudentRun:
        """One run from its start; depends on the ablation, the variant and the seed alone."""
        settings = self._ablation.settings(variant, seed)
        model = self._teacher()
        state = distill_state(model, copy.deepcopy(model.network), settings)
        run = DistillRun(state, settings, model)
        self._remember(model, seed)
        started = time.perf_counter()
        for step in range(self._ablation.steps):
            hr, lr, generator = self._batch(seed, step)
            numbers = distill_step(run, hr, lr, generator, target=self._targets[step])
            if (step + 1) % 50 == 0:
                shown = " ".join(f"{name} {value:.4f}" for name, value in numbers.items())
                log.info("%s, seed %d: %d/%d %s", variant, seed, step + 1, self._ablation.steps, shown)
        return StudentRun(state.ema.averaged(), time.perf_counter() - started + self._chain_seconds)

    def _teacher(self) -> LatentModel:
        return embedded_model(load_denoiser(WEIGHTS["teacher"]).to(self._device))

    def _batch(self, seed: int, step: int) -> tuple[Tensor, Tensor, torch.Generator]:
        generator = generator_for(seed, step)
        hr, lr = self._pool.batch(generator, self._ablation.distillation.batch, self._ablation.patch)
        return hr.to(self._device), lr.to(self._device), generator

    def _remember(self, teacher: LatentModel, seed: int) -> None:
        """The teacher's chain for every step of a seed: the variants share it, each run's seconds have it all the same."""
        if seed == self._seed:
            return
        started = time.perf_counter()
        settings = self._ablation.settings("vanilla", seed)
        self._targets = {}
        for step in range(self._ablation.steps):
            target = prepare(settings, teacher, *self._batch(seed, step)).target
            if target is None:
                raise ValueError("The vanilla variant has no teacher's chain: its weight `distill` must be above 0.")
            self._targets[step] = target
        self._seed, self._chain_seconds = seed, time.perf_counter() - started
        log.info("chains of seed %d: %.0f s", seed, self._chain_seconds)
