"""`dev.py bench stablesr-training`: Train StableSR on the small base against the same base without guidance.

300 steps on generated pictures; held-out pictures, three seeds, paired: the same start noise and steps with and without.
"""

from __future__ import annotations

import argparse
import importlib

import torch

from ..env import environment as env
from ..env.in_process import enter_host
from .parts.report import write_report


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench stablesr-training", description=__doc__)
    parser.add_argument("--steps", type=int, default=300, help="of training (300)")
    parser.add_argument("--seeds", type=int, default=3, help="runs (3)")
    parser.add_argument("--crop", type=int, default=64, help="pixels of the training crops (64)")
    parser.add_argument("--held-out", type=int, default=8, help="generated pictures that are not trained on (8)")
    parser.add_argument("--lr", type=float, default=3e-4, help="the encoder is fresh and the run short (0.0003)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    enter_host(env.host_source(env.ensure_environment()))
    rows = importlib.import_module(f"{__package__}.parts.stablesr_training_runs").all_runs(options)
    lines = [
        f"{options.steps} steps of batch 1 at rate {options.lr} on crops of {options.crop} pixels, degradation stablesr; "
        f"{options.held_out} held-out pictures, 20 steps of DDPM. PSNR in dB of RGB; spectrum distance in dB of luma rings. Weights of "
        "the base are not learned: it smooths, and its VAE keeps means of 8 x 8 pixels.",
        "",
        "| seed | PSNR LR | without | with | gain | spectrum LR | without | with | gain | loss first, last tenth |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {row['seed']} | {row['psnr'][0]:.2f} | {row['psnr'][1]:.2f} | {row['psnr'][2]:.2f} | {row['psnr'][2] - row['psnr'][1]:+.2f} | "
            f"{row['spectrum'][0]:.2f} | {row['spectrum'][1]:.2f} | {row['spectrum'][2]:.2f} | {row['spectrum'][2] - row['spectrum'][1]:+.2f} | "
            f"{row['loss'][0]:.3f}, {row['loss'][1]:.3f} |"
            for row in rows
        ),
    ]
    write_report("stablesr_training", {"rows": rows, **vars(options)}, lines)
    return 0
