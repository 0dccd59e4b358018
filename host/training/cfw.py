"""Train CFW: the triples, the run that the node describes, its files, its progress and its end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor

from ...imaging.degradation.presets import PRESETS as DEGRADATIONS
from ...models.cfw import CFW
from ...models.judges.patch_discriminator import PatchDiscriminator, initialise
from ...sampling.noise import generator_for
from ...training.cfw.config import DISCRIMINATOR_WIDTHS, SIZES, CFWOptions, CFWTrainConfig
from ...training.cfw.init import fresh_cfw, fusion_config, save_memory
from ...training.cfw.losses import Perceptual, make_perceptual
from ...training.cfw.run import CFWRun, cfw_state, side_by_side
from ...training.cfw.triples import TripleCache, Triples, build
from ...training.data import DegradedPairs
from ...training.runs import on_cpu, train
from ...training.stablesr.samples import sampled
from ..conditioning import empty_prompt
from ..progress import stage
from ..stablesr.cfw import LoadedCFW, check_vae, loaded_from_file
from ..stablesr.loading import LoadedStableSR, check_base
from .cfw_base import FusedAutoencoder, fused_autoencoder
from .files import CFW as CFW_RUNS
from .files import below_output, fingerprint_of, pictures_of, states_folder
from .networks import PRECISIONS, precision_of, weights_digest
from .run import RunUnderHost
from .stablesr import copied_parts
from .stablesr_base import check_guided, guided_base

NODE = "Train CFW"
CACHED = 0.7
"""Share of the node's bar for the triples."""


@dataclass(frozen=True)
class TrainedCFW:
    """What a run leaves: fusion layers for the graph, the picture of its losses, and words."""

    loaded: LoadedCFW
    losses: Tensor
    report: dict[str, Any]


@dataclass(frozen=True)
class Sampler:
    """What makes a triple's latent: StableSR on its base, under one prompt (None: the null prompt)."""

    model: ModelPatcher
    vae: VAE
    stablesr: LoadedStableSR
    positive: list[Any] | None = None


def train_cfw(
    sampler: Sampler,
    source: tuple[str, Tensor | Sequence[Tensor] | None],
    start: LoadedCFW | None,
    config: CFWTrainConfig,
    settings: CFWOptions,
) -> TrainedCFW:
    """Caches triples, trains, saves and returns fusion layers. A cancel keeps the triples and saves the state, and goes on to the host.

    source is (folder, IMAGE or pictures). start: a file to go on from; None: fresh layers.
    """
    _check_settings(settings)
    # A graph runs in inference mode, whose tensors cannot take part in gradients: all that comes from outside is copied.
    with torch.inference_mode(False), torch.enable_grad():
        with torch.no_grad():
            check_guided(sampler.model, sampler.vae)
            check_base(sampler.model, sampler.stablesr.parts)
            check_vae(sampler.vae, None if start is None else start.network.config, NODE)
            folder, image = source
            pictures = list(image) if isinstance(image, Sequence) else pictures_of(folder, image)
            perceptual = make_perceptual(config.perceptual, mm.get_torch_device())
            pairs = DegradedPairs(pictures, settings.crop, DEGRADATIONS[settings.degradation], scale=1)
            stage(0.0, CACHED)
            triples = cached_triples(sampler, pairs, config.seed, settings)
            base = fused_autoencoder(
                sampler.vae, precision_of(settings.precision), checkpointing=settings.checkpointing
            )
            cfw = _fresh(base, config, settings) if start is None else _copied(start)
        run = _new_run(base, cfw, triples, perceptual, config, settings)
        stage(CACHED, 1.0)
        begun = "fresh layers" if start is None else "the given file"
        with RunUnderHost(
            run, CFW_RUNS, settings, begun, lambda: side_by_side(run, generator_for(config.seed, -2))
        ) as hosted:
            train(run, hosted.until, hosted.after_step)
        path = CFW_RUNS.save_weights(hosted.weights_name, on_cpu(run.cfw.state_dict()), hosted.header())
        report = hosted.report(below_output(path), triples=len(triples), perceptual=config.perceptual)
        return TrainedCFW(loaded_from_file(str(path), path.name)[0], run.log.picture(), report)


def _check_settings(settings: CFWOptions) -> None:
    CFW_RUNS.check_start(settings.name)
    if settings.degradation not in DEGRADATIONS or settings.size not in SIZES or settings.precision not in PRECISIONS:
        raise ValueError(
            f"Got degradation {settings.degradation!r}, size {settings.size!r} and precision {settings.precision!r}: expected one of "
            f"{', '.join(DEGRADATIONS)}; of {', '.join(SIZES)}; and of {', '.join(PRECISIONS)}."
        )
    if settings.crop % 64:
        raise ValueError(f"Got crops of {settings.crop} pixels: expected a multiple of 64.")
    if settings.triples < 1 or not 1 <= settings.sampling_steps <= 1000:
        raise ValueError(
            f"Got {settings.triples} triples and {settings.sampling_steps} sampling steps: expected at least one, and 1 to 1000."
        )


def cached_triples(sampler: Sampler, pairs: DegradedPairs, seed: int, settings: CFWOptions) -> Triples:
    """Triples of StableSR's own chain from the noised LR latent, with progress; what an interrupted run left is used."""
    text = (sampler.positive or empty_prompt(sampler.model))[0][0].detach().float().cpu().clone()
    base = guided_base(sampler.model, sampler.vae, text, precision_of(settings.precision), frugal=False)
    parts = copied_parts(sampler.stablesr).to(base.device).requires_grad_(False).eval()
    about = {
        "networks": weights_digest(*base.networks(), parts),
        "text": f"{tuple(text.shape)} {float(text.sum()):.9g}",
        "pictures": json.dumps([str(p) if isinstance(p, Path) else fingerprint_of(p) for p in pairs.pictures]),
        "pairs": f"{settings.crop} {settings.degradation}",
        "chain": f"{settings.sampling_steps} {'v' if base.predicts_v else 'eps'} {settings.precision}",
    }

    def restore(low: Tensor, generator: torch.Generator) -> Tensor:
        made = [sampled(base, parts, base.encode(one), settings.sampling_steps, generator) for one in low.split(1)]
        return torch.cat(made)

    mm.unload_all_models()  # the copies need the room
    cache = TripleCache(settings.triples, seed, about)
    return build(states_folder() / "triples", cache, pairs, restore, _Shown())


class _Shown:
    """Shows how many shards are there, and stops where the user wants to."""

    _bar: comfy.utils.ProgressBar | None = None

    def __call__(self, done: int, total: int) -> None:
        self._bar = self._bar or comfy.utils.ProgressBar(total)
        self._bar.update_absolute(done)
        mm.throw_exception_if_processing_interrupted()


def _fresh(base: FusedAutoencoder, config: CFWTrainConfig, settings: CFWOptions) -> CFW:
    return fresh_cfw(fusion_config(base.widths(), settings.size), config.start, generator_for(config.seed, -1))


def _copied(start: LoadedCFW) -> CFW:
    """A copy in float32 of what a file gave, whose tensors can take part in gradients."""
    mm.load_models_gpu([start.patcher], force_full_load=True)
    cfw = CFW(start.network.config)
    cfw.load_state_dict(
        {key: value.detach().float().cpu().clone() for key, value in start.network.state_dict().items()}
    )
    return cfw


def _new_run(
    base: FusedAutoencoder,
    cfw: CFW,
    triples: Triples,
    perceptual: Perceptual,
    config: CFWTrainConfig,
    settings: CFWOptions,
) -> CFWRun:
    """A run at step 0, which knows its file by all that decides it."""
    discriminator = None
    if config.adversarial_weight:
        discriminator = PatchDiscriminator(DISCRIMINATOR_WIDTHS[settings.size])
        initialise(discriminator, generator_for(config.seed, -3))
        discriminator.to(base.device)
    if settings.checkpointing:
        save_memory(cfw)
    words = (triples.shards[0].parent.name, f"{len(triples)} triples", settings.precision, cfw.config)
    about = ", ".join(str(word) for word in words)
    return CFWRun(cfw_state(config, cfw.to(base.device), discriminator), config, base, triples, perceptual, about=about)
