"""`dev.py train tasr`: TASR's training without the page, through the same functions as the node.

Without --checkpoint it runs on the small networks that the tests make, and without --images on generated pictures: that
shows that everything works and teaches nothing. --embedded-base is a small trained one. With Stable Diffusion 2.1-base,
DiffBIR v2 as --control and a folder of photos it is the real thing.
"""

from __future__ import annotations

import argparse
import importlib
import logging
from pathlib import Path

import torch

from ...imaging.degradation.presets import PRESETS
from ...models.time_aware_adapter_config import DESIGNS
from ...training.tasr.config import LEARNERS, SCHEDULES, TasrConfig, TasrOptions
from ...training.tasr.rewards import ENERGY, REWARDS
from ..env import environment as env
from ..env.in_process import enter_host

ROOT = Path(__file__).resolve().parents[2]
BASE_FILE = ROOT / "models" / "weights" / "embedded_latent_base.safetensors"
CONTROL_FILE = BASE_FILE.with_name("embedded_control.safetensors")


def parser() -> argparse.ArgumentParser:
    """Options; defaults are those of a trial."""
    default = TasrConfig()
    top = argparse.ArgumentParser(prog="train tasr", description=__doc__)
    top.add_argument("--checkpoint", type=Path, help="Stable Diffusion 2.1-base; without: small networks made here")
    add_embedded_base(top)
    top.add_argument("--control", type=Path, help="DiffBIR or TASR file to start from; without: the model's encoder")
    top.add_argument(
        "--images", type=Path, help="folder of pictures, tags in .txt files beside them; without: generated"
    )
    top.add_argument("--out", type=Path, default=ROOT / "train_output" / "tasr", help="states, weights, loss picture")
    top.add_argument("--stage", type=int, choices=(1, 2), default=default.stage)
    top.add_argument("--steps", type=int, default=20, help="steps of this run, on top of those of a resumed one")
    top.add_argument("--batch", type=int, default=default.batch)
    top.add_argument("--lr", type=float, default=default.lr)
    top.add_argument("--adapter-every", type=int, default=default.adapter_every)
    top.add_argument("--size", choices=DESIGNS, default="lite", help="of the adapters")
    top.add_argument("--reward", choices=REWARDS, default=ENERGY)
    top.add_argument("--loss-schedule", choices=SCHEDULES, default=default.loss_schedule, help="of the paper's Table 4")
    top.add_argument("--reward-moves", choices=LEARNERS, default=default.reward_moves)
    top.add_argument("--without-time", action="store_true", help="gates that do not know the timestep")
    top.add_argument("--crop", type=int, help="pixels; 512 with a checkpoint, else 64")
    top.add_argument("--degradation", choices=PRESETS, default=TasrOptions(0).degradation)
    top.add_argument("--seed", type=int, default=default.seed)
    top.add_argument("--precision", choices=("bfloat16", "float32"), default="float32")
    top.add_argument("--resume", metavar="NAME", help="go on with this run of --out, e.g. tasr_adapter_00001")
    top.add_argument("--threads", type=int, default=1)
    top.add_argument(
        "--install", action="store_true", help="overwrite the embedded base's ControlNet that ships with the pack"
    )
    return top


def add_embedded_base(top: argparse.ArgumentParser) -> None:
    """The option that chooses the small base."""
    top.add_argument(
        "--embedded-base",
        nargs="?",
        type=Path,
        const=BASE_FILE,
        metavar="FILE",
        help="the small base that ships, or one that `train embedded --part base` has made, in the place of a checkpoint",
    )


def main(argv: list[str]) -> int:
    """Trains, and prints the report."""
    options = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    enter_host(env.host_source(env.ensure_environment()))
    return importlib.import_module(f"{__package__}.tasr_recipe").run(options)
