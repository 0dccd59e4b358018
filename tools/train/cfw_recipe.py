"""What `dev.py train cfw` does inside of the host; only to be imported once the host can be."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from ...host.stablesr import cfw as host_cfw
from ...host.stablesr import loading
from ...host.standalone import opened_folder, set_output_folder
from ...host.training.cfw import Sampler, train_cfw
from ...host.training.files import save_picture
from ...host.training.run import preset_inputs
from ...training.cfw.config import PRESETS, CFWOptions, CFWTrainConfig
from ...training.config import OWN_SETTINGS, START_ANEW
from ..small_models.cfw import put_small_cfw
from ..small_models.stablesr import put_small_stablesr
from .tasr_recipe import generated_pictures, load_base


def run(options: argparse.Namespace) -> int:
    """Loads, trains, saves and prints; the exit code."""
    set_output_folder(options.out)
    model, _, vae = load_base(options.checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder)
        if options.checkpoint is None:
            vae = cfw_file(put_small_cfw(small))[1]
        parts = options.stablesr_file or put_small_stablesr(small)
        sampler = Sampler(model, vae, loading.loaded_from_file(str(parts), parts.name))
    inputs = {
        "batch_size": options.batch,
        "accumulate": options.accumulate,
        "learning_rate": options.lr,
        "size": options.size,
        "start": options.start,
        "degradation": options.degradation,
        "crop_size": options.crop,
        "triples": options.triples,
        "sampling_steps": options.sampling_steps,
        "perceptual": options.perceptual,
        "adversarial_weight": options.adversarial_weight,
        "adversarial_after": options.adversarial_after,
        "seed": options.seed,
        "precision": options.precision,
        "samples_every": options.samples_every,
        "resume": options.resume or START_ANEW,
    }
    preset = options.settings or OWN_SETTINGS
    config = preset_inputs(CFWTrainConfig, PRESETS, preset, inputs)
    settings = preset_inputs(CFWOptions, PRESETS, preset, inputs, steps=options.steps)
    start = cfw_file(options.start_file)[0] if options.start_file else None
    source = (opened_folder(options.images), None) if options.images else ("", generated_pictures(options.seed))
    trained = train_cfw(sampler, source, start, config, settings)
    save_picture(options.out / f"{trained.report['resume']}_losses.png", trained.losses)
    print(json.dumps(trained.report, indent=1), flush=True)
    return 0


def cfw_file(path: Path) -> tuple[host_cfw.LoadedCFW, Any]:
    """CFW and VAE of a file by its path."""
    return host_cfw.loaded_from_file(str(path), path.name)
