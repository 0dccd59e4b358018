"""Train MMLE and Train PFJ: the runs that the nodes describe, their files, their progress and their ends."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor

from ...imaging.degradation.presets import PRESETS
from ...imaging.metrics.gain_measures import Measure, rgb_measures
from ...models.feature_injection import Pfj
from ...models.gain_models import GainModelsInfo
from ...models.gain_regressor import Mmle
from ...models.state_dict import StateDict
from ...sampling.adaptive.gain import GainMetric
from ...training.data import SMOOTH_TAPS, DegradedPairs
from ...training.gains.config import GainOptions, MmleTrainConfig, PfjTrainConfig
from ...training.gains.mmle import new_mmle_run
from ...training.gains.mmle_labels import typical_rate, with_ranges
from ...training.gains.mmle_scores import Agreement, held_out_agreement
from ...training.gains.pfj import compared, new_pfj_run
from ...training.gains.sizes import injector_config, regressor_config
from ...training.gains.trajectories import Caching, Trajectories, build
from ...training.runs import on_cpu, train
from ..gains.choices import GainBackEnd
from ..gains.models import LoadedGainModels, base_of, loaded_from_file
from ..gains.plan import metrics_of_names
from ..progress import stage
from .files import MMLE, PFJ, RunFiles, below_output, fingerprint_of, pictures_of, states_folder
from .gains_base import ChainSettings, HostGainBase, Reads
from .networks import precision_of
from .run import RunUnderHost

CACHED = 0.5
"""Share of the progress bar that making trajectories fills."""
COMPARED = 8
"""Batches on which injection is compared with none at the end of a run."""


@dataclass(frozen=True)
class TrainedGain:
    """What a run leaves: parts for the graph, the picture of its losses, and words."""

    models: LoadedGainModels
    losses: Tensor
    report: dict[str, Any]


def describe(report: Mapping[str, Any]) -> str:
    """A line for the user."""
    first, last = report["losses"]["loss"]
    line = f"Step {report['steps']}: loss {first:.4g} to {last:.4g}. Saved as {report['file']}."
    if report.get("left_out"):
        line += f" Without {', '.join(report['left_out'])}: weights could not be had."
    if report.get("held_out"):
        numbers = ", ".join(
            f"{name} {'not defined' if value is None else f'{value:.2f}'}"
            for name, value in report["held_out"]["correlations"].items()
        )
        line += f" Correlation on trajectories not trained on: {numbers}."
    if report.get("error_with_and_without"):
        line += " Error with and without injection: {:.4g}, {:.4g}.".format(*report["error_with_and_without"])
    return line


def train_mmle(
    model: ModelPatcher,
    vae: VAE,
    positive: list[Any] | None,
    source: tuple[str, Tensor | Sequence[Tensor] | None],
    config: MmleTrainConfig,
    settings: GainOptions,
) -> TrainedGain:
    """Caches trajectories, trains the regressor, saves and returns it; a cancel saves what there is.

    source is (folder, IMAGE or pictures (3, H, W)), with None where nothing is connected.
    """
    MMLE.check_start(settings.name)
    # A graph runs in inference mode, whose tensors cannot take part in gradients.
    with torch.inference_mode(False), torch.enable_grad():
        with torch.no_grad():
            base, pairs = _base_and_pairs(model, vae, positive, source, settings)
            metrics, measures, left_out = metrics_of_names(GainBackEnd.VAE, settings.metrics)
            stage(0.0, CACHED)
            trajectories = _cached(base, pairs, metrics, measures, config, settings)
            ranged = with_ranges(metrics, trajectories, floor=config.floor)
        network = Mmle(regressor_config(settings.size, base.latent_channels, len(ranged)))
        about = _about(settings, f"{len(trajectories)} trajectories, {', '.join(measures)}, {base.digest()}")
        run = new_mmle_run(config, network, trajectories, ranged, base.timesteps, base.device, about)
        stage(CACHED, 1.0)
        with RunUnderHost(run, MMLE, settings) as hosted:
            train(run, hosted.until, hosted.after_step)
        tau = typical_rate(run.labels, run.metrics, run.training)
        info = GainModelsInfo(*base_of(model), run.metric_infos, config.t_half, tau)
        agreement = held_out_agreement(run, (tau or 0.0) * 200 / len(base.timesteps))
        report = {"left_out": list(left_out), "held_out": _words(agreement), "tau": tau}
        return _finished(hosted, MMLE, _below("mmle.", run.network), info, report)


def train_pfj(
    model: ModelPatcher,
    vae: VAE,
    positive: list[Any] | None,
    models: LoadedGainModels,
    source: tuple[str, Tensor | Sequence[Tensor] | None],
    config: PfjTrainConfig,
    settings: GainOptions,
) -> TrainedGain:
    """Trains the injection network on a base and its regressor; the file holds both. A cancel saves the state."""
    PFJ.check_start(settings.name, config.batch, settings.crop)
    models.check_base(model)
    if models.config.mmle is None:
        raise ValueError(
            "gain_models has no MMLE regressor, whose gains the injection follows: expected one; connect Train MMLE, or a file of it."
        )
    with torch.inference_mode(False), torch.enable_grad():
        with torch.no_grad():
            base, pairs = _base_and_pairs(model, vae, positive, source, settings)
            if base.reads is Reads.START:
                raise ValueError(
                    "The MODEL has no input for the LR picture, into which PFJ injects: expected a ResShift-type MODEL or one from "
                    "StableSR Apply."
                )
            kept = _part(models, "mmle.")
            regressor = Mmle(models.config.mmle)
            regressor.load_state_dict({key.removeprefix("mmle."): value for key, value in kept.items()})
        network = Pfj(injector_config(settings.size, base.condition_channels, models.config.metrics))
        info, about = models.info, _about(settings, base.digest())
        run = new_pfj_run(config, base, pairs, regressor, info.metrics, info.t_half, network, about)
        with RunUnderHost(run, PFJ, settings) as hosted:
            train(run, hosted.until, hosted.after_step)
        report = {"error_with_and_without": [round(value, 6) for value in compared(run, COMPARED)]}
        return _finished(hosted, PFJ, {**kept, **_below("pfj.", run.network)}, info, report)


def _base_and_pairs(
    model: ModelPatcher,
    vae: VAE,
    positive: list[Any] | None,
    source: tuple[str, Tensor | Sequence[Tensor] | None],
    settings: GainOptions,
) -> tuple[HostGainBase, DegradedPairs]:
    """What may be refused comes before the copies of the networks."""
    folder, image = source
    pictures = list(image) if isinstance(image, Sequence) else pictures_of(folder, image)
    if settings.degradation not in PRESETS:
        raise ValueError(f"Got the degradation {settings.degradation!r}: expected one of {', '.join(PRESETS)}.")
    base = HostGainBase(
        model, vae, positive, ChainSettings(settings.calls, settings.denoise), precision_of(settings.precision)
    )
    multiple = 8 * base.pixels_per_cell
    if settings.crop % multiple or settings.crop <= SMOOTH_TAPS // 2:
        raise ValueError(
            f"Got crops of {settings.crop} pixels: expected a multiple of {multiple} (eight latent cells) and at least 64; use the tile "
            "size that will be sampled."
        )
    preset, share = PRESETS[settings.degradation], settings.smooth_share
    return base, DegradedPairs(pictures, settings.crop, preset, base.scale, smooth_share=share)


def _cached(
    base: HostGainBase,
    pairs: DegradedPairs,
    metrics: Sequence[GainMetric],
    pyiqa_measures: Mapping[str, Measure],
    config: MmleTrainConfig,
    settings: GainOptions,
) -> Trajectories:
    """Trajectories of the frozen base, with progress; shards that an interrupted run left are used."""
    known = {**rgb_measures(), **pyiqa_measures}
    measures = {metric.name: known[metric.name] for metric in metrics}
    pictures = [str(p) if isinstance(p, Path) else fingerprint_of(p) for p in pairs.pictures]
    about = {
        "base": base.digest(),
        "chain": f"{settings.calls} {settings.denoise}",
        "pictures": json.dumps(pictures),
        "pairs": f"{settings.crop} {settings.degradation} {settings.smooth_share}",
        "metrics": ", ".join(measures),
        "precision": settings.precision,
    }
    caching = Caching(settings.trajectories, settings.samplers, config.seed, about)
    bar = comfy.utils.ProgressBar(caching.shards)

    def after_shard(done: int) -> None:
        bar.update_absolute(done)
        mm.throw_exception_if_processing_interrupted()

    return build(states_folder() / "trajectories", caching, base, pairs, measures, after_shard)


def _about(settings: GainOptions, rest: str) -> str:
    """What else a resumed run must agree in."""
    parts = (settings.size, settings.crop, settings.degradation, settings.smooth_share, settings.calls)
    return ", ".join(str(part) for part in (*parts, settings.denoise, settings.sampler, settings.precision, rest))


def _finished(
    hosted: RunUnderHost[Any], files: RunFiles, weights: StateDict, info: GainModelsInfo, report: dict[str, Any]
) -> TrainedGain:
    """Saves the trained part in half precision with what goes with it; the file's parts, ready for the graph."""
    halves = {key: value.detach().to("cpu", torch.float16) for key, value in weights.items()}
    path = files.save_weights(hosted.weights_name, halves, {**hosted.header(), **info.to_metadata()})
    numbers = hosted.report(below_output(path), **report)
    return TrainedGain(loaded_from_file(str(path), path.name), hosted.run.log.picture(), numbers)


def _below(prefix: str, network: torch.nn.Module) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in on_cpu(network.state_dict()).items()}


def _part(models: LoadedGainModels, prefix: str) -> dict[str, Tensor]:
    """Copies of one part's tensors, in float32."""
    mm.load_models_gpu([models.patcher], force_full_load=True)
    tensors = models.network.state_dict()
    return {key: value.detach().float().cpu().clone() for key, value in tensors.items() if key.startswith(prefix)}


def _words(agreement: Agreement | None) -> dict[str, Any] | None:
    if agreement is None:
        return None
    rounded = {  # JSON has no NaN
        name: None if math.isnan(value) else round(value, 4) for name, value in agreement.correlations.items()
    }
    return {"correlations": rounded, "same_class": round(agreement.same_class, 4), "pairs": agreement.pairs}
