"""`dev.py train tadsr`: distils a teacher into one step, without the page, through the same functions as the node.

Without --checkpoint the teacher is the embedded one, and without --images the pictures are generated: that shows that everything
works on any machine. With a ResShift file, its autoencoder and a folder of photos it is the real thing.
"""

from __future__ import annotations

import argparse
import importlib
import logging
from pathlib import Path

import torch

from ...training.tad_sr.config import VARIANTS, DistillSettings
from ..env import environment as env
from ..env.in_process import enter_host

ROOT = Path(__file__).resolve().parents[2]


def parser() -> argparse.ArgumentParser:
    """Options; defaults are those of a trial."""
    default = DistillSettings()
    top = argparse.ArgumentParser(prog="train tadsr", description=__doc__)
    top.add_argument("--checkpoint", type=Path, help="ResShift-type teacher; without: the embedded one")
    top.add_argument("--autoencoder", type=Path, help="VQ autoencoder of that checkpoint")
    top.add_argument("--student", type=Path, help="where the student starts; without: as the teacher")
    top.add_argument("--images", type=Path, help="folder of sharp pictures; without: --generated ones")
    top.add_argument("--generated", type=int, default=64, help="generated pictures, where there is no folder")
    top.add_argument(
        "--test-images", type=Path, help="folder whose first pictures are tried out; without: training crops"
    )
    top.add_argument("--out", type=Path, default=ROOT / "train_output" / "tadsr", help="states, weights, pictures")
    top.add_argument("--method", choices=list(VARIANTS), default="TAD-SR")
    top.add_argument("--degradation", help="preset; tad_sr with a checkpoint, else mild")
    top.add_argument("--steps", type=int, default=20, help="steps of this run, on top of those of a resumed one")
    top.add_argument("--batch", type=int, default=default.batch)
    top.add_argument("--microbatch", type=int, default=default.microbatch)
    top.add_argument("--lr", type=float, help="0.00005 with a checkpoint, else 0.0003")
    top.add_argument("--warmup", type=int, default=200)
    top.add_argument("--crop", type=int, help="pixels; 256 with a checkpoint, else 128")
    top.add_argument("--whole-pictures", action="store_true", help="reduce whole squares to the crop, as TAD-SR does")
    top.add_argument("--teacher-steps", type=int, default=default.teacher_steps, help="of the chain; 0: all")
    for name, value in (("distill", 1.0), ("score", default.score_weight), ("adversarial", default.adversarial_weight)):
        top.add_argument(f"--{name}-weight", type=float, default=value)
    top.add_argument("--fidelity-weight", type=float, default=0.0)
    top.add_argument("--energy-weight", type=float, default=0.0)
    top.add_argument("--score-form", choices=("paper", "code"), default=default.score_form)
    top.add_argument("--seed", type=int, default=default.seed)
    top.add_argument("--samples-every", type=int, default=0)
    top.add_argument("--save-every", type=int, default=500)
    top.add_argument(
        "--metrics",
        default="psnr ssim nlpd gmsd",
        help="pyiqa's names; add lpips clipiqa musiq where their weights are",
    )
    top.add_argument("--resume", metavar="NAME", help="go on with this run of --out, e.g. distilled_00001")
    top.add_argument("--threads", type=int, default=1)
    return top


def main(argv: list[str]) -> int:
    """Trains, and prints the report."""
    options = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    enter_host(env.host_source(env.ensure_environment()))
    return importlib.import_module(f"{__package__}.tadsr_recipe").run(options)
