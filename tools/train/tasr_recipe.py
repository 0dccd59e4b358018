"""What `dev.py train tasr` does inside of the host; only to be imported once the host can be."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...host.conditioning import empty_prompt
from ...host.control.choices import EPS
from ...host.control.controlnet import control_from_weights
from ...host.files import read_file
from ...host.latent_base import load_latent_base
from ...host.standalone import load_checkpoint, opened_folder, set_output_folder
from ...host.training.files import save_picture
from ...host.training.tasr import TrainedTimeAware, train_time_aware
from ...models.latent_control import LatentControlConfig, split_control_file
from ...models.state_dict import StateDict, UnsupportedModelError
from ...training.config import START_ANEW
from ...training.synthetic import synthetic_image
from ...training.tasr.config import TasrConfig, TasrOptions
from ..small_models.checkpoints import put_small_checkpoint
from ..small_models.controls import small_latent_controlnet
from .tasr import CONTROL_FILE

GENERATED = 16


def run(options: argparse.Namespace) -> int:
    """Loads, trains, saves and prints; the exit code."""
    set_output_folder(options.out)
    model, clip, vae = load_base(options.checkpoint, options.embedded_base)
    none_given = not (options.checkpoint or options.embedded_base)
    start = load_control(options.control, small=none_given and options.stage == 2)
    config = TasrConfig(
        stage=options.stage,
        batch=options.batch,
        lr=options.lr,
        seed=options.seed,
        adapter_every=options.adapter_every,
        loss_schedule=options.loss_schedule,
        reward_moves=options.reward_moves,
        sees_time=not options.without_time,
    )
    settings = TasrOptions(
        options.steps,
        resume=options.resume or START_ANEW,
        design=options.size,
        reward=options.reward,
        crop=options.crop or (512 if options.checkpoint else 64),
        precision=options.precision,
        degradation=options.degradation,
    )
    source = (opened_folder(options.images), None) if options.images else ("", generated_pictures(options.seed))
    trained = train_time_aware(model, vae, source, (empty_prompt(model), clip), (start, None), config, settings)
    finish(trained, options.out)
    if options.install:
        install(options.out / trained.report["file"], CONTROL_FILE, "ControlNet of the embedded base")
    return 0


def install(trained: Path, where: Path, title: str) -> None:
    """Writes a trained file in half precision."""
    with safe_open(trained, framework="pt") as file:
        metadata = file.metadata()
    weights = {key: value.half().contiguous() for key, value in load_file(trained).items()}
    save_file(weights, where, metadata={**metadata, "title": title, "licence": "Apache-2.0"})


def load_base(path: Path | None, embedded: Path | None = None) -> tuple[Any, Any, Any]:
    """MODEL, CLIP (None where there is none) and VAE of a checkpoint, of a file of the embedded base, or of the tests' small one."""
    if embedded is not None:
        model, vae = load_latent_base(str(embedded))
        return model, None, vae
    if path is not None:
        return load_checkpoint(path)
    with tempfile.TemporaryDirectory() as base:
        return load_checkpoint(put_small_checkpoint(Path(base)))


def load_control(path: Path | None, *, small: bool) -> Any:
    """CONTROL_NET of a file, the small random one, or None: the model's encoder."""
    if path is None:
        return made(small_latent_controlnet()) if small else None
    weights = split_control_file(read_file(str(path))).control
    if weights is None:
        raise UnsupportedModelError(f"'{path.name}' holds no ControlNet: expected a DiffBIR or TASR file.")
    return made(weights)


def made(weights: StateDict) -> Any:
    """A CONTROL_NET of an eps model."""
    return control_from_weights(weights, LatentControlConfig.from_state_dict(weights), EPS)


def generated_pictures(seed: int) -> Tensor:
    """IMAGE of pictures that follow from the seed."""
    pictures = np.stack([synthetic_image(seed, index) for index in range(GENERATED)])
    return torch.from_numpy(pictures).float() / 255


def finish(trained: TrainedTimeAware, out: Path) -> None:
    """Writes the loss picture beside the states and prints the report."""
    save_picture(out / f"{trained.report['resume']}_losses.png", trained.losses)
    print(json.dumps(trained.report, indent=1), flush=True)
