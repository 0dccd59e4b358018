"""The embedded gain regressor against the metrics that it stands for, on held-out photos, and what it costs beside the base."""

from __future__ import annotations

import argparse
import importlib

import torch

from ..env import environment as env
from ..env.in_process import enter_host


def main(argv: list[str]) -> int:
    """Writes `tools/bench/results/gains`."""
    parser = argparse.ArgumentParser(prog="bench gains", description=__doc__)
    parser.add_argument("--tiles", type=int, default=48, help="regions of 128 pixels, evenly taken from the photos")
    parser.add_argument("--calls", type=int, default=40, help="of the chain")
    parser.add_argument("--sampler", default="euler")
    parser.add_argument("--file", help="another file than the embedded one")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    enter_host(env.host_source(env.ensure_environment()))
    return importlib.import_module(f"{__package__}.parts.gains_run").run(options)
