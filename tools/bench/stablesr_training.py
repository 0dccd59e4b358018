"""`dev.py bench stablesr-training`: Train StableSR on the small base, on generated pictures, three seeds; and what ships.

training: against the same base without guidance, on held-out pictures, paired: the same start noise and steps with and
without. strength: how much the trained SFT layers turn the base's features, by timestep (StableSR, fig. 3), fresh, trained,
and trained but told timestep 500 in every call; the lower the cosine of a branch before and after its layer, the stronger
the condition. embedded: the parts that ship, on the embedded base, on held-out photographs, by the number of steps.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import torch

from ...sampling.schedules import stable_diffusion_alphas
from ..env import environment as env
from ..env.in_process import enter_host
from ..train.stablesr import PARTS_FILE
from .parts.heldout import DEGRADATIONS
from .parts.middles import MEASURES, Rows, bicubic, crops, measured, table
from .parts.report import write_report

TIMES = [0, 50, 100, 200, 300, 400, 500, 600, 700, 800, 900, 999]
KINDS = ("fresh", "trained", "told 500")
CHAINS = (1, 4, 15, 50)
"""Numbers of steps."""


def parser() -> argparse.ArgumentParser:
    """Options; defaults are those of the committed tables."""
    top = argparse.ArgumentParser(prog="bench stablesr-training", description=__doc__)
    top.add_argument("--part", choices=("training", "strength", "embedded"), default="training")
    top.add_argument("--steps", type=int, default=300, help="of training (300)")
    top.add_argument("--seeds", type=int, default=3, help="runs (3)")
    top.add_argument("--crop", type=int, default=64, help="pixels of the training crops (64)")
    top.add_argument("--held-out", type=int, default=8, help="generated pictures that are not trained on (8)")
    top.add_argument("--lr", type=float, default=3e-4, help="the encoder is fresh and the run short (0.0003)")
    top.add_argument("--file", type=Path, default=PARTS_FILE, help="embedded: StableSR parts of the embedded base")
    top.add_argument("--photos", type=int, default=8, help="embedded: held-out photographs (8)")
    top.add_argument("--side", type=int, default=128, help="embedded: of their measured middles, pixels (128)")
    top.add_argument("--degradation", choices=DEGRADATIONS, default="mild")
    return top


def main(argv: list[str]) -> int:
    options = parser().parse_args(argv)
    torch.set_num_threads(1)
    enter_host(env.host_source(env.ensure_environment()))
    runs = importlib.import_module(f"{__package__}.parts.stablesr_training_runs")
    if options.part == "training":
        training(options, runs.all_runs(options))
    elif options.part == "strength":
        strength(options, runs.strengths(options, TIMES))
    else:
        embedded(options, runs)
    return 0


def embedded(options: argparse.Namespace, runs: Any) -> None:
    """Measures of the chain by its number of steps, beside bicubic enlargement."""
    pairs = crops(options)
    found = runs.restored(options.file, [low for low, _ in pairs], CHAINS, options.seeds)
    rows: Rows = bicubic(options)
    for steps, results in found.items():
        values = [measured(one, truth) for seeds, (_, truth) in zip(results, pairs) for one in seeds]
        rows[f"{steps} step{'s' * (steps > 1)}"] = {name: [value[name] for value in values] for name in MEASURES}
    about = (
        f"{options.photos} held-out photographs ({options.degradation}), middles of {options.side} pixels, x4, DDPM in one region, "
        f"{options.seeds} seeds, no guidance, wavelet colour fix."
    )
    write_report(
        "stablesr_embedded",
        {"rows": rows, **vars(options), "file": options.file.name},
        [about, "", *table(rows, "chain")],
    )


def training(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """With and without guidance."""
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


def strength(options: argparse.Namespace, runs: list[dict[str, Any]]) -> None:
    """Cosines of residual branches by timestep."""
    alphas = stable_diffusion_alphas()
    lines = [
        f"Mean cosine of residual branches before and after their SFT layer, {options.held_out} held-out generated pictures, "
        f"{options.steps} steps of training at rate {options.lr}; mean over {options.seeds} seeds (least to most).",
        "",
        "| timestep | SNR | " + " | ".join(KINDS) + " |",
        "|---" * (2 + len(KINDS)) + "|",
        *(
            f"| {t} | {alphas[t] / (1 - alphas[t]):.3g} | "
            + " | ".join(spread([run[kind][i] for run in runs]) for kind in KINDS)
            + " |"
            for i, t in enumerate(TIMES)
        ),
    ]
    write_report("stablesr_strength", {"times": TIMES, "runs": runs, **vars(options)}, lines)


def spread(values: list[float]) -> str:
    """The mean and both ends."""
    return f"{sum(values) / len(values):.4f} ({min(values):.4f} to {max(values):.4f})"
