"""`dev.py train cfw`: the training of StableSR's fusion layers without the page, through the same functions as the node.

Without --checkpoint it runs on the small networks that the tests make, and without --images on generated pictures: that
shows that everything works and teaches nothing. With Stable Diffusion 2.1, StableSR's file and a folder of photos it is the
real thing.
"""

from __future__ import annotations

import argparse
import importlib
import logging
from pathlib import Path

import torch

from ...training.cfw.config import GRADIENTS, PERCEPTUAL, PRESETS, SIZES, STARTS, CFWTrainConfig
from ..env import environment as env
from ..env.in_process import enter_host

ROOT = Path(__file__).resolve().parents[2]


def parser() -> argparse.ArgumentParser:
    """Options; defaults are those of a trial."""
    default = CFWTrainConfig()
    top = argparse.ArgumentParser(prog="train cfw", description=__doc__)
    top.add_argument("--checkpoint", type=Path, help="Stable Diffusion 2.1; without: small networks made here")
    top.add_argument(
        "--stablesr-file", type=Path, help="StableSR file of that checkpoint; without: a small one made here"
    )
    top.add_argument("--start-file", type=Path, help="CFW file to go on from; without: fresh layers")
    top.add_argument("--images", type=Path, help="folder of pictures; without: generated")
    top.add_argument(
        "--out", type=Path, default=ROOT / "train_output" / "cfw", help="triples, states, weights, pictures"
    )
    top.add_argument("--settings", choices=PRESETS, help="of the paper, over those below")
    top.add_argument("--steps", type=int, default=20, help="steps of this run, on top of those of a resumed one")
    top.add_argument("--batch", type=int, default=1)
    top.add_argument("--accumulate", type=int, default=1)
    top.add_argument("--lr", type=float, default=default.lr)
    top.add_argument("--size", choices=SIZES, default="small", help="of fresh layers and of the discriminator")
    top.add_argument("--start", choices=STARTS, default=default.start)
    top.add_argument("--degradation", default="stablesr")
    top.add_argument("--crop", type=int, default=64, help="pixels")
    top.add_argument("--triples", type=int, default=16)
    top.add_argument("--sampling-steps", type=int, default=4)
    top.add_argument("--perceptual", choices=PERCEPTUAL, default=GRADIENTS)
    top.add_argument("--adversarial-weight", type=float, default=default.adversarial_weight)
    top.add_argument("--adversarial-after", type=int, default=default.adversarial_after)
    top.add_argument("--seed", type=int, default=default.seed)
    top.add_argument("--precision", choices=("bfloat16", "float32"), default="float32")
    top.add_argument("--samples-every", type=int, default=0)
    top.add_argument("--resume", metavar="NAME", help="go on with this run of --out, e.g. cfw_00001")
    top.add_argument("--threads", type=int, default=1)
    return top


def main(argv: list[str]) -> int:
    """Trains, and prints the report."""
    options = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    enter_host(env.host_source(env.ensure_environment()))
    return importlib.import_module(f"{__package__}.cfw_recipe").run(options)
