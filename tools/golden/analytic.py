"""What golden files describe in words: schedules, analytic denoisers, recorded sampler steps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...sampling.samplers import Denoise, StepReport
from ...sampling.schedules import ResidualShiftSchedule, residual_shift_schedule, respace


def schedule_of(
    overrides: Mapping[str, Any], s0_rule: str, defaults: Mapping[str, Any] | None = None
) -> ResidualShiftSchedule:
    """The schedule that a golden configuration describes; values it does not name are the product's defaults."""
    if s0_rule not in ("plain", "clipped"):
        raise ValueError(f"s0_rule is {s0_rule!r}, expected plain or clipped.")
    options: dict[str, Any] = {}
    for layer in (defaults or {}, overrides):  # published YAML files nest some of them in `schedule_kwargs`
        options |= {**layer, **(layer.get("schedule_kwargs") or {})}
    named = {name: options[name] for name in ("min_noise_level", "kappa", "power", "etas_end") if name in options}
    schedule = residual_shift_schedule(options.get("steps", 15), **named, clip_start=s0_rule == "clipped")
    respacing = options.get("timestep_respacing")
    return respace(schedule, int(respacing)) if respacing else schedule


def analytic_denoiser(description: str) -> Denoise:
    """f(u, t) = a tanh(b u) + c t with the numbers that stand in the description."""
    match = re.search(r"\(a,\s*b,\s*c\)\s*=\s*\(([^)]*)\)", description)
    if match is None:
        raise ValueError(f"No (a,b,c)=(...) in the predictor's description {description!r}.")
    a, b, c = (float(number) for number in match[1].split(","))

    def denoise(u: Tensor, t: Tensor) -> Tensor:
        return a * torch.tanh(b * u) + c * t.to(u.dtype).reshape(-1, *[1] * (u.ndim - 1))

    return denoise


def states(steps: Sequence[StepReport]) -> Tensor:
    """The latents that a sampler's callback was told, in loop order, (T, B, C, h, w)."""
    return torch.stack([step["x"] for step in steps])


def predictions(steps: Sequence[StepReport]) -> Tensor:
    """The predicted x0 that a sampler's callback was told, in loop order, (T, B, C, h, w)."""
    return torch.stack([step["denoised"] for step in steps])
