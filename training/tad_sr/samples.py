"""What a distilled student does to a few pictures, beside its teacher: a picture, and pyiqa's numbers."""

from __future__ import annotations

import time

import torch
from torch import Tensor
from torch.func import functional_call

from ...imaging.metrics.named import NamedMetrics
from ...sampling.samplers import Denoise, sample_deterministic, sample_one_step
from ..sheets import Trial
from .distillation import DistillRun


@torch.no_grad()
def try_out(run: DistillRun, hr: Tensor, lr: Tensor, generator: torch.Generator) -> Trial:
    """Teacher's chain (deterministic, all steps) and averaged student's step from the same noise; hr and lr in [-1, 1]."""
    teacher, schedule = run.teacher, run.teacher.schedule
    y = teacher.latents.start(lr, teacher.scale)
    noise = torch.randn(y.shape, generator=generator).to(y)
    averages = {**dict(run.student.named_buffers()), **run.state.ema.values}

    def student(x: Tensor, t: Tensor) -> Tensor:
        return functional_call(run.student, averages, (x, t, lr))

    def chain(denoise: Denoise) -> Tensor:
        return sample_deterministic(denoise, y, schedule, noise)

    if run.config.uses_student_step:
        makers = {
            f"teacher, {schedule.num_steps} steps": lambda: chain(teacher.denoise(lr)),
            "student, 1 step": lambda: sample_one_step(student, y, schedule, noise),
        }
    else:
        makers = {"before": lambda: chain(teacher.denoise(lr)), "after": lambda: chain(student)}
    made: dict[str, Tensor] = {}
    seconds: dict[str, float] = {}
    for name, make in makers.items():
        started = time.perf_counter()
        made[name] = _picture(teacher.latents.decode(make()))
        seconds[name] = (time.perf_counter() - started) / len(lr)
    return Trial(_picture(lr), _picture(hr), made, seconds)


def _picture(x: Tensor) -> Tensor:
    """[-1, 1] to [0, 1] on the CPU; the copy also waits for the device."""
    return (x.float().cpu() / 2 + 0.5).clamp(0, 1)


def measure(trial: Trial, metrics: NamedMetrics) -> dict[str, dict[str, float]]:
    """Mean of every metric, by what was made and by name; pyiqa's no-reference metrics do not look at the truth."""
    found: dict[str, dict[str, float]] = {}
    for name, pictures in trial.made.items():
        found[name] = {}
        for metric, function in metrics.found.items():
            pairs = zip(pictures.split(1), trial.truth.split(1))
            values = [float(function(a, b)) for a, b in pairs]
            found[name][metric] = round(sum(values) / len(values), 4)
    return found
