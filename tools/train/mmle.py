"""`dev.py train mmle`: the gain regressor of AdaDiffSR without the page, through the same functions as the node.

Without --checkpoint the base is the embedded teacher, for which the recipe of the shipped weights is the default; without
--images it is trained on generated pictures.
"""

from __future__ import annotations

import argparse
import importlib
import logging
from pathlib import Path

import torch

from ..env import environment as env
from ..env.in_process import enter_host

ROOT = Path(__file__).resolve().parents[2]


def parser(part: str) -> argparse.ArgumentParser:
    """Options of both recipes; defaults are those of the shipped weights."""
    regressor = part == "mmle"
    top = argparse.ArgumentParser(prog=f"train {part}", description=__doc__ if regressor else None)
    top.add_argument("--checkpoint", type=Path, help="a checkpoint with its VAE; without: the embedded teacher")
    top.add_argument(
        "--embedded-base", action="store_true", help="the small base that ships with its StableSR parts, instead"
    )
    top.add_argument("--images", type=Path, help="folder of pictures; without: generated ones")
    top.add_argument(
        "--pool", type=Path, help="pool folder of `dev.py train embedded`, whose generated pictures are used"
    )
    top.add_argument("--pictures", type=int, default=500, help="generated pictures")
    top.add_argument("--out", type=Path, default=ROOT / "train_output" / "gain", help="trajectories, states, weights")
    top.add_argument("--steps", type=int, default=6000 if regressor else 200, help="on top of those of a resumed run")
    top.add_argument("--batch", type=int, default=256 if regressor else 8)
    top.add_argument("--lr", type=float, default=2e-3 if regressor else 2e-4)
    top.add_argument("--size", choices=("small", "paper"), default="small")
    top.add_argument("--crop", type=int, default=128, help="pixels; the size of the tiles that will be sampled")
    top.add_argument("--calls", type=int, default=40, help="of the fixed-step chain")
    top.add_argument("--denoise", type=float, default=1.0, help="share of the schedule")
    top.add_argument("--sampler", default="euler, ddpm", help="of the chains; several take turns")
    top.add_argument("--degradation", default="mild")
    top.add_argument("--smooth", type=float, default=0.2, help="share of pictures that are blurred to smooth ones")
    top.add_argument("--seed", type=int, default=0)
    top.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    top.add_argument("--name", default="gain")
    top.add_argument("--resume", metavar="NAME", help="go on with this run of --out")
    top.add_argument("--threads", type=int, default=1)
    top.add_argument("--install", action="store_true", help="overwrite the file that ships with the pack")
    if regressor:
        top.add_argument("--trajectories", type=int, default=256)
        top.add_argument("--metrics", default="psnr, sharpness", help="or: paper")
        top.add_argument("--schedule", type=int, default=6000, help="steps of the cosine; 0: constant")
        top.add_argument("--convolutions", action="store_true", help="train them too; wants thousands of trajectories")
        top.add_argument(
            "--no-floor", action="store_true", help="ranges by quantiles alone, as the paper may have them"
        )
    else:
        top.add_argument("--gain-models", type=Path, help="file of the regressor; without: the shipped one")
    return top


def main(argv: list[str]) -> int:
    """Trains, and prints the report."""
    return run("mmle", argv)


def run(part: str, argv: list[str]) -> int:
    """One of the two recipes, in the host."""
    top = parser(part)
    options = top.parse_args(argv)
    if options.embedded_base and (options.checkpoint or options.install):
        top.error(
            "--embedded-base is a base of its own, and no file for it ships: leave out --checkpoint and --install."
        )
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    enter_host(env.host_source(env.ensure_environment()))
    return importlib.import_module(f"{__package__}.gain_recipe").run(part, options)
