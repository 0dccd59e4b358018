"""Golden checks of TASR and DiffBIR that need no network of the host: the chain, tiles, adapters."""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import Tensor

from ...imaging.color import wavelet_color_fix, wavelet_decompose
from ...imaging.resize import pad_amount
from ...imaging.stablesr_tiles import offcentre_window
from ...sampling.schedules import Table, stable_diffusion_alphas
from ...sampling.spaced import SpacedSchedule
from .tasr_adapters import CHECKS as ADAPTER_CHECKS
from .vectors import FORMULA, Checks, Golden

TABLE = 1e-10
LEVELS = 5


def check_schedule(golden: Golden) -> None:
    alphas = stable_diffusion_alphas()
    golden.expect("alphas_cumprod", torch.from_numpy(alphas), TABLE)
    golden.expect("betas", torch.from_numpy(SpacedSchedule.of(len(alphas)).betas), TABLE)
    for steps in sorted({int(match[1]) for key in golden.tensors if (match := re.match(r"n(\d+)\.", key))}):
        chain = SpacedSchedule.of(steps)
        golden.expect(f"n{steps}.timesteps", torch.tensor(chain.timesteps))
        for name, table in chain_tables(chain).items():
            golden.expect(f"n{steps}.{name}", torch.from_numpy(table), TABLE)


def chain_tables(chain: SpacedSchedule) -> dict[str, Table]:
    """The tables of a respaced chain under the names of the published codes."""
    return {
        "betas": chain.betas,
        "alphas": 1.0 - chain.betas,
        "alphas_cumprod": chain.alphas_cumprod,
        "alphas_cumprod_prev": chain.alphas_cumprod_prev,
        "sqrt_recip_alphas_cumprod": chain.alphas_cumprod**-0.5,
        "sqrt_recipm1_alphas_cumprod": chain.sigmas,
        "posterior_mean_coef_x0": chain.posterior_mean_coef_x0,
        "posterior_mean_coef_xt": chain.posterior_mean_coef_xt,
        "posterior_variance": chain.posterior_variance,
        "sigma_ve": chain.sigmas,
    }


def toy_network(x: Tensor, t: int, condition: Tensor) -> Tensor:
    """The eps model of the file: tanh(0.8 x + 0.3 c + 0.2 cos(t / 150))."""
    return torch.tanh(0.8 * x + 0.3 * condition + 0.2 * torch.cos(torch.tensor(t / 150.0)))


def check_trajectory(golden: Golden) -> None:
    """A whole run with guidance: eps_neg + w (eps_pos - eps_neg)."""
    golden.given("cfg_scale", "cond_pos", "cond_neg", "noise", "x_T")
    chain = SpacedSchedule.of(len(golden["timesteps_desc"]))
    golden.expect("timesteps_desc", torch.tensor(chain.timesteps[::-1]))
    x, cfg, states = golden["x_T"], float(golden["cfg_scale"]), []
    for k, index in enumerate(reversed(range(len(chain.timesteps)))):
        t, sigma = chain.timesteps[index], float(chain.sigmas[index])
        positive, negative = (toy_network(x, t, golden[f"cond_{side}"]) for side in ("pos", "neg"))
        eps = negative + cfg * (positive - negative)
        x = chain.step(index, x, x / float(chain.alphas_cumprod[index]) ** 0.5 - sigma * eps, golden["noise"][k])
        states.append(x)
    golden.expect("x_after_step", torch.stack(states))


def check_wavelet_and_tiles(golden: Golden) -> None:
    content, style = golden["in.content"], golden["in.style"]
    high, low = wavelet_decompose(content, LEVELS)
    golden.expect("out.high", high)
    golden.expect("out.low", low)
    golden.expect("out.reconstruction", wavelet_color_fix(content, style, LEVELS))
    for key in golden.below("gaussian_weights."):
        weights = torch.from_numpy(offcentre_window(int(key), int(key)))
        golden.expect(f"gaussian_weights.{key}", weights.to(golden[f"gaussian_weights.{key}"].dtype), FORMULA)
    bottom, right = (pad_amount(side, 64) for side in content.shape[-2:])
    golden.expect("out.pad64", F.pad(content, (0, right, 0, bottom)))


CHECKS: Checks = {
    "schedule": check_schedule,
    "spaced_ddpm_traj": check_trajectory,
    "wavelet_tiling": check_wavelet_and_tiles,
    **ADAPTER_CHECKS,
}
