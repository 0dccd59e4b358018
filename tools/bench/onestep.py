"""One step of the student against the teacher's chain: network calls, latent megapixels, seconds, quality."""

from __future__ import annotations

import argparse
import time
from statistics import mean

import torch
from torch import Tensor

from .embedded import as_tensor
from .parts import restorers
from .parts.heldout import SETS, low_resolution, picture
from .parts.measures import measure
from .parts.report import write_report


class Counter:
    """Counts calls and latent pixels of a network through a forward hook."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.calls, self.latent_pixels = 0, 0
        model.register_forward_hook(self._count)

    def _count(self, _module: torch.nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.calls += 1
        self.latent_pixels += output.shape[0] * output.shape[-2] * output.shape[-1]


def contestants(steps: int) -> dict[str, tuple[restorers.Restorer, Counter]]:
    """The student's single step, the teacher's first step, and its chains of `steps`."""
    chains = {
        "student, 1 step": ("student", restorers.sample_one_step),
        "teacher, 1 step": ("teacher", restorers.sample_one_step),
        f"teacher, {steps} steps deterministic": ("teacher", restorers.deterministic(steps)),
        f"teacher, {steps} steps ancestral": ("teacher", restorers.ancestral(steps)),
    }
    found: dict[str, tuple[restorers.Restorer, Counter]] = {}
    for name, (file, chain) in chains.items():
        model = restorers.load_denoiser(restorers.WEIGHTS[file])
        found[name] = (restorers.network_restorer(model, chain), Counter(model))
    return found


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench onestep", description=__doc__)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--pictures", type=int, default=3)
    options = parser.parse_args(argv)
    truths = [picture(name) for name in SETS["photos"][: options.pictures]]
    pairs = [(as_tensor(low_resolution(truth, "mild", i)), as_tensor(truth)) for i, truth in enumerate(truths)]
    rows: dict[str, dict[str, float]] = {}
    for name, (restore, counter) in contestants(options.steps).items():
        restore(pairs[0][0])  # warm-up
        counter.calls = counter.latent_pixels = 0
        started = time.perf_counter()
        images = [restore(low) for low, _ in pairs]
        seconds = time.perf_counter() - started
        quality = [measure(image, truth) for image, (_, truth) in zip(images, pairs)]
        rows[name] = {
            "calls": counter.calls / len(pairs),
            "latent_mpx": counter.latent_pixels / 1e6 / len(pairs),
            "seconds": seconds / len(pairs),
            **{key: mean(q[key] for q in quality) for key in ("psnr", "ssim", "ger")},
        }
    base = rows["student, 1 step"]
    text = [
        f"{len(pairs)} held-out photos, mild degradation, means per picture.",
        "",
        "| method | network calls | latent Mpx | seconds | times the student's | PSNR-Y | SSIM-Y | GER |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        ratio = row["seconds"] / base["seconds"]
        text.append(
            f"| {name} | {row['calls']:.0f} | {row['latent_mpx']:.3f} | {row['seconds']:.2f} | {ratio:.1f} | "
            f"{row['psnr']:.2f} | {row['ssim']:.4f} | {row['ger']:.3f} |"
        )
    write_report("onestep", {"rows": rows}, text)
    return 0
