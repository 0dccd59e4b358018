"""Train Noise Predictor: the run that the node describes, its files, its progress and its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor

from ...imaging.degradation.presets import PRESETS as DEGRADATIONS
from ...models.judges.latent_discriminator import LatentDiscriminatorConfig
from ...sampling.inversion import parse_starts
from ...sampling.noise import generator_for
from ...training.data import DegradedPairs
from ...training.invsr.config import PAPER_WITHOUT_LPIPS, SIZES, InvSRConfig, InvSROptions, preset_settings
from ...training.invsr.run import (
    InvSRRun,
    fresh_discriminator,
    fresh_predictor,
    invsr_state,
    sample_starts,
    save_memory,
)
from ...training.invsr.sizes import PREDICTORS
from ...training.runs import train
from ...training.sheets import Trial, sheet
from ..invsr.loading import STARTS_KEY, NoisePredictorModel, loaded_from_file
from .distill_data import trial_pair
from .files import INVSR, NO_LPIPS, below_output, pictures_of, save_picture
from .invsr_base import LPIPS_FILE, TurboNetworks, check_turbo, latent_lpips, predictor_copy, turbo_of
from .networks import PRECISIONS, precision_of
from .run import RunUnderHost, from_inputs

SMALL_DISCRIMINATOR = {"channels": (32, 64, 64), "heads": (0, 2, 2), "layers": (1, 1, 1), "time_channels": 64}
"""For the small predictor (ours): 32 side features and 64 heads of the text as in the paper."""


@dataclass(frozen=True)
class InvSRSource:
    """Where pictures come from, a folder or an IMAGE; an IMAGE to try out; the prompt; a predictor to go on from."""

    positive: list[list[Any]]
    folder: str = ""
    images: Tensor | None = None
    test_images: Tensor | None = None
    start: NoisePredictorModel | None = None


@dataclass(frozen=True)
class TrainedPredictor:
    """What a run leaves: the predictor, the picture of its losses, the samples, and words."""

    predictor: NoisePredictorModel
    losses: Tensor
    samples: Tensor
    report: dict[str, Any]


def settings_of(preset: str, inputs: Mapping[str, Any]) -> InvSRConfig:
    """The config that the node's inputs mean; what is not given has its default."""
    more = {"taus": parse_starts(inputs["taus"])} if "taus" in inputs else {}
    return preset_settings(preset, from_inputs(InvSRConfig, inputs, **more))


def train_noise_predictor(
    model: ModelPatcher, vae: VAE, source: InvSRSource, lpips: str, config: InvSRConfig, settings: InvSROptions
) -> TrainedPredictor:
    """Trains, saves and returns what was learned. A cancel saves the state, which can be resumed, and goes on to the host.

    lpips is a file of models/adaptivesr/latent_lpips, or NO_LPIPS.
    """
    _check_settings(config, settings, lpips)
    # A graph runs in inference mode, whose tensors cannot take part in gradients: all that comes from outside is copied.
    with torch.inference_mode(False), torch.enable_grad():
        with torch.no_grad():
            check_turbo(model, vae)
            text = _text(source.positive)
            predictor_config = PREDICTORS[settings.size] if source.start is None else source.start.config
            pictures, preset = pictures_of(source.folder, source.images), DEGRADATIONS[settings.degradation]
            data = DegradedPairs(pictures, settings.crop, preset, predictor_config.scale)
            pair = trial_pair(source.test_images, data, config.seed)
            base = turbo_of(model, vae, precision_of(settings.precision), checkpointing=settings.checkpointing)
        run = _new_run(base, data, text, source.start, lpips, config, settings)
        begun = "a fresh predictor" if source.start is None else "the given predictor"
        with RunUnderHost(run, INVSR, settings, begun, lambda: samples_of(run, pair)) as hosted:
            train(run, hosted.until, hosted.after_step)
        header = hosted.header() | {STARTS_KEY: ", ".join(map(str, config.taus))}
        path = INVSR.save_weights(hosted.weights_name, run.state.ema.averaged(), header)
        losses = run.log.picture()
        save_picture(hosted.path.with_suffix(".losses.png"), losses)
        report = hosted.report(below_output(path), taus=list(config.taus), batch=config.batch)
        return TrainedPredictor(loaded_from_file(str(path), path.name), losses, samples_of(run, pair), report)


def _check_settings(config: InvSRConfig, settings: InvSROptions, lpips: str) -> None:
    INVSR.check_start(settings.name, config.batch, settings.crop)
    if settings.degradation not in DEGRADATIONS or settings.size not in SIZES or settings.precision not in PRECISIONS:
        raise ValueError(
            f"Got degradation {settings.degradation!r}, size {settings.size!r} and precision {settings.precision!r}: expected one of "
            f"{', '.join(DEGRADATIONS)}; of {', '.join(SIZES)}; and of {', '.join(PRECISIONS)}."
        )
    if settings.crop % 64:
        raise ValueError(f"Got crops of {settings.crop} pixels: expected a multiple of 64; the paper trains on 512.")
    if config.lpips_weight and lpips == NO_LPIPS:
        raise ValueError(
            f"Latent LPIPS has the weight {config.lpips_weight} and there is no file for it: expected {LPIPS_FILE}, which InvSR's "
            "authors publish, in models/adaptivesr/latent_lpips and chosen as latent_lpips; or train without it, with the preset "
            f"'{PAPER_WITHOUT_LPIPS}' or with lpips_weight 0."
        )


def _text(positive: list[list[Any]]) -> Tensor:
    """The prompt (1, L, C) of all pictures."""
    if not positive:
        raise ValueError("positive is empty: expected a prompt; connect CLIP Text Encode, or Empty Prompt.")
    return positive[0][0].detach().float().cpu().clone()


def _new_run(
    base: TurboNetworks,
    data: DegradedPairs,
    text: Tensor,
    start: NoisePredictorModel | None,
    lpips: str,
    config: InvSRConfig,
    settings: InvSROptions,
) -> InvSRRun:
    """A run at step 0, which knows its file by all that decides it."""
    generator = generator_for(config.seed, -1)
    predictor = fresh_predictor(PREDICTORS[settings.size], generator) if start is None else predictor_copy(start)
    discriminator = None
    if config.adversarial_weight:
        sizes = SMALL_DISCRIMINATOR if settings.size == "small" else {}
        sizes = LatentDiscriminatorConfig(text_channels=text.shape[-1], **sizes)
        discriminator = fresh_discriminator(sizes, generator).to(base.device)
    metric = latent_lpips(lpips, base.device) if config.lpips_weight else None
    state = invsr_state(config, predictor.to(base.device), discriminator)
    if settings.checkpointing:
        save_memory(state.model)
    names = ", ".join(p.name if isinstance(p, Path) else f"{float(p.mean()):.6g}" for p in data.pictures[:8])
    words = (f"{settings.crop} px", settings.degradation, settings.precision, settings.size, lpips)
    about = ", ".join((*words, f"{len(data.pictures)} pictures", names))
    return InvSRRun(state, config, base, data, text, metric, about=about)


def samples_of(run: InvSRRun, pair: tuple[Tensor, Tensor]) -> Tensor:
    """One row for each picture: LR, one step from each trained start, the truth; the same noise each time."""
    hr, lr = (side / 2 + 0.5 for side in pair)
    made = sample_starts(run, hr, lr, generator_for(run.config.seed, -3))
    return sheet(Trial(lr.clamp(0, 1), hr, made, {}))
