"""What `dev.py train tadsr` does inside of the host; only to be imported once the host can be."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from ...host.resshift.loading import EMBEDDED, OneStepSR, load_one_step, one_step_at
from ...host.standalone import opened_folder, set_output_folder
from ...host.training.distill import DistillSource, distill
from ...host.training.distill_data import TRIED, settings_of
from ...host.training.files import save_picture
from ...training.config import START_ANEW
from ...training.image_folder import image_files, random_crop, read_image
from ...training.tad_sr.config import DistillOptions

EMBEDDED_TEACHER = next(name for name in EMBEDDED if "teacher" in name)


def run(options: argparse.Namespace) -> int:
    """Loads, trains, saves and prints; the exit code."""
    set_output_folder(options.out)
    small = options.checkpoint is None
    teacher = model_of(options.checkpoint, options.autoencoder)
    start = None if options.student is None else model_of(options.student, options.autoencoder)
    crop = options.crop or (128 if small else 256)
    inputs = {
        "learning_rate": options.lr or (3e-4 if small else 5e-5),
        "batch_size": options.batch,
        **{name: getattr(options, name) for name in ("microbatch", "warmup", "seed", "teacher_steps", "score_form")},
        **{
            f"{part}_weight": getattr(options, f"{part}_weight")
            for part in ("distill", "score", "adversarial", "fidelity", "energy")
        },
    }
    settings = settings_of(options.method, teacher, inputs)
    source = DistillSource(
        folder=opened_folder(options.images),
        generated=0 if options.images else options.generated,
        test_images=None if options.test_images is None else pictures_to_try(options.test_images, crop),
    )
    run_settings = DistillOptions(
        options.steps,
        resume=options.resume or START_ANEW,
        degradation=options.degradation or ("mild" if small else "tad_sr"),
        crop=crop,
        reduced=options.whole_pictures,
        samples_every=options.samples_every,
        save_every=options.save_every,
        metrics=options.metrics,
    )
    done = distill(teacher, start, source, settings, run_settings)
    save_picture(options.out.resolve() / f"{done.report['resume']}_losses.png", done.losses)
    save_picture(options.out.resolve() / f"{done.report['resume']}_samples.png", done.samples)
    print(json.dumps(done.report, indent=1), flush=True)
    return 0


def model_of(path: Path | None, autoencoder: Path | None) -> OneStepSR:
    """ONE_STEP_SR of files by path, or the embedded teacher."""
    if path is None:
        return load_one_step(EMBEDDED_TEACHER)
    return one_step_at(str(path), None if autoencoder is None else str(autoencoder))


def pictures_to_try(folder: Path, side: int) -> Tensor:
    """IMAGE of a crop of each of a folder's first pictures."""
    generator = torch.Generator().manual_seed(0)
    crops = [random_crop(read_image(path), side, generator) for path in image_files(folder)[:TRIED]]
    return torch.stack(crops).permute(0, 2, 3, 1)
