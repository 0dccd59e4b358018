"""The last phase of the embedded student: TAD-SR with the finished teacher, beside the truth and sharpness."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

from ...models.pixel_denoiser import PixelDenoiser
from ...training.tad_sr.base import embedded_model
from ...training.tad_sr.config import DistillSettings
from ...training.tad_sr.distillation import DistillRun, distill_state, distill_step
from .config import RecipeConfig
from .loop import PHASES
from .pool import Pool

PHASE = "texture"


def texture_settings(recipe: RecipeConfig) -> DistillSettings:
    """The phase's losses with its batch, rate and seed."""
    phase = recipe.texture
    schedule = {"lr": phase.lr, "warmup": phase.warmup, "cosine_steps": phase.steps}
    return replace(recipe.texture_losses, batch=phase.batch, seed=recipe.seed, **schedule)  # type: ignore[arg-type]


@dataclass
class TextureRun(DistillRun):
    """A distillation on crops of the pool; `about` is the recipe's text."""

    pool: Pool = field(kw_only=True)
    patch: int = field(kw_only=True)

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.config.seed, PHASES.index(PHASE)

    def train_step(self, generator: torch.Generator) -> dict[str, float]:
        hr, lr = self.pool.batch(generator, self.config.batch, self.patch)
        return distill_step(self, hr, lr, generator)


def texture_run(
    recipe: RecipeConfig, pool: Pool, student: PixelDenoiser, teacher: PixelDenoiser, about: str
) -> TextureRun:
    """Step 0 of the phase; the student is trained in place, and the teacher is frozen."""
    model, settings = embedded_model(teacher), texture_settings(recipe)
    state = distill_state(model, student, settings)
    return TextureRun(state, settings, model, about=about, pool=pool, patch=recipe.texture.patch)
