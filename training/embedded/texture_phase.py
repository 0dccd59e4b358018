"""The last phase of the embedded student: TAD-SR with the finished teacher, beside the truth and sharpness."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ...models.pixel_denoiser import PixelDenoiser
from ...sampling.noise import generator_for
from ..tad_sr.base import embedded_model
from ..tad_sr.config import DistillSettings
from ..tad_sr.distillation import averaged, make_state, resume_run, save_run, train_step
from .config import RecipeConfig
from .loop import PHASES
from .pool import Pool

log = logging.getLogger("adaptivesr")
PHASE = "texture"


def texture_settings(recipe: RecipeConfig) -> DistillSettings:
    """The phase's losses with its batch, rate and seed."""
    phase = recipe.texture
    schedule = {"lr": phase.lr, "warmup": phase.warmup, "cosine_steps": phase.steps}
    return replace(recipe.texture_losses, batch=phase.batch, seed=recipe.seed, **schedule)  # type: ignore[arg-type]


def train_texture(
    recipe: RecipeConfig,
    pool: Pool,
    path: Path,
    student: PixelDenoiser,
    teacher: PixelDenoiser,
    *,
    about: str,
    until: int,
    save_every: int,
) -> dict[str, Tensor]:
    """Trains student (in place) from its checkpoint at path, if any, up to step `until`; returns its averaged state.

    `about` is the recipe's text, with which a checkpoint must agree. The teacher is frozen.
    """
    state = make_state(embedded_model(teacher), student, texture_settings(recipe))
    state.about = about
    if path.exists():
        resume_run(state, path)
    while state.train.step < until:
        generator = generator_for(recipe.seed, PHASES.index(PHASE), state.train.step)
        hr, lr = pool.batch(generator, recipe.texture.batch, recipe.texture.patch)
        numbers = train_step(state, hr, lr, generator)
        step = state.train.step
        if step % 50 == 0:
            shown = " ".join(f"{name} {value:.4f}" for name, value in numbers.items())
            log.info("%s %d/%d %s", PHASE, step, recipe.texture.steps, shown)
        if step % save_every == 0 or step == recipe.texture.steps:
            save_run(state, path)
    return averaged(state)
