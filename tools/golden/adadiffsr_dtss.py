"""Golden checks of AdaDiffSR's dynamic timesteps: traces of scripted gains, and a whole run on small regions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...imaging.tiles import Region
from ...sampling.adaptive import dynamic
from ...sampling.adaptive.choices import MergeMode
from ...sampling.adaptive.sampler import sample_regions
from ...sampling.adaptive.steppers import stepper_for
from ...sampling.adaptive.types import Gains, MeasuredCall, NoiseSpace, RegionObserver, Row, known
from ...sampling.batching import BatchSize
from ...sampling.schedules import sigma_of, stable_diffusion_alphas
from .adadiffsr_codebook import grid_jumps, grid_timesteps
from .formula_weights import meta_of
from .vectors import Checks, Golden, compared

F64 = 1e-9
Segments = Sequence[Sequence[float]]


def settings_of(cfg: Mapping[str, Any]) -> dynamic.DynamicSettings:
    """The settings that a golden configuration describes."""
    return dynamic.DynamicSettings(
        jumps=grid_jumps(cfg["intervals"], cfg["n_grid"], cfg["T"]),
        tau=cfg["tau"],
        t_half=cfg["t_half"],
        t_sat_max=cfg["t_sat_max"],
        patience=cfg["patience"],
        warmup=cfg["warmup"],
        min_calls=cfg["min_nfe"],
        max_calls=cfg["max_nfe"],
        tail_guard=cfg["tail_guard"],
    )


def policy_of(cfg: Mapping[str, Any]) -> dynamic.DynamicTimesteps:
    """The policy of a golden configuration on its own grid."""
    return dynamic.DynamicTimesteps(settings_of(cfg), grid_timesteps(cfg["n_grid"], cfg["T"])[::-1])


def scripted(segments: Segments, t: float, jump: int | None) -> Gains:
    """Gains of a call at t after a jump: tanh(rate d), rates from the first segment [high, low, fr, nr] that holds t."""
    fr, nr = next((tuple(rates) for high, low, *rates in segments if low <= t <= high), (0.0, 0.0))
    return {dynamic.FULL_REFERENCE: math.tanh(fr * (jump or 1)), dynamic.NO_REFERENCE: math.tanh(nr * (jump or 1))}


def check_traces(golden: Golden) -> None:
    for run in golden.config:
        error = _trace_error(run)
        golden.results.append(compared(f"{run['config']}.{run['region']}", error, F64))


def _trace_error(run: Mapping[str, Any]) -> float:
    """Greatest difference of any number of a run; infinite where a whole number, a word or the length differs."""
    policy, row = policy_of(run["cfg"]), Row(0, 0, Region(0, 0, 8, 8))
    levels, index, calls = len(policy.timesteps) + 1, 0, list[dict[str, Any]]()
    while index < levels - 1:
        state = policy.states.get((0, 0), dynamic.RegionState())
        t, jump = policy.timesteps[index], state.jump
        place = {"call": state.calls + 1, "j": levels - 2 - index, "t": t, "d_prev": jump}
        decision = policy.decide(row, index, levels, scripted(run["segments"], t, jump))
        state = policy.states[0, 0]
        over = decision.index == levels - 1
        calls.append({**place, **_recorded(state), "d": 0 if over else decision.index - index})
        index = decision.index
    state = policy.states[0, 0]
    result = {
        "status": decision.reason,
        "nfe": state.calls,
        "final_t": calls[-1]["t"],
        "best_call": state.best_call,
    }
    if len(calls) != len(run["calls"]):
        return math.inf
    pairs = [(result, run), *zip(calls, run["calls"])]
    return max(_difference(value, expected[key]) for actual, expected in pairs for key, value in actual.items())


def _recorded(state: dynamic.RegionState) -> dict[str, Any]:
    return {
        "I_fr": state.fr,
        "I_nr": state.nr,
        "cls": state.classes[-1].name,
        "level": state.level,
        "neg": state.falling,
        "S": state.quality,
        "best_call": state.best_call,
        "status": state.status,
    }


def _difference(actual: Any, expected: Any) -> float:
    if isinstance(actual, float) and isinstance(expected, (float, int)):
        return abs(actual - expected) if math.isfinite(expected) else math.inf
    return 0.0 if actual == expected else math.inf


def check_toy(golden: Golden) -> None:
    """The region sampler on images of one region each, in y = z / sqrt(abar) = x0 + sigma n and in float64."""
    golden.compared_keys |= {"o", "z_T", "noise_by_dest_index"}  # inputs, whatever their names
    toy = meta_of(golden.path)["toy"]
    runs = _runs(golden, toy)
    policy = policy_of(runs[0]["cfg"])
    alphas = torch.from_numpy(_alphas(golden))[torch.tensor(policy.timesteps)]  # (levels - 1,), falling noise
    sigmas = torch.from_numpy(sigma_of(alphas.numpy()))
    reference, z, noise = (golden[key].double() for key in ("o", "z_T", "noise_by_dest_index"))
    timesteps = torch.tensor(policy.timesteps, dtype=torch.float64)

    def model(y: Tensor, sigma: Tensor, rows: Sequence[Row]) -> Tensor:
        at = (sigma[:, None] - sigmas[None]).abs().argmin(1)
        scale, t = (table[at].view(-1, 1, 1, 1) for table in (alphas.sqrt(), timesteps))
        return torch.tanh(0.5 * y * scale + 0.1 * t / 1000 + reference[[row.image for row in rows]])

    class Script(RegionObserver):
        def measured(self, rows: Sequence[Row], x0: Tensor, levels: Sequence[int]) -> MeasuredCall:
            states = [policy.states.get((row.image, 0), dynamic.RegionState()) for row in rows]
            places = zip(rows, levels, states)
            return known(
                [scripted(runs[row.image]["segments"], policy.timesteps[at], state.jump) for row, at, state in places]
            )

    result = sample_regions(
        model,
        z / alphas[0].sqrt(),
        [*sigmas.tolist(), 0.0],
        regions=[Region(0, 0, *z.shape[-2:])],
        stepper=stepper_for("ddpm", NoiseSpace.VARIANCE_EXPLODING),
        merge=MergeMode.FINAL,
        policy=policy,
        noise=lambda level: noise[len(sigmas) - 1 - level],
        rows_per_call=BatchSize(3),
        observer=Script(),
    )
    golden.expect("nfe", torch.tensor(result.calls_per_region)[:, 0])
    golden.expect("out", result.samples, F64)


def _runs(golden: Golden, toy: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The traces whose scripts the regions follow."""
    path = golden.path.with_name("dtss_traces.json")
    if not path.is_file():
        raise ValueError("The scripts of the regions stand in dtss_traces.json, which is not beside the file.")
    traces = json.loads(path.read_text(encoding="utf-8"))
    named = {run["region"]: run for run in traces if run["config"] == toy["config"]}
    return [named[region] for region in toy["regions"]]


def _alphas(golden: Golden) -> Any:
    coefficients = golden.path.with_name("skip_coeffs.safetensors")
    if coefficients.is_file():
        return golden.sibling("skip_coeffs")["alphas_cumprod"].numpy()
    return stable_diffusion_alphas()


CHECKS: Checks = {"dtss_traces.json": check_traces, "toy_end_to_end": check_toy}
