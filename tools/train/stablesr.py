"""`dev.py train stablesr`: StableSR's training without the page, through the same functions as the node.

Without --checkpoint it runs on the small networks that the tests make, and without --images on generated pictures: that
shows that everything works and teaches nothing. --embedded-base is a small trained one. With Stable Diffusion 2.1 and a folder
of photos it is the real thing.
"""

from __future__ import annotations

import argparse
import importlib
import logging
from pathlib import Path

import torch

from ...imaging.degradation.presets import PRESETS as DEGRADATIONS
from ...training.stablesr.config import PRESETS, SIZES, STARTS, StableSRConfig
from ..env import environment as env
from ..env.in_process import enter_host
from .tasr import BASE_FILE, ROOT, add_embedded_base

PARTS_FILE = BASE_FILE.with_name("embedded_stablesr.safetensors")


def parser() -> argparse.ArgumentParser:
    """Options; defaults are those of a trial."""
    default = StableSRConfig()
    top = argparse.ArgumentParser(prog="train stablesr", description=__doc__)
    top.add_argument("--checkpoint", type=Path, help="Stable Diffusion 2.1; without: small networks made here")
    add_embedded_base(top)
    top.add_argument("--start-file", type=Path, help="StableSR file to go on from; without: a fresh encoder")
    top.add_argument("--images", type=Path, help="folder of pictures; without: generated")
    top.add_argument("--out", type=Path, default=ROOT / "train_output" / "stablesr", help="states, weights, pictures")
    top.add_argument("--settings", choices=PRESETS, help="of a paper, over those below")
    top.add_argument("--steps", type=int, default=20, help="steps of this run, on top of those of a resumed one")
    top.add_argument("--batch", type=int, default=1)
    top.add_argument("--accumulate", type=int, default=1)
    top.add_argument("--lr", type=float, default=default.lr)
    top.add_argument("--size", choices=SIZES, default="small", help="of a fresh encoder")
    top.add_argument("--start", choices=STARTS, default=default.start)
    top.add_argument("--degradation", choices=DEGRADATIONS, default="stablesr")
    top.add_argument(
        "--weighted-as-v", action="store_true", help="errors of the noise count as those of v; for the embedded base"
    )
    top.add_argument("--plain-targets", action="store_true", help="targets are not sharpened, as for 768")
    top.add_argument("--crop", type=int, default=64, help="pixels")
    top.add_argument("--seed", type=int, default=default.seed)
    top.add_argument("--precision", choices=("bfloat16", "float32"), default="float32")
    top.add_argument("--samples-every", type=int, default=0)
    top.add_argument("--resume", metavar="NAME", help="go on with this run of --out, e.g. stablesr_00001")
    top.add_argument("--threads", type=int, default=1)
    top.add_argument(
        "--install", action="store_true", help="overwrite the embedded base's StableSR parts that ship with the pack"
    )
    return top


def main(argv: list[str]) -> int:
    """Trains, and prints the report."""
    options = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    enter_host(env.host_source(env.ensure_environment()))
    return importlib.import_module(f"{__package__}.stablesr_recipe").run(options)
