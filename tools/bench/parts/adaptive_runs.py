"""An embedded base as a MODEL of the host, sampled by the region sampler with every choice of `bench adaptive`.

Importable where a ComfyUI is; `tools.env.in_process.enter_host` comes first.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ....host.conditioning import empty_prompt, lr_condition, with_values
from ....host.files import EMBEDDED_BASE, GAIN_MODELS, find_file
from ....host.gains.choices import GainLimits
from ....host.gains.feature_injection import inject_pfj
from ....host.gains.models import LoadedGainModels, load_gain_models, loaded_from_file
from ....host.gains.plan import GainPlan, GainRun, make_plan, regressor_metrics
from ....host.latent_base import load_latent_base
from ....host.regions.run import Schedule, sample_latent
from ....host.regions.sampler import RegionOptions, regions_of
from ....host.resshift.loading import load_one_step
from ....host.stablesr.loading import apply_stablesr, load_stablesr
from ....host.vae import encode
from ....imaging.detail import laplacian_map
from ....imaging.resize import bicubic_upsample
from ....imaging.tiles import Region
from ....sampling.adaptive.choices import GainRule, MergeMode
from ....sampling.adaptive.plan import policy_for
from ....sampling.adaptive.types import MeasuredCall, Row, known, rows_of
from ...env.steps import StepError
from .adaptive_counts import Outcome
from .measures import luma, measure, vif
from .seam_ratio import seam_ratio
from .spectrum import spectrum_distance

BASE = "embedded: teacher, 15 steps"
SCHEDULER = "normal"
"""Not "simple": the base's table has 15 entries, which that would repeat in a run of more steps."""
NYQUIST = 0.125
"""Highest frequency of the input in cycles per pixel of the result."""
REGRESSOR_METRICS = "metrics of the regressor"
"""A back end of the benchmark only: the metrics that the regressor tells, measured on decoded pictures."""


@dataclass(frozen=True)
class Variant:
    """One way to sample. back_end "" makes every step in every region, or with prior_calls so many in the mean, by the input."""

    back_end: str = ""
    tau: float = 0.005
    rule: str = GainRule.PAPER.value
    mode: str = "ladder"
    metrics: str = "psnr, nlpd, sharpness"
    limits: GainLimits = field(default_factory=GainLimits)
    merge: MergeMode = MergeMode.CONSENSUS
    pfj: float = 0.0
    steps: int = 40
    prior_calls: float = 0.0
    whole: bool = False
    """The host's own sampler on the whole frame, in the place of regions."""
    cache: tuple[str, float] | None = None
    """The host's node of a step cache and its threshold; whole frames only."""


@dataclass(frozen=True)
class Setting:
    """What all runs of a benchmark share: the sampler, tile and overlap in pixels, the seed, regions in a call."""

    sampler: str = "ddpm"
    tile: int = 128
    overlap: int = 32
    seed: int = 0
    rows: int = 4


@dataclass
class NetworkStopwatch:
    """Seconds of one part of a run."""

    seconds: float = 0.0

    def timed(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The call's result; its time is added."""
        _wait()
        start = perf_counter()
        result = call(*args, **kwargs)
        _wait()
        self.seconds += perf_counter() - start
        return result


class WatchedGains:
    """An estimator whose time is taken."""

    def __init__(self, inner: Any, watch: NetworkStopwatch) -> None:
        self.inner, self.watch = inner, watch

    @property
    def latest(self) -> Any:
        """What the report and the injection read."""
        return self.inner.latest

    def measured(self, rows: Sequence[Row], x0: Tensor, levels: Sequence[int]) -> MeasuredCall:
        return known(self.watch.timed(self.inner, rows, x0, levels))


@dataclass(frozen=True)
class WatchedPlan(GainPlan):
    """A plan that makes watched estimators."""

    watch: NetworkStopwatch = field(default_factory=NetworkStopwatch)

    def start(self, guider: Any, sigmas: Tensor, latent_image: Tensor, rows: Sequence[Row] = ()) -> GainRun:
        run = super().start(guider, sigmas, latent_image, rows)
        return replace(run, observe=WatchedGains(run.observe, self.watch))


def watched(plan: GainPlan, watch: NetworkStopwatch) -> WatchedPlan:
    """The plan with its estimator's time taken."""
    return WatchedPlan(**{f.name: getattr(plan, f.name) for f in fields(plan)}, watch=watch)


class Teacher:
    """The embedded teacher, which reads the small picture beside its latents."""

    title = "Embedded teacher"

    def __init__(self, gain_file: Path | None) -> None:
        self._loaded = load_one_step(BASE)
        self.vae = self._loaded.vae
        self.models = loaded_from_file(str(gain_file), gain_file.name) if gain_file else gain_models()

    def conditioned(self, low: Tensor) -> tuple[Any, list[Any], dict[str, Tensor]]:
        """MODEL, conditioning and LATENT for an LR picture (1, 3, h, w)."""
        model = self._loaded.patcher.clone()
        values, latent = lr_condition(self._loaded, low)
        return model, with_values(empty_prompt(model), values), latent


class StableSRBase:
    """The embedded base with StableSR's parts, which read the latent of the enlarged picture. No gain models ship for it."""

    title = "Embedded base with StableSR's parts"

    def __init__(self, gain_file: Path | None) -> None:
        self.models = loaded_from_file(str(gain_file), gain_file.name) if gain_file else None
        self._model, self.vae = load_latent_base()
        self._parts = load_stablesr(EMBEDDED_BASE)

    def conditioned(self, low: Tensor) -> tuple[Any, list[Any], dict[str, Tensor]]:
        """MODEL, conditioning and LATENT for an LR picture (1, 3, h, w)."""
        latent = {"samples": encode(self.vae, bicubic_upsample(low, 4).clamp(0, 1))}
        prompt = empty_prompt(self._model)
        model, positive, _, _ = apply_stablesr(self._model, prompt, prompt, self._parts, latent, 1.0)
        return model, positive, latent


BASES = {"teacher": Teacher, "stablesr": StableSRBase}


class AdaptiveBase:
    """A base, its gain models if there are any, and runs of it."""

    def __init__(self, setting: Setting, base: str = "teacher", gain_file: Path | None = None) -> None:
        """gain_file: gain models in the place of those that ship."""
        self.setting = setting
        self.base = BASES[base](gain_file)
        self.models = self.base.models

    def has(self, part: str) -> bool:
        """Whether the repository has the trained part, "mmle" or "pfj"."""
        return self.models is not None and getattr(self.models.config, part) is not None

    def needs_models(self, part: str = "mmle") -> LoadedGainModels:
        """The trained parts. Raises StepError where the repository lacks this one."""
        if self.models is None or not self.has(part):
            raise StepError(
                f"There is no {part} for this base: expected the trained part; make it with dev.py train {part} and name its file with "
                "--gain-models, or choose parts of the benchmark and back ends without it."
            )
        return self.models

    def run(self, low: Tensor, truth: Tensor, choice: Variant, fixed: Tensor | None = None) -> tuple[Tensor, Outcome]:
        """The picture (1, 3, H, W) in [0, 1] of the LR image (1, 3, h, w), and what it took and is worth."""
        picture, report, watch = self.sample(low, choice)
        return picture, outcome(report, picture, truth, watch, fixed)

    def sample(
        self, low: Tensor, choice: Variant
    ) -> tuple[Tensor, dict[str, Any], tuple[NetworkStopwatch, NetworkStopwatch]]:
        """The picture, the sampler's report, and the time of network and estimator."""
        network, estimator = NetworkStopwatch(), NetworkStopwatch()
        model, positive, latent = self.base.conditioned(low)
        negative = positive

        def call_model(apply: Callable[..., Tensor], arguments: dict[str, Any]) -> Tensor:
            return network.timed(apply, arguments["input"], arguments["timestep"], **arguments["c"])

        model.set_model_unet_function_wrapper(call_model)
        if choice.whole:
            report = self._whole(model, positive, latent, choice)
            return self._decoded(report.pop("samples")), report, (network, estimator)
        plan = None if not choice.back_end else watched(self.plan(choice, latent), estimator)
        if choice.pfj:
            if plan is None:
                plan = watched(self.plan(replace(choice, back_end="regressor", limits=every_step()), latent), estimator)
            model, positive, negative, _ = inject_pfj(
                model, positive, negative, plan, self.needs_models("pfj"), choice.pfj
            )
        options = RegionOptions(
            self.setting.tile, self.setting.overlap, choice.merge, self.setting.rows, self.setting.sampler, None, plan
        )
        if choice.prior_calls:
            seen = latent["samples"]
            regions = regions_of(model.model, seen.shape[2:], options)
            options = replace(options, budget=prior_budget(seen, regions, choice.steps, choice.prior_calls))
        schedule = Schedule(self.setting.seed, choice.steps, 1.0, SCHEDULER, 1.0)
        with torch.inference_mode():
            sampled, report = sample_latent(model, positive, negative, latent, schedule, options)
        return self._decoded(sampled["samples"]), report, (network, estimator)

    def _decoded(self, samples: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.base.vae.decode(samples).movedim(-1, 1).clamp(0, 1).float().cpu()

    def _whole(self, model: Any, positive: list[Any], latent: dict[str, Tensor], choice: Variant) -> dict[str, Any]:
        """One region as large as the canvas, by the host's sampler: the samples, and what `outcome` reads of a report."""
        calls: list[int] = []
        # EasyCache answers in the place of the network, inside of what a function wrapper is put around.
        unet = model.model.diffusion_model
        hook = getattr(unet, "network", unet).register_forward_pre_hook(lambda *_: calls.append(1))
        if choice.cache is not None:
            model = with_step_cache(model, *choice.cache)
        start, canvas = perf_counter(), latent["samples"]
        sampling = importlib.import_module("comfy.sample")
        noise = sampling.prepare_noise(canvas, self.setting.seed)
        try:
            with torch.inference_mode():
                samples = sampling.sample(
                    model, noise, choice.steps, 1.0, self.setting.sampler, SCHEDULER, positive, positive, canvas,
                    disable_pbar=True, seed=self.setting.seed,
                )  # fmt: skip
        finally:
            hook.remove()
        height, width = canvas.shape[2:]
        return {
            "samples": samples,
            "region_calls": len(calls),
            "steps": choice.steps,
            "steps_per_region": [[len(calls)]],
            "canvas": [height, width],
            "regions": [[0, 0, height, width]],
            "seconds": perf_counter() - start,
        }

    def plan(self, choice: Variant, latent: dict[str, Tensor]) -> GainPlan:
        """MMLE Gain Estimator's plan of a choice."""
        arguments = (choice.mode, choice.metrics, choice.limits, latent)
        if choice.back_end == "regressor":
            return make_plan("regressor", choice.tau, *arguments, models=self.needs_models(), rule=choice.rule)
        if choice.back_end != REGRESSOR_METRICS:
            return make_plan(choice.back_end, choice.tau, *arguments, vae=self.base.vae, rule=choice.rule)
        measured = regressor_metrics(self.needs_models())
        regressor = make_plan("regressor", choice.tau, *arguments, models=self.needs_models())
        names = ", ".join(metric.name for metric in measured)
        plan = make_plan("vae", choice.tau, choice.mode, names, choice.limits, latent, vae=self.base.vae)
        return replace(plan, metrics=measured, settings=regressor.settings)

    def macs(self, low: Tensor, choice: Variant) -> dict[str, float]:
        """Multiplications and additions per region and call, of the network and of a choice's estimator, on a short run."""
        plain = self._counted(low, Variant(steps=4))
        if not choice.back_end:
            return {"network": plain}
        both = self._counted(low, replace(choice, steps=4, limits=every_step(), pfj=0.0))
        return {"network": plain, "estimator": both - plain}

    def _counted(self, low: Tensor, choice: Variant) -> float:
        with FlopCounterMode(display=False) as counter:
            _, report, _ = self.sample(low, choice)
        return counter.get_total_flops() / 2 / report["region_calls"]


def prior_budget(latent: Tensor, regions: Sequence[Region], steps: int, mean_calls: float) -> Tensor:
    """A budget (1, h, w) for the input's latent (1, C, h, w): the root of its detail, scaled to so many calls in the mean.

    Detail is the mean absolute Laplacian, as in `sampling.adaptive.prior`, whose thresholds spread steps about as the root.
    """
    wanted = laplacian_map(latent.float()).sqrt()  # (1, h, w)
    low, high = 0.0, 1e6

    def mean_of(factor: float) -> float:
        policy = policy_for((wanted * factor).clamp(0, 1), regions, (wanted.shape[-2], wanted.shape[-1]), steps)
        return fmean(policy.planned_calls(row, steps + 1) for row in rows_of(regions, 1))

    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_of(middle) < mean_calls else (low, middle)
    return (wanted * high).clamp(0, 1)


def with_step_cache(model: Any, node: str, threshold: float) -> Any:
    """A clone of the MODEL behind the host's EasyCache or LazyCache, at the node's shares of the chain."""
    caches = importlib.import_module("comfy_extras.nodes_easycache")
    return getattr(caches, f"{node}Node").execute(model, threshold, 0.15, 0.95, False).args[0]


def gain_models() -> LoadedGainModels | None:
    """The trained parts of the base, None where the repository has none."""
    return load_gain_models(BASE) if Path(find_file(GAIN_MODELS, BASE)).is_file() else None


def every_step() -> GainLimits:
    """Limits with which gains are measured and nothing is skipped."""
    return GainLimits(intervals="1, 1, 1, 1")


def outcome(
    report: dict[str, Any],
    picture: Tensor,
    truth: Tensor,
    watch: tuple[NetworkStopwatch, NetworkStopwatch],
    fixed: Tensor | None,
) -> Outcome:
    """What a sampler's report and its picture (1, 3, H, W) amount to."""
    quality = measure(picture, truth)
    cell = picture.shape[-1] // report["canvas"][1]
    regions = [Region(*rectangle).scaled(cell) for rectangle in report["regions"]]
    network, estimator = watch
    return Outcome(
        calls=report["region_calls"],
        fixed_calls=report["steps"] * len(regions),
        steps=tuple(report["steps_per_region"][0]),
        detail=tuple(gradient_energy(truth[(..., *region.slices)]) for region in regions),
        quality={name: value for name, value in quality.items() if name != "ger"} | {"vif": vif(picture, truth)},
        ger=quality["ger"],
        spectrum=float(spectrum_distance(luma(picture), luma(truth), NYQUIST)),
        seam=seam_ratio(picture, regions) / seam_ratio(truth, regions) if len(regions) > 1 else 1.0,
        seconds=report["seconds"],
        network_seconds=network.seconds,
        estimator_seconds=estimator.seconds,
        to_fixed=math.inf if fixed is None else measure(picture, fixed)["psnr"],
    )


def gradient_energy(picture: Tensor) -> float:
    """Mean squared difference to the next pixel, across and down."""
    return float(picture.diff(dim=-1).square().mean() + picture.diff(dim=-2).square().mean())


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
