"""What `dev.py train noise_predictor` does inside of the host; only to be imported once the host can be."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ...host.conditioning import empty_prompt
from ...host.files import register_folders
from ...host.standalone import opened_folder, set_output_folder
from ...host.training.files import save_picture
from ...host.training.invsr import InvSRSource, train_noise_predictor
from ...sampling.inversion import parse_starts
from ...sampling.tiled.invsr import POSITIVE
from ...training.config import START_ANEW
from ...training.invsr.config import InvSRConfig, InvSROptions, preset_settings
from .tasr_recipe import generated_pictures, load_base


def run(options: argparse.Namespace) -> int:
    """Loads, trains, saves and prints; the exit code."""
    set_output_folder(options.out)
    register_folders()
    model, clip, vae = load_base(options.checkpoint)
    own = InvSRConfig(
        batch=options.batch,
        microbatch=options.microbatch,
        lr=options.lr,
        warmup=options.warmup,
        lpips_weight=0.0 if options.lpips == "(none)" else InvSRConfig.lpips_weight,
        adversarial_weight=options.adversarial,
        adversarial_after=options.adversarial_after,
        taus=parse_starts(options.taus),
        seed=options.seed,
    )
    large = options.checkpoint is not None
    settings = InvSROptions(
        options.steps,
        resume=options.resume or START_ANEW,
        crop=options.crop or (512 if large else 64),
        precision=options.precision,
        size=options.size or ("paper" if large else "small"),
    )
    pictures = None if options.images else generated_pictures(options.seed)
    source = InvSRSource(_prompt(model, clip), opened_folder(options.images), pictures)
    trained = train_noise_predictor(model, vae, source, options.lpips, preset_settings(options.preset, own), settings)
    save_picture(options.out / f"{trained.report['resume']}_samples.png", trained.samples)
    print(json.dumps(trained.report, indent=1), flush=True)
    return 0


def _prompt(model: Any, clip: Any) -> Any:
    """The published prompt, or the empty one where the file has no text encoder."""
    return empty_prompt(model) if clip is None else clip.encode_from_tokens_scheduled(clip.tokenize(POSITIVE))
