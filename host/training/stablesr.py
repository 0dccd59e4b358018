"""Train StableSR: the run that the node describes, its files, its progress and its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor

from ...imaging.degradation.presets import PRESETS as DEGRADATIONS
from ...models.struct_parts import StructParts
from ...sampling.noise import generator_for
from ...training.data import DegradedPairs
from ...training.runs import on_cpu, train
from ...training.stablesr.config import NEAR_BASE, PRESETS, SIZES, StableSRConfig, StableSROptions
from ...training.stablesr.init import initialise, parts_config, start_near_base
from ...training.stablesr.losses import noised
from ...training.stablesr.run import StableSRRun, stablesr_state
from ...training.stablesr.samples import side_by_side
from ..conditioning import empty_prompt
from ..loading import host_attention
from ..stablesr.loading import LoadedStableSR, check_base, loaded_from_file
from .files import STABLESR, below_output, pictures_of
from .networks import PRECISIONS, precision_of
from .run import AnySettings, RunUnderHost, preset_inputs
from .stablesr_base import GuidedNetworks, check_guided, guided_base

START_ROWS = 8
"""Pictures on which the size of the bare base's branches is measured."""
SAMPLE_STEPS = 20


@dataclass(frozen=True)
class TrainedStableSR:
    """What a run leaves: parts for the graph, the picture of its losses, and words."""

    parts: LoadedStableSR
    losses: Tensor
    report: dict[str, Any]


def settings_of(kind: type[AnySettings], preset: str, inputs: Mapping[str, Any], **given: Any) -> AnySettings:
    """Settings from a node's inputs, under those of a preset by its name."""
    return preset_inputs(kind, PRESETS, preset, inputs, **given)


def train_stablesr(
    model: ModelPatcher,
    vae: VAE,
    positive: list[Any] | None,
    source: tuple[str, Tensor | Sequence[Tensor] | None],
    start: LoadedStableSR | None,
    config: StableSRConfig,
    settings: StableSROptions,
) -> TrainedStableSR:
    """Trains, saves and returns encoder and SFT layers. A cancel saves the state, which can be resumed, and goes on to the host.

    positive None: the null prompt, which the paper trains with. source is (folder, IMAGE or pictures). start: a file to go on
    from; None: a fresh encoder.
    """
    _check_settings(settings, config.batch)
    # A graph runs in inference mode, whose tensors cannot take part in gradients: all that comes from outside is copied.
    with torch.inference_mode(False), torch.enable_grad():
        with torch.no_grad():
            check_guided(model, vae)
            if start is not None:
                check_base(model, start.parts)
            folder, image = source
            pictures = list(image) if isinstance(image, Sequence) else pictures_of(folder, image)
            preset = DEGRADATIONS[settings.degradation]
            pairs = DegradedPairs(pictures, settings.crop, preset, scale=1, sharpened=config.sharpened)
            text = (positive or empty_prompt(model))[0][0].detach().float().cpu().clone()
            base = guided_base(model, vae, text, precision_of(settings.precision), frugal=settings.checkpointing)
            parts = fresh_parts(base, pairs, config, settings.size) if start is None else copied_parts(start)
        run = _new_run(base, parts.to(base.device), pairs, config, settings)
        begun = "a fresh encoder" if start is None else "the given file"
        with RunUnderHost(run, STABLESR, settings, begun, lambda: sample_of(run)) as hosted:
            train(run, hosted.until, hosted.after_step)
        path = STABLESR.save_weights(hosted.weights_name, on_cpu(run.parts.state_dict()), hosted.header())
        report = hosted.report(below_output(path), predicts="v" if base.predicts_v else "eps")
        return TrainedStableSR(loaded_from_file(str(path), path.name), run.log.picture(), report)


def _check_settings(settings: StableSROptions, batch: int) -> None:
    STABLESR.check_start(settings.name, batch, settings.crop)
    if settings.degradation not in DEGRADATIONS or settings.size not in SIZES or settings.precision not in PRECISIONS:
        raise ValueError(
            f"Got degradation {settings.degradation!r}, size {settings.size!r} and precision {settings.precision!r}: expected one of "
            f"{', '.join(DEGRADATIONS)}; of {', '.join(SIZES)}; and of {', '.join(PRECISIONS)}."
        )
    if settings.crop % 64:
        raise ValueError(f"Got crops of {settings.crop} pixels: expected a multiple of 64.")


def _new_run(
    base: GuidedNetworks, parts: StructParts, pairs: DegradedPairs, config: StableSRConfig, settings: StableSROptions
) -> StableSRRun:
    """A run at step 0, which knows its file by all that decides it."""
    names = ", ".join(p.name if isinstance(p, Path) else f"{float(p.mean()):.6g}" for p in pairs.pictures[:8])
    kind = "v" if base.predicts_v else "eps"
    words = (f"{settings.crop} px", settings.degradation, settings.precision, kind, parts.config.encoder.model_channels)
    about = ", ".join(str(word) for word in (*words, f"{len(pairs.pictures)} pictures", names))
    return StableSRRun(stablesr_state(config, parts), config, base, pairs, about=about)


def fresh_parts(base: GuidedNetworks, pairs: DegradedPairs, config: StableSRConfig, size: str) -> StructParts:
    """Encoder and SFT layers for the base, at their start."""
    parts = StructParts(parts_config(*base.sizes(), size, base.latent_channels), attention=host_attention)
    generator = generator_for(config.seed, -1)
    initialise(parts, generator)
    if config.start == NEAR_BASE:
        hr = base.encode(pairs.batch(generator, START_ROWS)[0])
        t = torch.linspace(0, 999, START_ROWS).round().long().to(base.device)
        noise = torch.randn(hr.shape, generator=generator).to(hr)
        start_near_base(parts, base.branches(noised(hr, t, noise), t))
    return parts


def copied_parts(start: LoadedStableSR) -> StructParts:
    """A copy in float32 of what a file gave, whose tensors can take part in gradients."""
    mm.load_models_gpu([start.patcher], force_full_load=True)
    weights = {key: value.detach().float().cpu().clone() for key, value in start.parts.state_dict().items()}
    parts = StructParts(start.parts.config, attention=host_attention)
    parts.load_state_dict(weights)
    return parts


def sample_of(run: StableSRRun) -> Tensor:
    """LR, restored and true picture of the first pair that the seed gives."""
    generator = generator_for(run.config.seed, -2)
    pair = run.source.batch(generator, 1)
    return side_by_side(run.base, run.parts, pair, SAMPLE_STEPS, generator)
