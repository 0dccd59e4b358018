"""Golden checks of StableSR's sampling: respaced tables, single DDPM and DDIM steps, start latent, face guidance."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import Tensor

from ...sampling.schedules import Table, stable_diffusion_alphas
from ...sampling.spaced import SpacedSchedule, spaced_timesteps
from ...training.stablesr.losses import noised, velocity
from ...training.stablesr.samples import clean_prediction
from .adadiffsr_codebook import implicit_jump
from .stablesr_tiles import metadata
from .vectors import FORMULA, Checks, Golden

SMALLEST_VARIANCE = 1e-20  # what the reference takes the logarithm of at k = 0


def check_respaced(golden: Golden) -> None:
    full = stable_diffusion_alphas()
    _expect_tables(golden, "full.", SpacedSchedule.of(len(full)))
    betas = SpacedSchedule.of(len(full)).betas
    golden.expect("full.betas_f64", torch.from_numpy(betas), 1e-12)
    for steps in metadata(golden)["steps"]:
        schedule = _reference_schedule(steps)
        golden.expect(f"s{steps}.timesteps", torch.tensor(schedule.timesteps))
        _expect_tables(golden, f"s{steps}.", schedule)


def _reference_schedule(steps: int) -> SpacedSchedule:
    """The chain that the reference respaces out of the buffer that it has registered in float32."""
    return SpacedSchedule.of(steps, stable_diffusion_alphas().astype(np.float32))


def _expect_tables(golden: Golden, prefix: str, schedule: SpacedSchedule) -> None:
    a = schedule.alphas_cumprod
    tables = {
        "betas": schedule.betas,
        "alphas_cumprod": a,
        "alphas_cumprod_prev": schedule.alphas_cumprod_prev,
        "sqrt_alphas_cumprod": np.sqrt(a),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1.0 - a),
        "log_one_minus_alphas_cumprod": np.log(1.0 - a),
        "sqrt_recip_alphas_cumprod": np.sqrt(1.0 / a),
        "sqrt_recipm1_alphas_cumprod": schedule.sigmas,
        "posterior_variance": schedule.posterior_variance,
        "posterior_log_variance_clipped": np.log(np.maximum(schedule.posterior_variance, SMALLEST_VARIANCE)),
        "posterior_mean_coef1": schedule.posterior_mean_coef_x0,
        "posterior_mean_coef2": schedule.posterior_mean_coef_xt,
    }
    golden.expect_all(prefix, ((name, torch.from_numpy(table)) for name, table in tables.items()))


def reference_only_ddim_tables(golden: Golden) -> None:
    for steps in metadata(golden)["steps"]:
        uniform, a, previous = reference_ddim(steps)
        prefix = f"s{steps}."
        golden.expect(f"{prefix}model_timesteps", torch.tensor(spaced_timesteps(steps)))
        golden.expect(f"{prefix}alpha_timesteps", torch.tensor(uniform))
        golden.expect(f"{prefix}alphas", torch.from_numpy(a))
        golden.expect(f"{prefix}alphas_prev", torch.from_numpy(previous))
        golden.expect(f"{prefix}sqrt_one_minus_alphas", torch.from_numpy(np.sqrt(1.0 - a)))
        for eta in (0, 1):
            noise = implicit_jump(a, previous, float(eta)).noise_factor
            golden.expect(f"{prefix}eta{eta}.sigmas", torch.from_numpy(noise))


def reference_ddim(steps: int) -> tuple[list[int], Table, Table]:
    """Timesteps, alphas and previous alphas of the reference's DDIM scripts, which differ from those the network is given.

    They come from a uniform list, and the last step goes nowhere. The pack does not sample so: there both lists are one.
    """
    full = stable_diffusion_alphas()
    uniform = list(range(0, len(full), len(full) // steps))  # more than `steps` where they do not divide the chain
    a = full[uniform]
    return uniform, a, np.append(full[:1], a[:-1])


def check_ddpm_steps(golden: Golden) -> None:
    for steps, kind, _, index, prefix in _step_cases(golden):
        schedule = _reference_schedule(steps)
        x, output = golden[f"{prefix}in.x"], golden[f"{prefix}in.model_out"]
        x0 = predicted_x0(x, output, float(schedule.alphas_cumprod[index]), kind)
        golden.expect(f"{prefix}out.x0", x0)
        golden.expect(f"{prefix}out.x_prev", schedule.step(index, x, x0, golden[f"{prefix}in.noise"]))


def reference_only_ddim_steps(golden: Golden) -> None:
    for steps, kind, eta, index, prefix in _step_cases(golden):
        _, alphas, previous = reference_ddim(steps)
        a = float(alphas[index])
        given = torch.tensor([spaced_timesteps(steps)[index]])
        golden.expect(f"{prefix}in.t_given_to_model", given)
        x, output, noise = (golden[f"{prefix}in.{name}"] for name in ("x", "model_out", "noise"))
        x0 = predicted_x0(x, output, a, kind)
        golden.expect(f"{prefix}out.x0", x0)
        jump = implicit_jump(alphas[index], previous[index], eta)
        eps = (x - a**0.5 * x0) / (1.0 - a) ** 0.5
        found = float(jump.x0_factor) * x0 + float(jump.eps_factor) * eps + float(jump.noise_factor) * noise
        golden.expect(f"{prefix}out.x_prev", found)


def _step_cases(golden: Golden) -> list[tuple[int, str, float, int, str]]:
    """Steps, prediction type, eta (0 where the name has none), index and key prefix of every case of a file."""
    pattern = re.compile(r"(s(\d+)\.(eps|v)(?:\.eta(\d+))?\.i(\d+)\.)in\.x")
    found = [match for match in map(pattern.fullmatch, golden.tensors) if match]
    if not found:
        raise ValueError("The file has no tensor named s{steps}.{eps|v}.i{index}.in.x.")
    return [(int(m[2]), m[3], float(m[4] or 0), int(m[5]), m[1]) for m in found]


def predicted_x0(x: Tensor, output: Tensor, a: float, kind: str) -> Tensor:
    """x0 by the pack's own formula, from a prediction type as the files name it."""
    if kind not in ("eps", "v"):
        raise ValueError(f"The prediction type is {kind!r}, expected eps or v.")
    return clean_prediction(x, output, a, predicts_v=kind == "v")


def check_start_and_targets(golden: Golden) -> None:
    latent, noise, t = golden["in.latent"], golden["in.noise"], golden["in.t"].long()
    golden.expect("out.x_T", noised(latent, torch.tensor([999]), noise))
    golden.expect("out.q_sample_t", noised(latent, t, noise))
    golden.expect("out.v_target_t", velocity(latent, t, noise))


def reference_only_guidance(golden: Golden) -> None:
    """The face mode's pull of x0 towards a restored picture's latent, a gradient step on mean squares of the batch."""
    meta = metadata(golden)
    schedule, index, x = _reference_schedule(meta["steps"]), meta["i"], golden["in.x"]
    x0 = predicted_x0(x, golden["in.model_out"], float(schedule.alphas_cumprod[index]), meta["param"])
    golden.expect("out.x0_plain", x0)
    for _ in range(meta["ref_steps"]):
        x0 = x0 - meta["lr"] * 2.0 * (x0 - golden["in.ref"]) / len(x0)
    golden.expect("out.x0_guided", x0)
    golden.expect("out.x_prev_guided_zero_noise", schedule.step(index, x, x0, torch.zeros_like(x)), FORMULA)


CHECKS: Checks = {
    "01_schedule_respaced": check_respaced,
    "02_schedule_ddim": reference_only_ddim_tables,
    "14_ddpm_steps": check_ddpm_steps,
    "15_start_and_targets": check_start_and_targets,
    "16_ddim_steps": reference_only_ddim_steps,
    "21_reference_guidance": reference_only_guidance,
}
