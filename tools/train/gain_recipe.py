"""What `dev.py train mmle` and `dev.py train pfj` do inside of the host; only to be imported once the host can be."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...host.files import EMBEDDED as EMBEDDED_FILES
from ...host.files import EMBEDDED_BASE, EMBEDDED_WEIGHTS, GAIN_MODELS
from ...host.gains.models import load_gain_models, loaded_from_file
from ...host.latent_base import load_latent_base
from ...host.resshift.loading import EMBEDDED, load_one_step
from ...host.stablesr.loading import load_stablesr, patched
from ...host.standalone import load_checkpoint, opened_folder, set_output_folder
from ...host.training.gains import TrainedGain, train_mmle, train_pfj
from ...training.config import START_ANEW
from ...training.gains.config import GainOptions, MmleTrainConfig, PfjTrainConfig
from ...training.synthetic import synthetic_image
from ..embedded_weights.pool import Pool

TEACHER = next(name for name in EMBEDDED if "teacher" in name)


def run(part: str, options: argparse.Namespace) -> int:
    """Loads, trains, saves and prints; the exit code."""
    set_output_folder(options.out)
    model, vae = guided_base() if options.embedded_base else load_base(options.checkpoint)
    source = (opened_folder(options.images), None) if options.images else ("", generated_pictures(options))
    trained = _mmle(model, vae, source, options) if part == "mmle" else _pfj(model, vae, source, options)
    finish(trained, options)
    return 0


def load_base(path: Path | None) -> tuple[Any, Any]:
    """MODEL and VAE of a checkpoint, or of the embedded teacher."""
    if path is not None:
        model, _, vae = load_checkpoint(path)
        return model, vae
    base = load_one_step(TEACHER)
    return base.patcher, base.vae


def guided_base() -> tuple[Any, Any]:
    """MODEL and VAE of the small base that ships, which reads the small picture through its StableSR parts."""
    model, vae = load_latent_base()
    return patched(model, load_stablesr(EMBEDDED_BASE), 1.0), vae


def generated_pictures(options: argparse.Namespace) -> Sequence[Tensor]:
    """Pictures (3, H, W) in [0, 1] that follow from the seed, out of a pool where there is one."""
    if options.pool is not None:
        pool = Pool.open(options.pool).hr
        pixels = [np.asarray(pool[index]) for index in range(min(options.pictures, len(pool)))]
    else:
        pixels = [synthetic_image(options.seed, index) for index in range(options.pictures)]
    return [torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255 for picture in pixels]


def settings_of(options: argparse.Namespace, **more: Any) -> GainOptions:
    """What both recipes have in common."""
    return GainOptions(
        options.steps,
        name=options.name,
        resume=options.resume or START_ANEW,
        size=options.size,
        crop=options.crop,
        degradation=options.degradation,
        smooth_share=options.smooth,
        calls=options.calls,
        denoise=options.denoise,
        sampler=options.sampler,
        precision=options.precision,
        **more,
    )


def _mmle(model: Any, vae: Any, source: Any, options: argparse.Namespace) -> TrainedGain:
    config = MmleTrainConfig(
        batch=options.batch,
        lr=options.lr,
        schedule=options.schedule,
        seed=options.seed,
        floor=not options.no_floor,
        convolutions=options.convolutions,
    )
    settings = settings_of(options, trajectories=options.trajectories, metrics=options.metrics)
    return train_mmle(model, vae, None, source, config, settings)


def _pfj(model: Any, vae: Any, source: Any, options: argparse.Namespace) -> TrainedGain:
    settings = settings_of(options)
    config = PfjTrainConfig(batch=options.batch, lr=options.lr, seed=options.seed, sampler=settings.samplers[0])
    file = options.gain_models
    models = (
        load_gain_models(next(iter(EMBEDDED_FILES[GAIN_MODELS])))
        if file is None
        else loaded_from_file(str(file), file.name)
    )
    return train_pfj(model, vae, None, models, source, config, settings)


def finish(trained: TrainedGain, options: argparse.Namespace) -> None:
    """Writes the loss picture beside the states, installs the file if asked to, and prints the report."""
    picture = (trained.losses[0].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(picture).save(options.out / f"{trained.report['resume']}_losses.png")
    if options.install:
        shutil.copyfile(
            options.out / trained.report["file"], EMBEDDED_WEIGHTS / next(iter(EMBEDDED_FILES[GAIN_MODELS].values()))
        )
    print(json.dumps(trained.report, indent=1), flush=True)
