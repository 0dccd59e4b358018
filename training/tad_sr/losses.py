"""Losses of residual-shift distillation: ResShift (2023), SinSR (Wang et al. 2024), TAD-SR (arXiv 2408.07476).

Latents are (B, C, h, w); every loss is (B,), a mean over C, h, w that the caller averages over the batch. Denoisers are
`sampling.samplers.Denoise` callables; the teacher's parameters must be frozen by the caller.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...sampling.residual_shift import at, eps_from_x0, last_index, network_time, q_sample, scale_input
from ...sampling.samplers import Denoise, predict_x0
from ...sampling.schedules import ResidualShiftSchedule
from .config import ScoreForm


def per_sample_mean(x: Tensor) -> Tensor:
    """Mean over all axes but the first, (B,)."""
    return x.flatten(1).mean(1)


def per_sample_mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of each image, (B,)."""
    return per_sample_mean((prediction - target).square())


def draw_times(batch: int, limit: int, generator: torch.Generator) -> Tensor:
    """Schedule indices uniform over 0..limit-1, (B,) int64 on the generator's device.

    TAD-SR's code takes limit 3 for the score loss (T / 5 for T = 15) and T - 1 for the discriminator.
    """
    return torch.randint(limit, (batch,), generator=generator, device=generator.device)


def draw_perturbation(like: Tensor, form: ScoreForm, generator: torch.Generator) -> Tensor:
    """Perturbation noise shaped as `like`: standard normal in the paper's form, uniform on [0, 1) in the code's."""
    draw = torch.randn if form is ScoreForm.PAPER else torch.rand
    return draw(like.shape, generator=generator, device=generator.device).to(like)


# --- ResShift ---------------------------------------------------------------------------------------------------------


def resshift_loss(
    denoise: Denoise,
    x0: Tensor,
    y: Tensor,
    t: Tensor,
    noise: Tensor,
    schedule: ResidualShiftSchedule,
    *,
    weighted: bool = False,
) -> Tensor:
    """||x0 - f(x_t, y, t)||^2 (ResShift, eq. 8), by default without the weight w_t, as the released models."""
    x_t = q_sample(x0, y, t, noise, schedule)
    loss = per_sample_mse(predict_x0(denoise, x_t, t, schedule), x0)
    return at(schedule.weight_loss_mse, t, loss) * loss if weighted else loss


# --- SinSR ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SinSRLosses:
    """The parts of SinSR's loss, each (B,), and the student's x0 for the noisy latent."""

    prediction: Tensor
    distill: Tensor
    inverse: Tensor
    ground_truth: Tensor


def sinsr_losses(
    student: Denoise, x_T: Tensor, teacher_x0: Tensor, x0: Tensor, schedule: ResidualShiftSchedule
) -> SinSRLosses:
    """Distillation, inverse and consistency-preserving losses (SinSR, eqs. 7-10).

    `x_T` is the prior sample, `teacher_x0` the teacher's deterministic chain from that very sample, `x0` the ground truth.
    """
    last = last_index(x_T, schedule)
    prediction = predict_x0(student, x_T, last, schedule)
    x_T_of_truth = _predict_noise_latent(student, x0, schedule).detach()
    return SinSRLosses(
        prediction=prediction,
        distill=per_sample_mse(prediction, teacher_x0),
        inverse=per_sample_mse(_predict_noise_latent(student, teacher_x0, schedule), x_T),
        ground_truth=per_sample_mse(predict_x0(student, x_T_of_truth, last, schedule), x0),
    )


def _predict_noise_latent(student: Denoise, x0: Tensor, schedule: ResidualShiftSchedule) -> Tensor:
    """x_T from a clean latent: the student at time 0, its input divided by the deviation of T - 1 as in SinSR's code."""
    last = last_index(x0, schedule)
    return student(scale_input(x0, last, schedule), network_time(torch.zeros_like(last), schedule))


# --- TAD-SR -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TeacherScore:
    """A perturbed latent x_t, and the teacher's x0 and noise for it, all (B, C, h, w)."""

    x_t: Tensor
    x0: Tensor
    eps: Tensor


def teacher_score(
    teacher: Denoise,
    z: Tensor,
    y: Tensor,
    t: Tensor,
    noise: Tensor,
    schedule: ResidualShiftSchedule,
    form: ScoreForm = ScoreForm.PAPER,
) -> TeacherScore:
    """The teacher's view of z perturbed to time t (TAD-SR, eq. 7); gradients are cut at z, the U-Net Jacobian is left out."""
    x_t = q_sample(z.detach(), y, t, noise, schedule)
    seen = x_t if form is ScoreForm.PAPER else scale_input(x_t, t, schedule)
    x0 = predict_x0(teacher, seen, t, schedule).detach()
    return TeacherScore(x_t, x0, eps_from_x0(x_t, x0, y, t, schedule))


def hsd_gradient(student: TeacherScore, target: TeacherScore) -> Tensor:
    """d L_HSD / d z_s = w(t) (eps^s - eps^tea), w(t) = 1 as in the code (TAD-SR, eqs. 7 and 14-16)."""
    return student.eps - target.eps


def gradient_as_loss(gradient: Tensor, z: Tensor) -> Tensor:
    """A (B,) loss whose gradient with respect to z is `gradient` / (C h w); its value means nothing."""
    return per_sample_mean(gradient.detach() * z)


def high_frequency_score_distillation(
    teacher: Denoise,
    student_x0: Tensor,
    target_x0: Tensor,
    y: Tensor,
    t: Tensor,
    noise: Tensor,
    schedule: ResidualShiftSchedule,
    *,
    form: ScoreForm = ScoreForm.PAPER,
) -> Tensor:
    """High-frequency enhanced score distillation (TAD-SR, eqs. 7-8): both latents perturbed by the same noise at a small t.

    `target_x0` is the teacher chain's result (default of the paper) or the ground-truth latent (its ablation).
    """
    student = teacher_score(teacher, student_x0, y, t, noise, schedule, form)
    target = teacher_score(teacher, target_x0, y, t, noise, schedule, form)
    return gradient_as_loss(hsd_gradient(student, target), student_x0)


def adversarial_input(z: Tensor, y: Tensor, t: Tensor, noise: Tensor, schedule: ResidualShiftSchedule) -> Tensor:
    """What the teacher's encoder sees for the discriminator: z perturbed to time t and scaled once (TAD-SR, eq. 9)."""
    return scale_input(q_sample(z, y, t, noise, schedule), t, schedule)


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """mean relu(1 - D(real)) + mean relu(1 + D(fake)) (TAD-SR, eq. 11). Logits (B, K), (B,) out; detach fake's latent."""
    return per_sample_mean(F.relu(1.0 - real)) + per_sample_mean(F.relu(1.0 + fake))


def generator_hinge(fake: Tensor) -> Tensor:
    """-mean D(fake) (TAD-SR, eq. 12). Logits (B, K), (B,) out."""
    return -per_sample_mean(fake)
