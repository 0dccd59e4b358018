"""Distill One-Step SR: the run that the node describes, its files, its progress and its end."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import comfy.model_management as mm
import comfy.utils
import torch
from torch import Tensor

from ...imaging.degradation.presets import PRESETS
from ...imaging.metrics.named import NamedMetrics, check_names, named_metrics
from ...models.residual_unet_config import ResidualUNetConfig
from ...sampling.noise import generator_for
from ...sampling.tiled.residual_shift_presets import guess_preset
from ...training.tad_sr import run as tad_sr_run
from ...training.tad_sr.config import DistillSettings
from ...training.tad_sr.data import DegradedPairs
from ...training.tad_sr.distillation import averaged, make_state
from ...training.tad_sr.memory import GB, memory_plan
from ...training.tad_sr.run import DistillRun
from ...training.tad_sr.samples import Trial, measure, sheet, try_out
from ..resshift.loading import OneStepSR
from .distill_base import (
    autoencoder_bytes,
    check_start,
    check_teacher,
    denoiser_copy,
    latent_model,
    loaded_student,
    student_weights,
)
from .distill_data import pictures_of, trial_pair
from .distill_files import FILES, free_name, save_picture, save_weights, weights_path
from .files import START_ANEW, check_name
from .run import ends_of


@dataclass(frozen=True)
class RunSettings:
    """What the node's widgets say beyond `DistillSettings`."""

    steps: int
    """Optimiser steps of this execution, on top of those of a resumed run."""
    name: str = "distilled"
    resume: str = START_ANEW
    degradation: str = "tad_sr"
    crop: int = 256
    reduced: bool = False
    samples_every: int = 500
    save_every: int = 500
    metrics: str = "psnr ssim nlpd gmsd"

    @classmethod
    def of(cls, steps: int, inputs: Mapping[str, Any]) -> RunSettings:
        """From the node's inputs; what is not given has its default."""
        own = cls(steps)
        return cls(
            steps,
            name=inputs.get("name", own.name),
            resume=inputs.get("resume", own.resume),
            degradation=inputs.get("degradation", own.degradation),
            crop=inputs.get("crop_size", own.crop),
            reduced=inputs.get("whole_pictures", own.reduced),
            samples_every=inputs.get("samples_every", own.samples_every),
            save_every=inputs.get("save_every", own.save_every),
            metrics=inputs.get("metrics", own.metrics),
        )


@dataclass(frozen=True)
class Source:
    """Where pictures come from: a folder, an IMAGE, or a number of generated ones; and an IMAGE to try out."""

    folder: str | None = ""
    images: Tensor | None = None
    generated: int | None = 0
    test_images: Tensor | None = None


@dataclass(frozen=True)
class Distilled:
    """What a run leaves: the student, the picture of its losses, the samples, and words."""

    student: OneStepSR
    losses: Tensor
    samples: Tensor
    report: dict[str, Any]


def describe(report: Mapping[str, Any]) -> str:
    """A line for the user."""
    losses = ", ".join(f"{name} {first:.4g} to {last:.4g}" for name, (first, last) in report["losses"].items())
    return f"Step {report['steps']}, from {report['started_from']}: {losses}. Saved as {report['file']}."


def distill(
    teacher: OneStepSR, start: OneStepSR | None, source: Source, settings: DistillSettings, run_settings: RunSettings
) -> Distilled:
    """Trains, saves and returns what was learned. A cancel saves the state, which can be resumed, and goes on to the host."""
    _check(teacher, start, settings, run_settings)
    # A graph runs in inference mode, whose tensors cannot take part in gradients: all that comes from outside is copied.
    with torch.inference_mode(False):
        with torch.no_grad():
            pictures = pictures_of(source.folder or "", source.images, source.generated or 0, settings.seed)
            preset = PRESETS[run_settings.degradation]
            data = DegradedPairs(pictures, run_settings.crop, preset, teacher.scale, run_settings.reduced)
            pair = trial_pair(source.test_images, data, settings.seed)
            metrics = named_metrics(run_settings.metrics.split(), torch.device("cpu"))
        with torch.enable_grad():
            run, words = _new_run(teacher, start, data, settings, run_settings)
            return _finished(run, words, teacher, (pair, metrics), run_settings)


def _check(teacher: OneStepSR, start: OneStepSR | None, settings: DistillSettings, run_settings: RunSettings) -> None:
    check_teacher(teacher, stage_zero=not settings.uses_student_step)
    if start is not None:
        check_start(start, teacher)
    check_name(run_settings.name)
    if run_settings.degradation not in PRESETS:
        raise ValueError(f"Got the degradation {run_settings.degradation!r}: expected one of {', '.join(PRESETS)}.")
    multiple = teacher.network.config.size_multiple * teacher.vae.downscale_ratio
    if run_settings.crop % multiple:
        raise ValueError(
            f"Got crops of {run_settings.crop} pixels: expected a multiple of {multiple}, which is what this network takes; "
            "published networks are trained on 256 (x4) or 512 (faces)."
        )
    _file_name(teacher, settings, run_settings.name)
    check_names(run_settings.metrics.split())


def _file_name(teacher: OneStepSR, settings: DistillSettings, name: str) -> str:
    """The name with what Load One-Step SR reads off names: step count, student or teacher. ValueError if it would misread it."""
    one_step = settings.uses_student_step
    kind = ("sinsr" if settings.uses_sinsr else "tad") if one_step else "resshift"
    full = f"{kind}_s{teacher.schedule.num_steps}_{name}"
    config = teacher.network.config
    if isinstance(config, ResidualUNetConfig):
        guess = guess_preset(full, config)
        if (guess.num_steps, guess.one_step) != (teacher.schedule.num_steps, one_step):
            raise ValueError(
                f"A file '{full}' would be taken for '{guess.name}' by Load One-Step SR: expected a name without 'tad' and 'sinsr' for "
                "a teacher, and a network with a preset for students (x4 or face); choose another name."
            )
    return full


def _new_run(
    teacher: OneStepSR,
    start: OneStepSR | None,
    data: DegradedPairs,
    settings: DistillSettings,
    run_settings: RunSettings,
) -> tuple[DistillRun, str]:
    """A run at step 0, or where the resumed one stopped, and where it comes from."""
    device = mm.get_torch_device()
    model = latent_model(teacher, device)
    student = denoiser_copy(teacher if start is None else start).to(device)
    words = "the teacher" if start is None else "the given student"
    print_of_teacher = hashlib.sha256()
    for name, value in sorted(model.network.state_dict().items()):
        print_of_teacher.update(name.encode() + value.flatten()[:64].cpu().numpy().tobytes())
    mm.unload_all_models()  # the run has copies of its own
    state = make_state(model, student, settings)
    state.about = (
        f"{run_settings.degradation}, {run_settings.crop} px, reduced {run_settings.reduced}, {len(data.pictures)} pictures, "
        f"teacher {print_of_teacher.hexdigest()[:16]}"
    )
    run = DistillRun(state, data)
    if run_settings.resume != START_ANEW:
        tad_sr_run.resume(run, FILES.state_path(run_settings.resume))
        words = f"the run {run_settings.resume}"
    return run, words


def _finished(
    run: DistillRun,
    words: str,
    teacher: OneStepSR,
    test: tuple[tuple[Tensor, Tensor], NamedMetrics],
    run_settings: RunSettings,
) -> Distilled:
    """Trains to the end, tries the student out and saves it; a cancel or an error saves the state only."""
    name, settings, (pair, metrics) = free_name(run_settings.name), run.state.settings, test
    first, started = run.step, time.perf_counter()
    _train(run, pair, run_settings, name)
    seconds = time.perf_counter() - started
    trial = _trial(run, pair)
    one_step = settings.uses_student_step
    path = weights_path(f"{_file_name(teacher, settings, name)}_{run.step}_steps")
    weights = student_weights(teacher, averaged(run.state), one_step=one_step)
    recipe = {"recipe": settings.text(about=run.state.about), "steps": str(run.step), "teacher": teacher.summary}
    file = save_weights(path, weights, recipe)
    plan = memory_plan(
        run.state.student, settings, run_settings.crop // teacher.vae.downscale_ratio, autoencoder_bytes(teacher)
    )
    report = {
        "file": file,
        "resume": name,
        "started_from": words,
        "steps": run.step,
        "seconds_per_step": round(seconds / max(1, run.step - first), 3),
        "losses": ends_of(run.log),
        "quality": measure(trial, metrics),
        "metrics_without_weights": list(metrics.left_out),
        "seconds_per_picture": {made: round(value, 3) for made, value in trial.seconds.items()},
        "computed_memory_gb": {
            "fixed": round(plan.fixed / GB, 2),
            "per_image": round(plan.per_image / GB, 3),
        },
    }
    save_picture(FILES.state_path(name).with_suffix(".losses.png"), run.log.picture())
    student = loaded_student(teacher, path)
    return Distilled(student, run.log.picture(), sheet(trial), report)


def _train(run: DistillRun, pair: tuple[Tensor, Tensor], run_settings: RunSettings, name: str) -> None:
    first, path = run.step, FILES.state_path(name)
    bar = comfy.utils.ProgressBar(run_settings.steps)

    def after_step(current: DistillRun) -> None:
        bar.update(1)
        if run_settings.samples_every and current.step % run_settings.samples_every == 0:
            save_picture(path.with_suffix(f".{current.step:07}.png"), sheet(_trial(current, pair)))
        if run_settings.save_every and current.step % run_settings.save_every == 0:
            tad_sr_run.save(current, path)
        mm.throw_exception_if_processing_interrupted()

    mm.in_training = True
    try:
        tad_sr_run.train(run, first + run_settings.steps, after_step)
    finally:
        mm.in_training = False
        if run.step > first:
            tad_sr_run.save(run, path)


def _trial(run: DistillRun, pair: tuple[Tensor, Tensor]) -> Trial:
    """The same pictures and noise each time."""
    device = next(run.state.student.parameters()).device
    hr, lr = (side.to(device) for side in pair)
    return try_out(run.state, hr, lr, generator_for(run.state.settings.seed, -1))
