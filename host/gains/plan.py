"""The GAIN socket: which gains decide about a region's steps, and a fresh policy and estimator for every run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import comfy.model_management as mm
import comfy.model_sampling
import torch
from comfy.model_base import BaseModel
from comfy.model_patcher import ModelPatcher
from comfy.samplers import CFGGuider
from comfy.sd import VAE
from torch import Tensor

from ...imaging.metrics.gain_measures import (
    HALF_RANGE,
    Measure,
    latent_measures,
    linear_rgb,
    picture_measures,
    rgb_measures,
)
from ...imaging.metrics.named import named_metrics
from ...imaging.transfer import upload
from ...sampling.adaptive.choices import GainRule, GrowingRule, JumpRule
from ...sampling.adaptive.dynamic import CallClass, DynamicSettings, DynamicTimesteps
from ...sampling.adaptive.gain import LATENT_METRICS, PAPER_METRICS, PICTURE_METRICS, GainMetric, chosen
from ...sampling.adaptive.observers import BackEnd, MetricGains, ProxyGains, RegressorGains
from ...sampling.adaptive.prior import region_priors
from ...sampling.adaptive.step_size import Moves, StepSizeControl, StepSizeSettings
from ...sampling.adaptive.types import NoiseSpace, RegionResult, Row
from ..images import split_image
from .choices import GainBackEnd, GainLimits
from .models import LoadedGainModels

TOP_TIMESTEP = 999.0
"""Timesteps are on the scale of a chain of 1000, whatever the model's own."""

ENLARGE = 4
"""Linear pictures have a pixel per latent cell; pyiqa's metrics see them this much larger."""

LETTERS = {
    CallClass.WARMUP: "W",
    CallClass.GROWING: "G",
    CallClass.STABLE: "S",
    CallClass.HOLD: "H",
    CallClass.SATURATED: "X",
}
"""Classes of calls in a report."""


PAPER_TAU = 5e-3

TAU_FACTOR = {
    GainBackEnd.LATENT: 0.125,
    GainBackEnd.RGB_LINEAR: 0.25,
    GainBackEnd.PROXIES: 0.7,
    GainBackEnd.VAE: 0.125,
    GainBackEnd.REGRESSOR: 1.0,
}
"""The gains of a back end against those that AdaDiffSR's tau of 5e-3 is for.

Ours, and rough: chosen so that at 5e-3 the embedded teacher's 40 steps become about half as many on four photos (the median
rate over regions and steps lies at 0.3 to 0.5 of it); RGB_LINEAR on a small checkpoint whose weights are made by hand, and on
the teacher a share of that, `linear_rate` of its latents. No published checkpoint was at hand. A regressor's file may name a
tau of its own, which then stands in the place of the paper's.
"""

NEVER = 10**9
"""Patience of regions that do not end early."""

STILL = 2e-3
"""Change per grid step below which a region is stable whatever the proxies say, at the paper's tau (ours)."""


@dataclass(frozen=True)
class GainPlan:
    """What MMLE Gain Estimator gives: choices only; whatever a run remembers is made by `start`.

    latent is in the VAE's scale, picture (M, 3, H, W) in [0, 1]; measures are those of pyiqa; models only for REGRESSOR.
    """

    back_end: GainBackEnd
    settings: DynamicSettings
    metrics: tuple[GainMetric, ...] = ()
    latent: Tensor | None = None
    picture: Tensor | None = None
    vae: VAE | None = None
    measures: Mapping[str, Measure] = field(default_factory=dict[str, Measure])
    left_out: tuple[str, ...] = ()
    models: LoadedGainModels | None = None
    prior: float = 0.0
    """Strength of `sampling.adaptive.prior`."""
    tolerance: float | None = None
    """Error of a jump that step-size control allows; None is the paper's rule."""

    def patchers(self) -> list[ModelPatcher]:
        """Returns the networks that a run needs beside its MODEL."""
        return [] if self.models is None else [self.models.patcher]

    def start(self, guider: CFGGuider, sigmas: Tensor, latent_image: Tensor, rows: Sequence[Row] = ()) -> GainRun:
        """Makes policy and estimator for one run on a canvas (B, C, h, w) in the model's scale, which is also the reference where the
        plan has none; rows that may take different steps get priors. Raises ValueError for references of another size and models
        that the back end cannot look at.
        """
        model = guider.inner_model
        times = timesteps(model.model_sampling, sigmas)
        settings = self.settings.on_grid(len(times))
        if self.tolerance is not None and self.models is None:
            return GainRun(self, self._step_size(settings, model, sigmas), Moves())
        if self.back_end is GainBackEnd.RGB_LINEAR:
            settings = settings.scaled(getattr(model.latent_format, "linear_rate", 1.0))
        reference = self._reference(model, latent_image)
        if self.models is not None:
            regressor = self.models.regressor(guider.model_patcher, reference)
            t_half = min(settings.t_half, self.models.info.t_half)
            observe = RegressorGains(regressor, reference, self.metrics, times, t_half)
        elif self.back_end is GainBackEnd.PROXIES:
            observe = ProxyGains(reference, times, settings.t_half)
        else:
            observe = MetricGains(self._seen(guider, reference), self.metrics, times, settings.t_half)
        if self.tolerance is not None:
            return GainRun(self, self._step_size(settings, model, sigmas), Moves(observe))
        priors = region_priors(reference, rows, self.prior)
        return GainRun(self, DynamicTimesteps(settings, times, priors), observe)

    def _step_size(self, settings: DynamicSettings, model: BaseModel, sigmas: Tensor) -> StepSizeControl:
        """Makes the policy that looks at errors, with the limits of calls of the other."""
        flow = isinstance(model.model_sampling, comfy.model_sampling.CONST)
        limits = StepSizeSettings(self.tolerance or 0.0, settings.min_calls, settings.max_calls)
        return StepSizeControl(limits, sigmas.tolist(), NoiseSpace.FLOW if flow else NoiseSpace.VARIANCE_EXPLODING)

    def _reference(self, model: BaseModel, canvas: Tensor) -> Tensor:
        """Returns the input's latents (M, C, h, w) in the model's scale, on the canvas's device."""
        if self.latent is not None:
            if self.latent.shape[1:] != canvas.shape[1:]:
                raise ValueError(
                    f"The reference of GAIN is a latent of {_size(self.latent)}, the sampled one has {_size(canvas)}: expected equal "
                    "ones; connect the latent that is sampled, or the picture enlarged to the size of the result."
                )
            return model.process_latent_in(self.latent.to(canvas))
        if not canvas.any():
            raise ValueError(
                "GAIN has no reference and the sampled latent is empty: expected the input picture to compare with; connect its "
                "latent to 'reference' of MMLE Gain Estimator."
            )
        return canvas

    def _seen(self, guider: CFGGuider, reference: Tensor) -> BackEnd:
        latents = guider.inner_model.latent_format
        if self.back_end is GainBackEnd.LATENT:
            return BackEnd(reference, latent_measures(getattr(latents, "half_range", HALF_RANGE)))
        if self.back_end is GainBackEnd.VAE:
            return self._decoded(guider, reference)
        if latents.latent_rgb_factors is None or getattr(latents, "latent_rgb_factors_reshape", None) is not None:
            raise ValueError(
                f"ComfyUI has no linear picture of this model's latents ({type(latents).__name__}), which back end 'rgb_linear' "
                "looks at; use 'latent'."
            )
        bias = getattr(latents, "latent_rgb_factors_bias", None)
        view = partial(linear_rgb, factors=latents.latent_rgb_factors, bias=bias)
        return BackEnd(view(reference), {**rgb_measures(), **self.measures}, view)

    def _decoded(self, guider: CFGGuider, reference: Tensor) -> BackEnd:
        """Looks at pictures by the VAE; the host may move the model away for it, so it is called back each time."""
        model = guider.inner_model

        def view(x: Tensor) -> Tensor:
            pixels = cast("VAE", self.vae).decode(model.process_latent_out(x))
            mm.load_models_gpu([guider.model_patcher])
            return upload(pixels.movedim(-1, 1)[:, :3], x.device, torch.float32)

        picture = view(reference) if self.picture is None else self.picture.to(reference.device)
        factor = model.latent_format.spacial_downscale_ratio
        expected = tuple(side * factor for side in reference.shape[2:])
        if tuple(picture.shape[2:]) != expected:
            raise ValueError(
                f"The reference picture of GAIN has {picture.shape[3]}x{picture.shape[2]} pixels, the result will have "
                f"{expected[1]}x{expected[0]}: expected equal ones and the model's own VAE; enlarge the picture first."
            )
        return BackEnd(picture, {**rgb_measures(), **self.measures}, view, factor)


@dataclass(frozen=True)
class GainRun:
    """One run of a plan."""

    plan: GainPlan
    policy: DynamicTimesteps | StepSizeControl
    observe: MetricGains | ProxyGains | RegressorGains | Moves

    def vector(self, rows: Sequence[Row], names: Sequence[str]) -> Tensor:
        """Returns the rows' latest gains (N, names), float32 on the CPU: 0 before their second call and for metrics that are not measured."""
        latest = [self.observe.latest.get(row.key, {}) for row in rows]
        return torch.tensor([[float(gains.get(name, 0.0)) for name in names] for gains in latest])

    def letter(self, row: Row) -> str:
        """Returns the class of a region's last call."""
        return LETTERS[self.policy.states[row.key].classes[-1]]

    def finished(self) -> list[tuple[int, int]]:
        """Returns (image, region) of the regions that have ended."""
        return [key for key, state in self.policy.states.items() if state.status != "active"]

    def report(self, result: RegionResult, fixed: int) -> dict[str, Any]:
        """Tells what the gains did, region by region; fixed are the region calls of a run without them."""
        keys = [[(i, r) for r in range(len(image))] for i, image in enumerate(result.calls_per_region)]
        states, latest = self.policy.states, self.observe.latest
        policy = self.policy
        dynamic = isinstance(policy, DynamicTimesteps)
        tau = policy.settings.tau if isinstance(policy, DynamicTimesteps) else policy.settings.tolerance
        return {
            "gain_back_end": self.plan.back_end.value,
            "gain_metrics": [metric.name for metric in self.plan.metrics],
            "gain_left_out": list(self.plan.left_out),
            "gain_tau": round(tau, 6),
            "gain_rule": (GainRule.PAPER if dynamic else GainRule.STEP_SIZE).value,
            "fixed_region_calls": fixed,
            "classes": [["".join(LETTERS[c] for c in states[key].classes) for key in image] for image in keys],
            "exits_per_region": result.exit_reasons,
            "gains": [[{k: round(v, 5) for k, v in latest[key].items()} for key in image] for image in keys],
        }


def timesteps(model_sampling: Any, sigmas: Tensor) -> list[float]:
    """Gives timesteps of all sigmas but the last, on a scale whose top is 999: indices of short chains and flow times as well."""
    ends = torch.stack([model_sampling.sigma_max, model_sampling.sigma_min]).to(sigmas)
    top, bottom = model_sampling.timestep(ends).float().tolist()
    low = min(0.0, bottom)  # EDM's times are logarithms
    times = model_sampling.timestep(sigmas[:-1]).float()
    return [(t - low) * TOP_TIMESTEP / (top - low) for t in times.tolist()]


def make_plan(
    back_end: str,
    tau: float,
    mode: str,
    metrics: str,
    limits: GainLimits,
    reference: Mapping[str, Any] | None = None,
    image: Tensor | None = None,
    vae: VAE | None = None,
    models: LoadedGainModels | None = None,
    rule: str = GainRule.PAPER.value,
) -> GainPlan:
    """Makes the plan of the node's inputs; only REGRESSOR looks at models. Raises ValueError for what does not go together."""
    kind = GainBackEnd(back_end)
    still = STILL * tau / PAPER_TAU if kind is GainBackEnd.PROXIES else 0.0
    settings = _settings(limits, tau * _tau_factor(kind, models), JumpRule(mode), still)
    tolerance = tau if GainRule(rule) is GainRule.STEP_SIZE else None
    if tolerance is not None and kind is not GainBackEnd.REGRESSOR:
        return GainPlan(kind, settings, tolerance=tolerance)  # looks at predictions alone
    if kind is GainBackEnd.VAE and vae is None:
        raise ValueError("Back end 'vae' decodes every prediction and got no VAE: connect the model's VAE.")
    picture = None if image is None else split_image(image)[0]
    latent = None if reference is None else reference["samples"]
    if latent is None and picture is not None:
        if vae is None:
            raise ValueError(
                "Got an image as reference and no VAE to encode it: connect the model's VAE, or connect the encoded picture to "
                "'reference'."
            )
        latent = vae.encode(picture.movedim(1, -1))
    prior = limits.prior if tau > 0 else 0.0  # at 0 every change counts, in flat regions too
    if kind is GainBackEnd.PROXIES:
        return GainPlan(kind, settings, latent=latent, prior=prior)
    if kind is GainBackEnd.REGRESSOR:
        learnt = regressor_metrics(models)
        return GainPlan(kind, settings, learnt, latent, models=models, prior=prior, tolerance=tolerance)
    wanted, measures, left_out = metrics_of_names(kind, metrics)
    if kind is not GainBackEnd.VAE:
        picture = vae = None
    return GainPlan(kind, settings, wanted, latent, picture, vae, measures, left_out, prior=prior)


def _tau_factor(kind: GainBackEnd, models: LoadedGainModels | None) -> float:
    """Tells what the node's tau is multiplied by."""
    if kind is GainBackEnd.REGRESSOR and models is not None and models.info.tau is not None:
        return models.info.tau / PAPER_TAU
    return TAU_FACTOR[kind]


def regressor_metrics(models: LoadedGainModels | None) -> tuple[GainMetric, ...]:
    """Returns the metrics of a file's regressor, with its ranges and weights. ValueError where there is no regressor."""
    if models is None or models.config.mmle is None:
        got = "no GAIN_MODELS" if models is None else f"GAIN_MODELS without one ({models.config.label})"
        raise ValueError(
            f"Back end 'regressor' got {got}: expected a trained MMLE regressor; connect Load MMLE + PFJ with a file for this MODEL, "
            "train one with Train MMLE, or choose a back end without weights."
        )
    return tuple(
        GainMetric(m.name, m.low, m.high, m.lower_better, m.full_reference, m.weight) for m in models.info.metrics
    )


def _settings(limits: GainLimits, tau: float, rule: JumpRule, still: float) -> DynamicSettings:
    parts = [part.strip() for part in limits.intervals.split(",")]
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(
            f"Got the intervals '{limits.intervals}': expected four whole numbers that do not fall, such as 1, 2, 3, 4."
        )
    if limits.min_share > limits.max_share:
        raise ValueError(
            f"Got min_share {limits.min_share:g} above max_share {limits.max_share:g}: expected at most as much; lower min_share."
        )
    base = DynamicSettings()
    low, high, guard = (round(s * base.max_calls) for s in (limits.min_share, limits.max_share, limits.tail_guard))
    return DynamicSettings(
        jumps=(int(parts[0]), int(parts[1]), int(parts[2]), int(parts[3])),
        tau=tau,
        t_half=limits.t_half,
        t_sat_max=limits.t_sat_max,
        patience=limits.patience if limits.t_sat_max > 0 else NEVER,  # the last call is at timestep 0
        warmup=limits.warmup,
        min_calls=low,
        max_calls=max(1, high),
        tail_guard=guard,
        rule=rule,
        still=still,
        growing=GrowingRule(limits.growing),
    )


def metrics_of_names(
    kind: GainBackEnd, text: str
) -> tuple[tuple[GainMetric, ...], Mapping[str, Measure], tuple[str, ...]]:
    """Returns the metrics of a list of names, those of them that are pyiqa's, and the names whose weights could not be had."""
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    if names == ["paper"]:
        names = [metric.name for metric in PAPER_METRICS]
    on_latents = kind is GainBackEnd.LATENT
    own: Mapping[str, Callable[..., Tensor]] = latent_measures() if on_latents else rgb_measures()
    wanted = chosen(LATENT_METRICS if on_latents else PICTURE_METRICS, names)
    made = named_metrics([metric.name for metric in wanted if metric.name not in own], mm.get_torch_device())
    left = [metric.name for metric in wanted if metric.name not in made.left_out]
    if not left:
        raise ValueError(
            f"The weights of {', '.join(made.left_out)} could not be had (no network?): expected metrics that can be computed; psnr, "
            "ssim, nlpd and sharpness need no weights."
        )
    without = [metric.name for metric in wanted if not metric.full_reference]
    measures = picture_measures(made.found, without, 1 if kind is GainBackEnd.VAE else ENLARGE)
    return chosen(wanted, left), measures, made.left_out


def plan_text(plan: GainPlan) -> str:
    """Returns a line about the plan for the node."""
    if plan.tolerance is not None:
        return f"step size: error of a jump up to {plan.tolerance:.3g} in units of the latent"
    names = ", ".join(metric.name for metric in plan.metrics) or "no metrics"
    if plan.back_end is GainBackEnd.REGRESSOR:
        names += " (its file's)"
    factor = _tau_factor(plan.back_end, plan.models)
    line = f"{plan.back_end.value}: {names}; tau {plan.settings.tau / factor:.3g} for 200 steps"
    if factor != 1:
        line += f", {plan.settings.tau:.3g} on the scale of these gains"
    return line + (f"; without {', '.join(plan.left_out)}: weights could not be had" if plan.left_out else "")


def outlined(x0: Tensor, keys: Sequence[tuple[int, int]], regions: Sequence[Any]) -> Tensor:
    """Copies the canvas (B, C, h, w) for a preview: finished regions, (image, region), have a frame of negated cells."""
    shown = x0.clone()
    for image, region_id in keys:
        r = regions[region_id]
        for part in ((r.y, slice(r.x, r.x + r.width)), (r.y + r.height - 1, slice(r.x, r.x + r.width))):
            shown[(image, slice(None), *part)] = -x0[(image, slice(None), *part)]
        for x in (r.x, r.x + r.width - 1):
            shown[image, :, r.y : r.y + r.height, x] = -x0[image, :, r.y : r.y + r.height, x]
    return shown


def _size(latent: Tensor) -> str:
    if latent.ndim != 4:
        return f"shape {tuple(latent.shape)}"
    return f"{latent.shape[1]} channels and {latent.shape[3]}x{latent.shape[2]} cells"
