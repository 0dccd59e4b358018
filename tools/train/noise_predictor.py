"""`dev.py train noise_predictor`: InvSR's training without the page, through the same functions as the node.

Without --checkpoint it runs on the small networks that the tests make, and without --images on generated pictures: that
shows that everything works and teaches nothing. With SD-Turbo and a folder of photos it is the real thing.
"""

from __future__ import annotations

import argparse
import importlib
import logging
from pathlib import Path

import torch

from ...training.invsr.config import OWN, PRESETS, SIZES, InvSRConfig
from ..env import environment as env
from ..env.in_process import enter_host

ROOT = Path(__file__).resolve().parents[2]


def parser() -> argparse.ArgumentParser:
    """Options; defaults are those of a trial."""
    default = InvSRConfig()
    top = argparse.ArgumentParser(prog="train noise_predictor", description=__doc__)
    top.add_argument("--checkpoint", type=Path, help="SD-Turbo; without: small networks made here")
    top.add_argument("--images", type=Path, help="folder of pictures; without: generated")
    top.add_argument("--lpips", default="(none)", help="file of models/adaptivesr/latent_lpips of the output's host")
    top.add_argument("--out", type=Path, default=ROOT / "train_output" / "noise_predictor", help="states and weights")
    top.add_argument("--preset", choices=(*PRESETS, OWN), default=OWN)
    top.add_argument("--steps", type=int, default=20, help="steps of this run, on top of those of a resumed one")
    top.add_argument("--batch", type=int, default=4)
    top.add_argument("--microbatch", type=int, default=1)
    top.add_argument("--lr", type=float, default=1e-3)
    top.add_argument("--warmup", type=int, default=0)
    top.add_argument("--adversarial", type=float, default=default.adversarial_weight)
    top.add_argument("--adversarial-after", type=int, default=10)
    top.add_argument("--taus", default=", ".join(map(str, default.taus)), help="start steps, with commas")
    top.add_argument("--size", choices=SIZES, help="of the predictor: paper with a checkpoint, else small")
    top.add_argument("--crop", type=int, help="pixels; 512 with a checkpoint, else 64")
    top.add_argument("--seed", type=int, default=default.seed)
    top.add_argument("--precision", choices=("bfloat16", "float32"), default="float32")
    top.add_argument("--resume", metavar="NAME", help="go on with this run of --out, e.g. noise_predictor_00001")
    top.add_argument("--threads", type=int, default=1)
    return top


def main(argv: list[str]) -> int:
    """Trains, and prints the report."""
    options = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    enter_host(env.host_source(env.ensure_environment()))
    return importlib.import_module(f"{__package__}.noise_predictor_recipe").run(options)
