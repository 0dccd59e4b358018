"""Distill One-Step SR: what may be trained on what, its samples, and what is left of a run."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any

import comfy.model_management as mm
import torch
from torch import Tensor

from ...imaging.degradation.presets import PRESETS
from ...imaging.metrics.named import check_names, named_metrics
from ...models.residual_unet_config import ResidualUNetConfig
from ...sampling.noise import generator_for
from ...sampling.tiled.residual_shift_presets import guess_preset
from ...training.data import DegradedPairs
from ...training.runs import train
from ...training.sheets import Trial, sheet
from ...training.tad_sr.config import DistillOptions, DistillSettings
from ...training.tad_sr.distillation import DistillRun, distill_state
from ...training.tad_sr.memory import GB, memory_plan
from ...training.tad_sr.samples import measure, try_out
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
from .files import DISTILL, below_output, save_picture
from .run import RunUnderHost


@dataclass(frozen=True)
class DistillSource:
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


def distill(
    teacher: OneStepSR,
    start: OneStepSR | None,
    source: DistillSource,
    settings: DistillSettings,
    options: DistillOptions,
) -> Distilled:
    """Trains, saves and returns what was learned. A cancel saves the state, which can be resumed, and goes on to the host."""
    _check(teacher, start, settings, options)
    # A graph runs in inference mode, whose tensors cannot take part in gradients: all that comes from outside is copied.
    with torch.inference_mode(False), torch.enable_grad():
        with torch.no_grad():
            pictures = pictures_of(source.folder or "", source.images, source.generated or 0, settings.seed)
            preset = PRESETS[options.degradation]
            data = DegradedPairs(pictures, options.crop, preset, teacher.scale, options.reduced)
            pair = trial_pair(source.test_images, data, settings.seed)
            metrics = named_metrics(options.metrics.split(), torch.device("cpu"))
        run = _new_run(teacher, start, data, settings, options)
        begun = "the teacher" if start is None else "the given student"
        with RunUnderHost(run, DISTILL, options, begun, lambda: sheet(_trial(run, pair))) as hosted:
            started = time.perf_counter()
            train(run, hosted.until, hosted.after_step)
            seconds = (time.perf_counter() - started) / options.steps
        trial, one_step = _trial(run, pair), settings.uses_student_step
        weights = student_weights(teacher, run.state.ema.averaged(), one_step=one_step)
        name, header = _file_name(teacher, settings, hosted.weights_name), {"teacher": teacher.summary}
        path = DISTILL.save_weights(name, weights, hosted.header() | header)
        save_picture(hosted.path.with_suffix(".losses.png"), run.log.picture())
        report = hosted.report(
            below_output(path),
            seconds_per_step=round(seconds, 3),
            quality=measure(trial, metrics),
            metrics_without_weights=list(metrics.left_out),
            seconds_per_picture={made: round(value, 3) for made, value in trial.seconds.items()},
            computed_memory_gb=_memory(run, teacher, options.crop),
        )
        return Distilled(loaded_student(teacher, path), run.log.picture(), sheet(trial), report)


def _check(teacher: OneStepSR, start: OneStepSR | None, settings: DistillSettings, options: DistillOptions) -> None:
    check_teacher(teacher, stage_zero=not settings.uses_student_step)
    if start is not None:
        check_start(start, teacher)
    DISTILL.check_start(options.name, settings.batch, options.crop)
    if options.degradation not in PRESETS:
        raise ValueError(f"Got the degradation {options.degradation!r}: expected one of {', '.join(PRESETS)}.")
    multiple = teacher.network.config.size_multiple * teacher.vae.downscale_ratio
    if options.crop % multiple:
        raise ValueError(
            f"Got crops of {options.crop} pixels: expected a multiple of {multiple}, which is what this network takes; "
            "published networks are trained on 256 (x4) or 512 (faces)."
        )
    _file_name(teacher, settings, options.name)
    check_names(options.metrics.split())


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
    teacher: OneStepSR, start: OneStepSR | None, data: DegradedPairs, settings: DistillSettings, options: DistillOptions
) -> DistillRun:
    """A run at step 0 on copies of the networks."""
    device = mm.get_torch_device()
    model = latent_model(teacher, device)
    student = denoiser_copy(teacher if start is None else start).to(device)
    digest = hashlib.sha256()
    for name, value in sorted(model.network.state_dict().items()):
        digest.update(name.encode() + value.flatten()[:64].cpu().numpy().tobytes())
    about = (
        f"{options.degradation}, {options.crop} px, reduced {options.reduced}, {len(data.pictures)} pictures, "
        f"teacher {digest.hexdigest()[:16]}"
    )
    return DistillRun(distill_state(model, student, settings), settings, model, data, about=about)


def _trial(run: DistillRun, pair: tuple[Tensor, Tensor]) -> Trial:
    """The same pictures and noise each time."""
    hr, lr = (side.to(run.device) for side in pair)
    return try_out(run, hr, lr, generator_for(run.config.seed, -1))


def _memory(run: DistillRun, teacher: OneStepSR, crop: int) -> dict[str, float]:
    """What the run needs by counting, in GB."""
    plan = memory_plan(run.student, run.config, crop // teacher.vae.downscale_ratio, autoencoder_bytes(teacher))
    return {"fixed": round(plan.fixed / GB, 2), "per_image": round(plan.per_image / GB, 3)}
