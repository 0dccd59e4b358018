"""Golden checks of ResShift, SinSR and TAD-SR: schedules, diffusion, losses, tiling, degradation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...imaging.degradation import parts as degradation
from ...imaging.resize import bicubic_upsample, pad_to_multiple
from ...imaging.tiles import starts
from ...sampling import residual_shift as rs
from ...sampling.samplers import (
    Denoise,
    StepReport,
    invert_deterministic,
    predict_x0,
    sample_ancestral,
    sample_deterministic,
    sample_one_step,
)
from ...sampling.schedules import ResidualShiftSchedule
from ...training.tad_sr import config, losses
from ...training.tad_sr.config import DistillSettings
from ...training.tad_sr.steps import weights_of
from .analytic import analytic_denoiser, predictions, schedule_of, states
from .tad_sr_networks import CHECKS as NETWORK_CHECKS
from .vectors import Checks, Golden

F64_TOLERANCE = 1e-12


def diffusion_of(golden: Golden) -> tuple[ResidualShiftSchedule, int]:
    """The schedule and the scale factor of a file."""
    diffusion = golden.config["diffusion"]
    return schedule_of(diffusion, golden.config["s0_rule"]), int(diffusion.get("sf", 4))


def check_schedules(golden: Golden) -> None:
    for entry in golden.config["entries"]:
        schedule = schedule_of(entry["overrides"], entry["s0_rule"], golden.config["defaults"])
        for name in golden.below(f"{entry['tag']}."):
            table = torch.as_tensor(np.asarray(getattr(schedule, name.removesuffix("_f64"))))
            tolerance = F64_TOLERANCE if name.endswith("_f64") else 1e-5
            golden.expect(f"{entry['tag']}.{name}", table, tolerance)


def check_diffusion_ops(golden: Golden) -> None:
    schedule, _ = diffusion_of(golden)
    denoise = analytic_denoiser(golden.config["fake_predictor"])
    x0, y, noise, noise2, t = (golden[f"in.{name}"] for name in ("x0", "y", "noise", "noise2", "t"))
    x_t = rs.q_sample(x0, y, t, noise, schedule)
    predicted = predict_x0(denoise, x_t, t, schedule)
    eps = rs.eps_from_x0(x_t, x0, y, t, schedule)
    later = t > 0
    inverse_x0 = predict_x0(denoise, x0[later], t[later], schedule)
    results = {
        "q_sample": x_t,
        "q_mean": rs.q_mean(x0, y, t, schedule),
        "q_variance": rs.q_variance(t, x0, schedule).expand_as(x0),
        "scale_input": rs.scale_input(x_t, t, schedule),
        "posterior_mean": rs.posterior_mean(x0, x_t, t, schedule),
        "posterior_variance": rs.at(schedule.posterior_variance, t, x0).expand_as(x0),
        "posterior_log_variance_clipped": rs.at(schedule.posterior_log_variance_clipped, t, x0).expand_as(x0),
        "p_sample": rs.ancestral_step(predicted, x_t, t, noise2, schedule),
        "p_sample_pred_xstart": predicted,
        "ddim_sample": rs.deterministic_step(predicted, x_t, y, t, schedule),
        "ddim_inverse_from_x0": rs.inverse_step(inverse_x0, x0[later], y[later], t[later], schedule),
        "prior_sample": rs.prior_sample(y, noise, schedule),
        "eps_from_xstart": eps,
        "xstart_from_eps": rs.x0_from_eps(x_t, eps, y, t, schedule),
        "mse_per_sample": losses.resshift_loss(denoise, x0, y, t, noise, schedule),
    }
    golden.expect_all("out.", results.items())


def check_chains(golden: Golden) -> None:
    schedule, factor = diffusion_of(golden)
    denoise = analytic_denoiser(golden.config["fake_predictor"])
    z_y = bicubic_upsample(golden["in.y_lr"], factor)
    noise, step_noise = golden["in.noise"], golden["in.step_noise"]
    steps: dict[str, list[StepReport]] = {"ddim": [], "ancestral": [], "inverse": []}
    sample_deterministic(denoise, z_y, schedule, noise, steps["ddim"].append)
    sample_ancestral(denoise, z_y, schedule, noise, lambda i: step_noise[i], steps["ancestral"].append)
    invert_deterministic(denoise, z_y, schedule, golden["in.x_hq"], steps["inverse"].append)
    results = {
        "z_y": z_y,
        "z_T": rs.prior_sample(z_y, noise, schedule),
        "ddim_states": states(steps["ddim"]),
        "ddim_pred_xstart": predictions(steps["ddim"]),
        "ancestral_states": states(steps["ancestral"]),
        "one_step": sample_one_step(denoise, z_y, schedule, noise),
        "ddim_inverse_states": states(steps["inverse"]),
    }
    golden.expect_all("out.", results.items())


def check_losses(golden: Golden) -> None:
    schedule, _ = diffusion_of(golden)
    teacher, student = (analytic_denoiser(golden.config[name]) for name in ("teacher", "student"))
    z_s, z_tea = golden["in.z_student"], golden["in.z_teacher"]
    adversarial = losses.generator_hinge(golden["in.logits_fake"])
    distill = losses.per_sample_mse(z_s, z_tea)
    code = _check_score_loss(golden, config.ScoreForm.CODE, golden["in.noise_uniform"], teacher, schedule)
    _check_score_loss(golden, config.ScoreForm.PAPER, golden["in.noise_gaussian"], teacher, schedule)
    golden.expect("out.mse_distill", distill)
    golden.expect("out.loss_D", losses.discriminator_hinge(golden["in.logits_real"], golden["in.logits_fake"]))
    golden.expect("out.loss_G_unweighted", adversarial)
    for name, weights in (("sr", config.SUPER_RESOLUTION_WEIGHTS), ("face", config.FACE_WEIGHTS)):
        settings = DistillSettings(score_weight=weights.score, adversarial_weight=weights.adversarial)
        parts = {"distill": distill, "score": code, "adversarial": adversarial}
        total = torch.stack([weights_of(settings)[part] * value for part, value in parts.items()]).sum(0)
        golden.expect(f"out.total_{name}", total)
    _check_sinsr_and_resshift(golden, teacher, student, schedule)


def _check_score_loss(
    golden: Golden, form: config.ScoreForm, noise: Tensor, teacher: Denoise, schedule: ResidualShiftSchedule
) -> Tensor:
    z_s, z_tea, y, t = (golden[f"in.{name}"] for name in ("z_student", "z_teacher", "z_y", "t_hsd"))
    z_s = z_s.clone().requires_grad_()
    scores = {
        "student": losses.teacher_score(teacher, z_s, y, t, noise, schedule, form),
        "teacher": losses.teacher_score(teacher, z_tea, y, t, noise, schedule, form),
    }
    loss = losses.high_frequency_score_distillation(teacher, z_s, z_tea, y, t, noise, schedule, form=form)
    (gradient,) = torch.autograd.grad(loss.sum(), z_s)
    prefix = f"hsd_{form.value}."
    for name, score in scores.items():
        golden.expect(f"{prefix}x_{name}", score.x_t)
        golden.expect(f"{prefix}x0hat_{name}", score.x0)
        golden.expect(f"{prefix}eps_{name}", score.eps)
    # The loss is a mean over C, h, w, so what reaches z_s is the gradient of the paper divided by their product.
    golden.expect(f"{prefix}grad", gradient * z_s[0].numel())
    golden.expect(f"{prefix}loss", loss)
    return loss.detach()


def _check_sinsr_and_resshift(
    golden: Golden, teacher: Denoise, student: Denoise, schedule: ResidualShiftSchedule
) -> None:
    y_lr, x_gt, noise = (golden[f"sinsr.in.{name}"] for name in ("y_lr", "x_gt", "noise"))
    z_y = bicubic_upsample(y_lr, x_gt.shape[-1] // y_lr.shape[-1])
    z_T = rs.prior_sample(z_y, noise, schedule)
    target = sample_deterministic(teacher, z_y, schedule, noise)
    parts = losses.sinsr_losses(student, z_T, target, x_gt, schedule)
    results = {
        "z_T": z_T,
        "pred": parts.prediction,
        "loss": parts.distill + parts.inverse + parts.ground_truth,
        "mse": parts.distill,
        "mse_xT": parts.inverse,
        "mse_gt": parts.ground_truth,
    }
    golden.expect_all("sinsr.out.", results.items())
    t = golden["resshift.in.t"]
    golden.expect("resshift.out.z_t", rs.q_sample(x_gt, z_y, t, noise, schedule))
    for name in ("mse", "loss"):
        golden.expect(f"resshift.out.{name}", losses.resshift_loss(student, x_gt, z_y, t, noise, schedule))


def check_tiling(golden: Golden) -> None:
    for index, entry in enumerate(golden.config["entries"]):
        rows = starts(entry["h"], entry["patch"], entry["stride"])
        columns = starts(entry["w"], entry["patch"], entry["stride"])
        corners = [(row, column) for row in rows for column in columns]
        golden.expect(f"{index}.starts", torch.tensor(corners))
        golden.expect(f"{index}.out.image", _tiled(golden[f"{index}.in.image"], corners, entry))
    golden.expect("pad.out", pad_to_multiple(golden["pad.in"], golden.config["pad_multiple"]))
    for name in golden.below("bicubic.out_x"):
        golden.expect(f"bicubic.out_x{name}", bicubic_upsample(golden["bicubic.in"], int(name)))


def _tiled(image: Tensor, corners: list[tuple[int, int]], entry: Mapping[str, int]) -> Tensor:
    """Uniform average of the golden file's stand-in for a network, nearest upsampling times 1 + 0.1 k."""
    factor, patch = entry["sf"], entry["patch"]
    total = F.interpolate(torch.zeros_like(image), scale_factor=factor)
    count = torch.zeros_like(total)
    for k, (row, column) in enumerate(corners):
        tile = F.interpolate(image[..., row : row + patch, column : column + patch], scale_factor=factor)
        where = (..., slice(row * factor, (row + patch) * factor), slice(column * factor, (column + patch) * factor))
        total[where] += tile * (1 + 0.1 * k)
        count[where] += 1
    return total / count


def check_degradation(golden: Golden) -> None:
    config = golden.config
    size, (sigma_x, sigma_y), rotation = config["k"], config["s"], config["th"]
    shapes = {"iso": (sigma_x,), "aniso": (sigma_x, sigma_y, rotation)}
    for shape, sigmas in shapes.items():
        golden.expect(f"kernel.{shape}", degradation.gaussian_kernel(size, *sigmas))
        generalized = degradation.generalized_kernel(size, config["bg"], *sigmas)
        golden.expect(f"kernel.generalized_{shape}", generalized)
        golden.expect(f"kernel.plateau_{shape}", degradation.plateau_kernel(size, config["bp"], *sigmas))
    padded = golden["kernel.sinc"].shape[-1]
    golden.expect("kernel.sinc", degradation.sinc_kernel(size, config["w"], padded))
    image = golden["in.image"]
    kernels = torch.stack([golden["kernel.aniso"], golden["kernel.generalized_aniso"]])
    golden.expect("out.filter2d", degradation.filter_per_sample(image, kernels))
    golden.expect("out.jpeg", degradation.jpeg(image, golden["in.quality"]))
    # The stored image, since a last-bit difference before rounding may be a whole level after it.
    golden.expect("out.clamp_round", degradation.quantize_to_8bit(golden["out.filter2d"]))


CHECKS: Checks = {
    "schedules": check_schedules,
    "diffusion_ops": check_diffusion_ops,
    "chains": check_chains,
    "losses": check_losses,
    "tiling": check_tiling,
    "degradation": check_degradation,
    **NETWORK_CHECKS,
}
