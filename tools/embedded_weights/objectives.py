"""What each phase of the embedded model's training minimises."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.pixel_autoencoder import PixelAutoencoder
from ...models.pixel_denoiser import PixelDenoiser, precondition, upsampled_latent
from ...sampling.residual_shift import last_index, prior_sample, scale_input
from ...sampling.samplers import sample_deterministic
from ...sampling.schedules import shorten
from ...training.picture_losses import charbonnier, energy_loss
from ...training.tad_sr.base import bound, schedule_of
from ...training.tad_sr.losses import draw_times, high_frequency_score_distillation, per_sample_mse
from .config import RecipeConfig, StudentWeights
from .loop import LossFn

codec = PixelAutoencoder()


def regression_loss(model: PixelDenoiser) -> LossFn:
    """Plain regression: the last level with no noise in its input, x_T = y."""

    def loss(hr: Tensor, lr: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        schedule, y = schedule_of(model), upsampled_latent(lr)
        t = last_index(y, schedule)
        value = charbonnier(model(scale_input(y, t, schedule), t, lr), codec.encode(hr))
        return value, {"loss": float(value.detach())}

    return loss


def teacher_loss(model: PixelDenoiser, recipe: RecipeConfig, *, between: bool = False) -> LossFn:
    """ResShift's mean squared error (eq. 8) in EDM's weighting 1 / c_out^2; a share of the batch at the last level.

    `between` draws places between the schedule's entries too, so that chains may have more steps than it has entries.
    """

    def loss(hr: Tensor, lr: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        schedule, x0, y = schedule_of(model), codec.encode(hr), upsampled_latent(lr)
        last = schedule.num_steps - 1
        t = torch.rand(len(hr), generator=generator) * last if between else draw_times(len(hr), last + 1, generator)
        t[torch.rand(len(hr), generator=generator) < recipe.last_level_share] = last
        x_t = noisy_latent(model, x0, y, t, torch.randn(x0.shape, generator=generator))
        prediction = model(x_t / (model.kappa**2 * _eta(model, t) + 1).sqrt(), t, lr)
        c_out = precondition(model.level(t), model.kappa, model.residual_std)[2]
        errors = (prediction - x0).square().mean((1, 2, 3)) / c_out**2
        value = errors.mean()
        low = errors[t < schedule.num_steps // 2].detach()
        return value, {"loss": float(value.detach()), **({"low": float(low.mean())} if len(low) else {})}

    return loss


def noisy_latent(model: PixelDenoiser, x0: Tensor, y: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """x_t = x0 + eta_t (y - x0) + kappa sqrt(eta_t) n (ResShift, eq. 2) at places t (B,) that may lie between entries."""
    eta = _eta(model, t)
    return x0 + eta * (y - x0) + model.kappa * eta.sqrt() * noise


def _eta(model: PixelDenoiser, t: Tensor) -> Tensor:
    return model.level(t).square().view(-1, 1, 1, 1)


def student_loss(student: PixelDenoiser, teacher: PixelDenoiser, recipe: RecipeConfig) -> LossFn:
    """One step: fidelity to the truth, TAD-SR's distillation and score terms (eqs. 6-8), and local sharpness.

    Deviation from TAD-SR: the truth enters directly and no discriminator does. A teacher this small is no better than its
    own first step, so distilling it alone can only lose; the chain is shortened for cost.
    """
    weights: StudentWeights = recipe.weights

    def loss(hr: Tensor, lr: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        schedule, x0, y = schedule_of(student), codec.encode(hr), upsampled_latent(lr)
        t, noise = last_index(y, schedule), torch.randn(x0.shape, generator=generator)
        x_T = prior_sample(y, noise, schedule)
        prediction = student(scale_input(x_T, t, schedule), t, lr)
        fidelity = charbonnier(prediction, x0)
        energy = energy_loss(codec.decode(prediction), hr)
        some = slice(0, recipe.distill_batch)
        denoise = bound(teacher, lr[some])
        with torch.no_grad():
            target = sample_deterministic(denoise, y[some], shorten(schedule, recipe.teacher_chain), noise[some])
        times = draw_times(len(target), recipe.score_levels, generator)
        perturbation = torch.randn(target.shape, generator=generator)
        distill = per_sample_mse(prediction[some], target).mean()
        student_part = prediction[some]
        score = high_frequency_score_distillation(
            denoise, student_part, target, y[some], times, perturbation, schedule
        ).mean()
        value = (
            weights.fidelity * fidelity + weights.distill * distill + weights.score * score + weights.energy * energy
        )
        return value, {"fidelity": float(fidelity.detach()), "distill": float(distill.detach()), "energy": float(energy.detach())}  # fmt: skip

    return loss
