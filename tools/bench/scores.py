"""`dev.py bench scores`: how the teacher's scores of one-step results differ from those of its chain, over time (TAD-SR, fig. 2).

Embedded teacher, held-out photos. HSD trains on these differences, at the small times alone.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

import torch
from torch import Tensor

from ...models.pixel_denoiser import PixelDenoiser
from ...sampling.noise import gaussian_field
from ...sampling.samplers import sample_deterministic, sample_one_step
from ...training.tad_sr.base import LatentModel, embedded_model
from .parts import restorers
from .parts.heldout import SETS
from .parts.report import write_report
from .parts.score_differences import ScoreRow, score_rows
from .tadsr import held_out

RESULTS = ("bicubic", "teacher's first step", "student (v1)", "truth")
NOTES = """Each result and the teacher's 15-step chain are perturbed by the same noise to time index t; the teacher predicts the noise of both.
size: RMS of the difference of these predictions (TAD-SR, eq. 7, w = 1), in units of the noise. fine: share of its power above the LR
picture's Nyquist frequency. Chain and first step start from the same noise."""


def load(kind: str) -> LatentModel:
    """An embedded network as the training has it."""
    network = restorers.load_denoiser(restorers.WEIGHTS[kind])
    if not isinstance(network, PixelDenoiser):
        raise TypeError(f"The embedded {kind} is a {type(network).__name__}: expected a PixelDenoiser.")
    return embedded_model(network)


@torch.no_grad()
def candidates(
    teacher: LatentModel, student: LatentModel, lr: Tensor, truth: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """Latents of what is compared by name, and the chain's."""
    y = teacher.latents.start(lr, teacher.scale)
    noise = gaussian_field(tuple(y.shape[1:]), seed=restorers.SEED)[None].expand_as(y)
    first, own = (sample_one_step(model.denoise(lr), y, model.schedule, noise) for model in (teacher, student))
    found = dict(zip(RESULTS, (y, first, own, teacher.latents.encode(truth))))
    return found, sample_deterministic(teacher.denoise(lr), y, teacher.schedule, noise)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench scores", description=__doc__)
    parser.add_argument("--pictures", type=int, default=4, help="held-out photos (4)")
    parser.add_argument("--side", type=int, default=256, help="pixels of their middles (256)")
    parser.add_argument("--degradation", default="mild", choices=("clean", "mild"))
    parser.add_argument("--noises", type=int, default=2, help="perturbations of each time (2)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    names = SETS["photos"][: options.pictures]
    pairs = [held_out(name, options.degradation, options.side) for name in names]
    lr, truth = (torch.cat([pair[i] for pair in pairs]) * 2 - 1 for i in (0, 1))
    teacher, student = load("teacher"), load("student")
    results, chain = candidates(teacher, student, lr, truth)
    rows = score_rows(teacher, lr, results, chain, range(1, options.noises + 1))
    write_report("scores", {"rows": [asdict(row) for row in rows], **vars(options)}, page(rows, names))
    return 0


def page(rows: list[ScoreRow], names: tuple[str, ...]) -> list[str]:
    """The table, as Markdown lines."""
    head = " | ".join(f"{name}, {part}" for name in RESULTS for part in ("size", "fine"))
    return [
        NOTES,
        "",
        f"Middles of {len(names)} photos ({', '.join(names)}).",
        "",
        f"| t | sqrt eta | {head} |",
        "|---" * (2 + 2 * len(RESULTS)) + "|",
        *(
            f"| {row.index} | {row.sqrt_eta:.3f} | "
            + " | ".join(f"{row.size[name]:.3f} | {100 * row.fine[name]:.0f} %" for name in RESULTS)
            + " |"
            for row in rows
        ),
    ]
