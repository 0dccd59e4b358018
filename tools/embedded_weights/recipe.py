"""Makes the embedded teacher and the first one-step student: generated images -> plain regression -> teacher -> student.

Everything is computed from the seed; the run can be stopped at any time and resumed exactly (`--resume`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...models.pixel_denoiser import PixelDenoiser, PixelDenoiserConfig
from ...training.checkpoint import TrainState
from ...training.ema import Ema
from ...training.optim import make_optimizers
from ...training.runs import new_state
from .config import PhaseConfig, RecipeConfig
from .loop import PHASES, LossFn, PhaseRun, header, train_phase
from .objectives import regression_loss, student_loss, teacher_loss
from .pool import CHUNK, Pool, build_pool
from .texture_phase import PHASE as TEXTURE
from .texture_phase import texture_run

log = logging.getLogger("adaptivesr")
ROOT = Path(__file__).resolve().parents[2]
SIZES = {"xs": RecipeConfig().network, "s": PixelDenoiserConfig(channels=96, blocks=16, refine_channels=48)}
FILES = {
    "regression": ROOT / "tools" / "bench" / "baselines" / "embedded_regression.safetensors",
    "teacher": ROOT / "models" / "weights" / "embedded_teacher.safetensors",
    "student": ROOT / "models" / "weights" / "embedded_student.safetensors",
}
SAVE_EVERY = 100


def network(recipe: RecipeConfig, start: dict[str, Tensor] | None = None) -> PixelDenoiser:
    """A fresh network from the recipe's seed, or one that starts from the given state."""
    model = PixelDenoiser(recipe.network)
    model.reset_parameters(torch.Generator().manual_seed(recipe.seed))
    if start is not None:
        model.load_state_dict(start)
    return model


def phase_state(recipe: RecipeConfig, phase: str, start: dict[str, Tensor] | None = None) -> TrainState:
    """Step 0 of a phase but the last."""
    model = network(recipe, start)
    if phase in ("regression", "student"):
        # The regression's latent input is zero and the student's is noise that says nothing of the image: the gradient
        # would be rounding errors or chance, and Muon would make full steps of them.
        model.embed_latent.requires_grad_(False)
    settings: PhaseConfig = getattr(recipe, phase)
    return new_state(phase, model, make_optimizers(model, settings.lr), Ema(model, recipe.ema_decay))


def phase_recipe(recipe: RecipeConfig, phase: str) -> str:
    """JSON of the settings that decide a phase: later phases may still change without making its checkpoint foreign."""
    later = PHASES[PHASES.index(phase) + 1 :]
    student_only = ("weights", "distill_batch", "teacher_chain", "score_levels") if phase != "student" else ()
    texture_only = ("texture_losses",) if phase != TEXTURE else ()
    left_out = (*later, *student_only, *texture_only)
    return json.dumps({k: v for k, v in asdict(recipe).items() if k not in left_out}, sort_keys=True)


def objective(recipe: RecipeConfig, state: TrainState, teacher: dict[str, Tensor] | None) -> LossFn:
    """The phase's loss, bound to the state's model; the student needs the teacher's state."""
    model = state.model
    if not isinstance(model, PixelDenoiser):
        raise ValueError(f"model is {type(model).__name__}, expected PixelDenoiser")
    if state.phase == "regression":
        return regression_loss(model)
    if state.phase in ("teacher", "polish", "chain"):
        return teacher_loss(model, recipe, between=state.phase == "chain")
    return student_loss(model, network(recipe, _given(teacher, state.phase)).requires_grad_(False), recipe)


def _given(teacher: dict[str, Tensor] | None, phase: str) -> dict[str, Tensor]:
    if teacher is None:
        raise ValueError(f"the {phase} phase needs the teacher's state: train the teacher first")
    return teacher


def run_phase(
    recipe: RecipeConfig,
    phase: str,
    pool: Pool,
    folder: Path,
    start: dict[str, Tensor] | None,
    *,
    teacher: dict[str, Tensor] | None = None,
    until: int | None = None,
    save_every: int = SAVE_EVERY,
) -> dict[str, Tensor]:
    """Trains one phase from its last checkpoint in folder, if any, and returns the averaged state."""
    settings: PhaseConfig = getattr(recipe, phase)
    text, stop = phase_recipe(recipe, phase), settings.steps if until is None else until
    if phase == TEXTURE:
        run = texture_run(recipe, pool, network(recipe, start), network(recipe, _given(teacher, phase)), text)
    else:
        state = phase_state(recipe, phase, start)
        loss = objective(recipe, state, teacher)
        run = PhaseRun(state, settings, pool, loss, recipe.seed, recipe.clip_norm, about=text)
    train_phase(run, folder / f"{phase}.safetensors", settings.steps, until=stop, save_every=save_every)
    return run.state.ema.averaged()


def export(state: dict[str, Tensor], path: Path, recipe: RecipeConfig, kind: str) -> None:
    """Writes half-precision weights with float32 schedule buffers and a description of what they are."""
    small = {name: value.half() if value.ndim >= 1 and name != "sqrt_etas" else value for name, value in state.items()}
    small["one_step"] = torch.tensor(float(kind == "student"))
    sources = "generated images only (training/synthetic.py)"
    metadata = header("tiny synthetic-trained demo weights", kind, "Apache-2.0", sources, asdict(recipe))
    metadata["seed"] = str(recipe.seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in small.items()}, path, metadata=metadata)
    log.info("wrote %s (%.2f MB)", path.name, path.stat().st_size / 1e6)


def make_weights(recipe: RecipeConfig, folder: Path, files: dict[str, Path], *, workers: int = 1) -> None:
    """All phases in order; teacher and student both start from the regression's averaged weights.

    Deviation from TAD-SR, whose student starts as its teacher: at this size and training time the teacher's own first step
    is worse than the regression it came from. Its discriminator comes last, on the features of the finished teacher.
    """
    build_pool(folder / "pool", recipe.seed, recipe.pool_images, workers)
    pool = Pool.open(folder / "pool")
    regression = run_phase(recipe, "regression", pool, folder, None)
    export(regression, files["regression"], recipe, "regression")
    teacher = run_phase(recipe, "teacher", pool, folder, regression)
    export(teacher, files["teacher"], recipe, "teacher")
    student = run_phase(recipe, "student", pool, folder, regression, teacher=teacher)
    export(student, files["student"], recipe, "student")
    teacher = run_phase(recipe, "polish", pool, folder, teacher)
    teacher = run_phase(recipe, "chain", pool, folder, teacher)
    export(teacher, files["teacher"], recipe, "teacher")
    student = run_phase(recipe, TEXTURE, pool, folder, student, teacher=teacher)
    export(student, files["student"], recipe, "student")


def scaled(recipe: RecipeConfig, factor: float) -> RecipeConfig:
    """The recipe with its steps and its pool multiplied by factor, for trials and for faster machines."""
    shrink: Callable[[PhaseConfig], PhaseConfig] = lambda p: replace(p, steps=max(2, round(p.steps * factor)))  # noqa: E731
    images = max(CHUNK, round(recipe.pool_images * min(factor, 1) / CHUNK) * CHUNK)
    phases = {name: shrink(getattr(recipe, name)) for name in PHASES}
    return replace(recipe, pool_images=images, **phases)
