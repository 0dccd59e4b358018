"""SIGMAS of the papers' schedules for a MODEL of the host."""

from __future__ import annotations

import comfy.model_sampling
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..sampling.spaced import spaced_timesteps

TIMESTEPS = 1000


def spaced_sigmas(model: ModelPatcher, steps: int, denoise: float = 1.0) -> Tensor:
    """Noise levels (steps + 1,) of the respaced chain, falling, 0 at the end; denoise as the host's Basic Scheduler reads it.

    denoise < 1 takes the last `steps` of a chain of steps / denoise; 0 gives no level. Raises ValueError for a model without a
    table of timesteps (flow models), and for a chain longer than it.
    """
    sampling = model.get_model_object("model_sampling")
    discrete = isinstance(sampling, comfy.model_sampling.ModelSamplingDiscrete)
    if not discrete or len(table := sampling.get_buffer("sigmas")) != TIMESTEPS:
        raise ValueError(
            f"Spaced Sigmas got a MODEL without a table of {TIMESTEPS} timesteps: expected an eps or v model such as SD 1.x, 2.x "
            "or SDXL; for others use the host's Basic Scheduler."
        )
    if denoise <= 0.0:
        return torch.empty(0)
    total = int(steps / denoise)
    if total > TIMESTEPS:
        raise ValueError(
            f"Spaced Sigmas got {steps} steps at denoise {denoise}, a chain of {total}: expected at most {TIMESTEPS}; take fewer."
        )
    kept = spaced_timesteps(total, TIMESTEPS)[:steps]
    levels = table[torch.tensor(kept[::-1], device=table.device)]
    return torch.cat([levels, levels.new_zeros(1)]).float().cpu()
