"""One step of distillation: what is drawn, what the frozen teacher says to it, and what the student minimises (TAD-SR)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from ...sampling.residual_shift import network_time, prior_sample, q_sample
from ...sampling.samplers import Denoise, deterministic_chain, predict_x0
from ...sampling.schedules import ResidualShiftSchedule, shorten
from ..picture_losses import charbonnier, energy_loss
from .base import LatentModel, bound
from .config import SDS, TRUTH, DistillSettings
from .losses import (
    ScoreForm,
    adversarial_input,
    draw_perturbation,
    draw_times,
    gradient_as_loss,
    hsd_gradient,
    per_sample_mean,
    per_sample_mse,
    resshift_loss,
    sinsr_losses,
    teacher_score,
)


@dataclass(frozen=True)
class DistillDraw:
    """All randomness of a step; drawn alike whatever the settings leave out, so that variants see the same noise."""

    noise: Tensor
    """Of the student's start, and of stage 0, (B, C, h, w)."""
    start: Tensor
    """Index at which the student starts, the same for all, (B,)."""
    times: Tensor
    """Indices of stage 0."""
    score_times: Tensor
    score_noise: Tensor
    adversarial_times: Tensor
    adversarial_noise: Tensor


@dataclass(frozen=True)
class DistillBatch:
    """What the losses compare, all on the student's device."""

    hr: Tensor
    lr: Tensor
    x0: Tensor
    y: Tensor
    x: Tensor
    """Where the student starts, not scaled."""
    target: Tensor | None
    """The teacher's chain from x, of the first images where it is computed for a part of them."""
    draw: DistillDraw

    def part(self, some: slice) -> DistillBatch:
        """Some of the images."""
        hr, lr, x0, y, x = (tensor[some] for tensor in (self.hr, self.lr, self.x0, self.y, self.x))
        target = None if self.target is None else self.target[some]
        drawn = {field.name: getattr(self.draw, field.name)[some] for field in fields(self.draw)}
        return DistillBatch(hr, lr, x0, y, x, target, DistillDraw(**drawn))

    def split(self, size: int) -> list[tuple[DistillBatch, float]]:
        """Parts of at most `size` images (0: all of them), each with its share of the batch."""
        count = len(self.hr)
        parts = [self.part(slice(start, start + (size or count))) for start in range(0, count, size or count)]
        return [(part, len(part.hr) / count) for part in parts] if len(parts) > 1 else [(self, 1.0)]


def draw_step(
    settings: DistillSettings, schedule: ResidualShiftSchedule, like: Tensor, generator: torch.Generator
) -> DistillDraw:
    """Times and noise of one step for latents like `like` (B, C, h, w), from a CPU generator."""
    count, last, form = len(like), schedule.num_steps - 1, ScoreForm(settings.score_form)
    noise = torch.randn(like.shape, generator=generator)
    quarter = int(torch.randint(1, 5, (), generator=generator))
    drawn = DistillDraw(
        noise=noise,
        start=torch.full((count,), start_index(schedule, quarter) if settings.random_times else last),
        times=draw_times(count, last + 1, generator),
        score_times=draw_times(count, min(settings.score_levels, last), generator),
        score_noise=draw_perturbation(noise, form, generator),
        adversarial_times=draw_times(count, last, generator),
        adversarial_noise=draw_perturbation(noise, form, generator),
    )
    moved = {field.name: getattr(drawn, field.name).to(like.device) for field in fields(drawn)}
    return DistillDraw(
        **{name: value.to(like.dtype) if value.is_floating_point() else value for name, value in moved.items()}
    )


def start_index(schedule: ResidualShiftSchedule, quarter: int) -> int:
    """Index at a quarter (1..4) of a schedule: 3, 7, 11, 14 of 15, the student's times in the public code's option."""
    return min(int(schedule.num_steps / 4 * quarter), schedule.num_steps - 1)


@torch.no_grad()
def prepare(
    settings: DistillSettings,
    teacher: LatentModel,
    hr: Tensor,
    lr: Tensor,
    generator: torch.Generator,
    *,
    noise: Tensor | None = None,
    target: Tensor | None = None,
) -> DistillBatch:
    """Latents, noise and the teacher's chain for pictures (B, 3, H, W) in [-1, 1]; noise and target may be given."""
    size = settings.microbatch or len(hr)
    latents = teacher.latents
    x0 = torch.cat([latents.encode(part) for part in hr.split(size)])
    y = torch.cat([latents.start(part, teacher.scale) for part in lr.split(size)])
    drawn = draw_step(settings, teacher.schedule, x0, generator)
    if noise is not None:
        drawn = replace(drawn, noise=noise.to(x0))
    index = int(drawn.start[0])
    if index == teacher.schedule.num_steps - 1:
        x = prior_sample(y, drawn.noise, teacher.schedule)
    else:
        x = q_sample(x0, y, drawn.start, drawn.noise, teacher.schedule)
    if target is None and settings.uses_chain:
        seen = settings.teacher_batch or len(hr)
        parts = zip(*(tensor[:seen].split(size) for tensor in (x, y, lr)))
        schedule = chain_schedule(teacher.schedule, index, settings.teacher_steps)
        target = torch.cat([deterministic_chain(teacher.denoise(c), a, b, schedule) for a, b, c in parts])
    return DistillBatch(hr, lr, x0, y, x, None if target is None else target.to(x0), drawn)


def chain_schedule(schedule: ResidualShiftSchedule, index: int, steps: int) -> ResidualShiftSchedule:
    """The entries of the teacher's chain from an index down, shortened to `steps` (0: none left out)."""
    levels, times = schedule.sqrt_etas[: index + 1], schedule.timestep_map[: index + 1]
    whole = ResidualShiftSchedule(levels, schedule.kappa, times)
    return shorten(whole, min(steps, whole.num_steps)) if steps else whole


def student_prediction(
    settings: DistillSettings, student: nn.Module, schedule: ResidualShiftSchedule, batch: DistillBatch
) -> tuple[Tensor, dict[str, Tensor]]:
    """z_s (B, C, h, w) and SinSR's parts (B,) that come with it."""
    if not settings.uses_sinsr:
        return predict_x0(bound(student, batch.lr), batch.x, batch.draw.start, schedule), {}
    target = batch.x0 if batch.target is None else batch.target
    losses = sinsr_losses(bound(student, batch.lr), batch.x, target, batch.x0, schedule)
    return losses.prediction, {"inverse": losses.inverse, "cycle": losses.ground_truth}


def student_losses(
    settings: DistillSettings, teacher: LatentModel, batch: DistillBatch, prediction: Tensor
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Scalars to be weighed by `weights_of`, all but the adversarial one, and numbers that are no losses."""
    found: dict[str, Tensor] = {}
    numbers: dict[str, float] = {}
    some = slice(0, settings.teacher_batch or None)
    if settings.distill and batch.target is not None:
        found["distill"] = per_sample_mse(prediction[some], batch.target).mean()  # TAD-SR, eq. 6
    if settings.score_part:
        gradient = score_gradient(settings, teacher, batch.part(some), prediction[some])
        found["score"] = gradient_as_loss(gradient, prediction[some]).mean()
        numbers["score_gradient"] = float(per_sample_mean(gradient.square()).mean().sqrt())
    if settings.fidelity:
        found["fidelity"] = charbonnier(prediction, batch.x0)
    if settings.energy:
        found["energy"] = energy_loss(teacher.latents.decode(prediction), batch.hr)
    return found, numbers


@torch.no_grad()
def score_gradient(settings: DistillSettings, teacher: LatentModel, batch: DistillBatch, prediction: Tensor) -> Tensor:
    """dL/dz_s of the score loss before the mean over C, h, w: HSD (TAD-SR, eq. 7) or SDS (Poole et al. 2022, eq. 3)."""
    denoise: Denoise = teacher.denoise(batch.lr)
    form, t, noise = ScoreForm(settings.score_form), batch.draw.score_times, batch.draw.score_noise
    of_student = teacher_score(denoise, prediction, batch.y, t, noise, teacher.schedule, form)
    if settings.score == SDS:
        return of_student.eps - noise
    other = batch.x0 if settings.score_target == TRUTH or batch.target is None else batch.target[: len(prediction)]
    return hsd_gradient(of_student, teacher_score(denoise, other, batch.y, t, noise, teacher.schedule, form))


def stage_zero_loss(student: nn.Module, schedule: ResidualShiftSchedule, batch: DistillBatch) -> Tensor:
    """ResShift's loss (eq. 8), unweighted, by which teachers are trained."""
    drawn = batch.draw
    return resshift_loss(bound(student, batch.lr), batch.x0, batch.y, drawn.times, drawn.noise, schedule).mean()


def teacher_features(settings: DistillSettings, teacher: LatentModel, batch: DistillBatch, z: Tensor) -> list[Tensor]:
    """The frozen teacher's feature maps of z perturbed to each image's time (TAD-SR, eq. 9)."""
    t = batch.draw.adversarial_times
    seen = adversarial_input(z, batch.y, t, batch.draw.adversarial_noise, teacher.schedule)
    return teacher.network.features(seen, network_time(t, teacher.schedule), batch.lr, taps=settings.taps)


def weights_of(settings: DistillSettings) -> Mapping[str, float]:
    """Weights of all losses of the student by name."""
    names = ("distill", "inverse", "cycle", "resshift", "fidelity", "energy")
    parts = {name: float(getattr(settings, name)) for name in names}
    return {**parts, "score": settings.score_part, "adversarial": settings.adversarial_part}
