"""What `dev.py train stablesr` does inside of the host; only to be imported once the host can be."""

from __future__ import annotations

import argparse
import json

from ...host.stablesr.loading import loaded_from_file
from ...host.standalone import opened_folder, set_output_folder
from ...host.training.files import save_picture
from ...host.training.stablesr import settings_of, train_stablesr
from ...training.config import OWN_SETTINGS, START_ANEW
from ...training.stablesr.config import StableSRConfig, StableSROptions
from .stablesr import PARTS_FILE
from .tasr_recipe import generated_pictures, install, load_base


def run(options: argparse.Namespace) -> int:
    """Loads, trains, saves and prints; the exit code."""
    set_output_folder(options.out)
    model, _, vae = load_base(options.checkpoint, options.embedded_base)
    inputs = {
        "batch_size": options.batch,
        "accumulate": options.accumulate,
        "learning_rate": options.lr,
        "size": options.size,
        "start": options.start,
        "degradation": options.degradation,
        "sharpened": not options.plain_targets,
        "crop_size": options.crop,
        "seed": options.seed,
        "precision": options.precision,
        "samples_every": options.samples_every,
        "resume": options.resume or START_ANEW,
    }
    preset = options.settings or OWN_SETTINGS
    config = settings_of(StableSRConfig, preset, inputs, weighted_as_v=options.weighted_as_v)
    settings = settings_of(StableSROptions, preset, inputs, steps=options.steps)
    start = loaded_from_file(str(options.start_file), options.start_file.name) if options.start_file else None
    source = (opened_folder(options.images), None) if options.images else ("", generated_pictures(options.seed))
    trained = train_stablesr(model, vae, None, source, start, config, settings)
    save_picture(options.out / f"{trained.report['resume']}_losses.png", trained.losses)
    print(json.dumps(trained.report, indent=1), flush=True)
    if options.install:
        install(
            options.out / trained.report["file"], PARTS_FILE, "StableSR's encoder and SFT layers of the embedded base"
        )
    return 0
