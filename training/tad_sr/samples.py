"""What a distilled student does to a few pictures, beside its teacher: a picture, and pyiqa's numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor
from torch.func import functional_call

from ...imaging.metrics.named import NamedMetrics
from ...sampling.samplers import Denoise, sample_deterministic, sample_one_step
from .distillation import DistillRun

GAP, HEADER, COLUMN = 4, 16, 160
"""Pixels between pictures, of the words above them, and at least of a column."""


@dataclass(frozen=True)
class Trial:
    """Pictures (B, 3, H, W) in [0, 1]: what was enlarged, the truth, and by name what was made of it; seconds per picture."""

    lr: Tensor
    truth: Tensor
    made: Mapping[str, Tensor]
    seconds: Mapping[str, float]


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


def sheet(trial: Trial) -> Tensor:
    """One row per picture: LR, what was made, the truth, small ones with larger pixels; (1, 3, H, W) in [0, 1]."""
    factor = -(-COLUMN // trial.truth.shape[-1])
    height, width = (factor * side for side in trial.truth.shape[-2:])
    seen = {"LR": trial.lr, **trial.made, "truth": trial.truth}
    columns = {name: F.interpolate(pictures, size=(height, width), mode="nearest") for name, pictures in seen.items()}
    canvas = Image.new("RGB", (len(columns) * (width + GAP) - GAP, HEADER + len(trial.lr) * (height + GAP)), "white")
    draw = ImageDraw.Draw(canvas)
    for column, (name, pictures) in enumerate(columns.items()):
        left = column * (width + GAP)
        draw.text((left + 2, 2), name, fill="black")
        pixels = (pictures.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        for row, picture in enumerate(pixels):
            canvas.paste(Image.fromarray(picture), (left, HEADER + row * (height + GAP)))
    return torch.from_numpy(np.asarray(canvas).copy()).permute(2, 0, 1)[None].float() / 255
