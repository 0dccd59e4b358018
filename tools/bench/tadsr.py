"""TAD-SR's ablation at small scale: the embedded teacher distilled into one step by every variant, measured on held-out photos.

Trains what is not in the output folder yet and writes the tables, their JSON and a picture. Stop it at any time: finished runs
are kept, and used again only if their settings and the teacher's file are the same.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ...sampling.samplers import sample_one_step
from ..embedded_weights.pool import CHUNK, Pool, build_pool
from .embedded import as_tensor
from .parts import restorers
from .parts.heldout import DEGRADATIONS, SETS, low_resolution, picture
from .parts.report import write_report
from .parts.tadsr_runs import VARIANTS, Ablation, Rows, Trainings, file_digest, kept_rows, kept_run, slug
from .parts.tadsr_tables import MethodResult, ablation_table, paired_table
from .parts.texture import measure_texture, metrics_at_hand

ROOT = Path(__file__).resolve().parents[2]
UNTRAINED = "student untrained, 1 step"
NOTES = """Means over the middles of the held-out photos; for trained variants mean ± sample deviation over the seeds, runs of one seed with the same
crops and noise. PSNR, SSIM (border 4) and GER on luma: GER is the gradient energy over the truth's, best at 1. spectrum: mean distance
of the luma's power from the truth's above the LR image's Nyquist frequency (16 rings); bias: the same with its sign, below 0 is too smooth.
NLPD, spectrum and PIQE: lower is better, but PIQE likes smooth pictures. Seconds of training include the teacher's chains."""
CROPS = (
    ("astronaut.png", "clean", 60, 160),
    ("chelsea.png", "clean", 110, 100),
    ("motorcycle_left.png", "mild", 200, 250),
)
"""Picture, degradation, top and left of the crops that are shown."""
SIDE = 128
SHOWN = ("bicubic", "teacher, 4 steps", "vanilla", "+ SDS", "+ HSD", "+ HSD + GAN", "+ HSD + time-aware GAN", "truth")


def evaluate(restore: restorers.Restorer, pictures: Sequence[str], side: int, more: tuple[str, ...]) -> Rows:
    """Every measure of a restorer on the middle of the held-out photos, clean and mild."""
    rows: Rows = {}
    for degradation in DEGRADATIONS:
        part = rows[f"photos, {degradation}"] = {}
        for name in pictures:
            low, truth = held_out(name, degradation, side)
            part[name] = measure_texture(restore(low), truth, more)
    return rows


def held_out(name: str, degradation: str, side: int = 0) -> tuple[Tensor, Tensor]:
    """(LR, truth) of a photo's middle, side x side pixels at most (0: the whole), (1, 3, h, w) in [0, 1]."""
    truth = picture(name)
    if side:
        top, left = (max(0, (length - side) // 2) for length in truth.shape[:2])
        truth = truth[top : top + side, left : left + side].copy()
    return as_tensor(low_resolution(truth, degradation, SETS["photos"].index(name))), as_tensor(truth)


def student(weights: Mapping[str, Tensor]) -> restorers.Restorer:
    """One step of the teacher's network with other weights."""
    network = restorers.load_denoiser(restorers.WEIGHTS["teacher"])
    network.load_state_dict(dict(weights))
    return restorers.network_restorer(network, sample_one_step)


def untrained() -> dict[str, restorers.Restorer]:
    """What needs no training: the teacher at its steps, and its weights in one step, from where all students start."""
    teacher = restorers.load_denoiser(restorers.WEIGHTS["teacher"])
    chains = {"teacher, 15 steps": restorers.deterministic(15), "teacher, 4 steps": restorers.deterministic(4)}
    found = {name: restorers.network_restorer(teacher, chain) for name, chain in chains.items()}
    return {"bicubic": restorers.bicubic, **found, UNTRAINED: restorers.network_restorer(teacher, sample_one_step)}


def seconds_of(restore: restorers.Restorer, low: Tensor) -> float:
    """Median seconds of three calls after one for warming up."""
    times: list[float] = []
    for _ in range(4):
        started = time.perf_counter()
        restore(low)
        times.append(time.perf_counter() - started)
    return median(times[1:])


def sheet(columns: Mapping[str, restorers.Restorer | None]) -> Image.Image:
    """Crops at 100 %: a row for each of `CROPS`, a column for each restorer; None is the truth."""
    image = Image.new("RGB", (SIDE * len(columns), (SIDE + 2) * len(CROPS) + 14), "white")
    draw = ImageDraw.Draw(image)
    for i, title in enumerate(columns):
        draw.text((SIDE * i + 3, 1), title, fill="black")
    for row, (name, degradation, top, left) in enumerate(CROPS):
        low, truth = held_out(name, degradation)
        for i, restore in enumerate(columns.values()):
            shown = (truth if restore is None else restore(low))[0, :, top : top + SIDE, left : left + SIDE]
            pixels = (shown.permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()
            image.paste(Image.fromarray(np.ascontiguousarray(pixels)), (SIDE * i, 14 + (SIDE + 2) * row))
    return image


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="bench tadsr", description=__doc__)
    options.add_argument("--out", type=Path, default=ROOT / "train_output" / "tadsr", help="finished runs and the pool")
    options.add_argument(
        "--pool",
        type=Path,
        help="finished pool of training images, which is only read (default: made in --out, minutes)",
    )
    options.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    options.add_argument("--pictures", type=int, default=len(SETS["photos"]), help="number of held-out photos")
    options.add_argument(
        "--side", type=int, default=256, help="pixels of each photo's middle that are measured; 0: all"
    )
    options.add_argument("--budget", type=float, default=1.0, help="factor on the steps")
    options.add_argument("--chain", type=int, default=4, help="steps of the teacher's chain that is distilled")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where to train")
    options.add_argument(
        "--metrics", nargs="*", default=[], help="more of pyiqa's, e.g. lpips clipiqa musiq: it downloads them"
    )
    options.add_argument("--picture", type=Path, default=ROOT / "docs" / "tad_sr.jpg", help="where the crops go")
    return options


def main(argv: list[str]) -> int:
    options = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    ablation = scaled(Ablation(), options.budget, options.chain)
    teacher = file_digest(restorers.WEIGHTS["teacher"])

    def measured(name: str, key: str, restore: restorers.Restorer) -> Rows:
        names, more = SETS["photos"][: options.pictures], tuple(options.metrics)
        whole = repr((key, names, options.side, more))
        return kept_rows(
            options.out / f"{slug(name)}.json", whole, lambda: evaluate(restore, names, options.side, more)
        )

    students, runs = trained(options, ablation, teacher, measured)
    restore = untrained()
    results = {name: MethodResult((measured(name, teacher, restorer),)) for name, restorer in restore.items()} | runs
    low, _ = held_out("astronaut.png", "mild")
    times = {name: seconds_of(restore[name], low) for name in restore if name != "bicubic"}
    columns = {**restore, **students, "truth": None}
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    sheet({name: columns[name] for name in SHOWN if name in columns}).save(options.picture, quality=92, subsampling=0)
    write_report("tadsr", report(ablation, results, times), page(ablation, results, times, options))
    return 0


def scaled(ablation: Ablation, budget: float, chain: int) -> Ablation:
    """The ablation with its steps multiplied, and another length of the teacher's chain."""
    steps = max(2, round(ablation.steps * budget))
    images = max(CHUNK, round(ablation.pool_images * min(budget, 1) / CHUNK) * CHUNK)
    distillation = replace(ablation.distillation, teacher_steps=chain)
    return replace(ablation, steps=steps, pool_images=images, distillation=distillation)


def open_pool(given: Path | None, out: Path, ablation: Ablation) -> tuple[Pool, str]:
    """The training images and what they were made from (seed and number): a given folder is only read, ours is made."""
    folder = given or out / f"pool-{ablation.pool_seed}-{ablation.pool_images}"
    if given is None:
        build_pool(folder, ablation.pool_seed, ablation.pool_images)
    return Pool.open(folder), (folder / "done.txt").read_text(encoding="utf-8")


def trained(
    options: argparse.Namespace,
    ablation: Ablation,
    teacher: str,
    measured: Callable[[str, str, restorers.Restorer], Rows],
) -> tuple[dict[str, restorers.Restorer], dict[str, MethodResult]]:
    """Trains and measures what is missing: the first seed's students, and the results of all."""
    pool, made = open_pool(options.pool, options.out, ablation)
    trainings = Trainings(ablation, pool, torch.device(options.device))
    rows: dict[str, list[Rows]] = {variant: [] for variant in options.variants}
    seconds: dict[str, list[float]] = {variant: [] for variant in options.variants}
    students: dict[str, restorers.Restorer] = {}
    for seed in options.seeds:  # the variants of one seed in a row: they share the teacher's chains
        for variant in options.variants:
            key = ablation.key(variant, seed, teacher, made)
            run = kept_run(options.out, variant, seed, key, trainings.train)
            restore = student(run.weights)
            students.setdefault(variant, restore)
            seconds[variant].append(run.seconds)
            rows[variant].append(measured(f"{variant} seed {seed}", key, restore))
    return students, {name: MethodResult(tuple(rows[name]), mean(seconds[name])) for name in options.variants}


def report(ablation: Ablation, results: Mapping[str, MethodResult], times: Mapping[str, float]) -> dict[str, object]:
    """What the JSON file holds."""
    methods = {name: {"rows": list(r.rows), "training_seconds": r.seconds} for name, r in results.items()}
    return {"settings": asdict(ablation), "inference_seconds": dict(times), "methods": methods}


def page(
    ablation: Ablation, results: Mapping[str, MethodResult], times: Mapping[str, float], options: argparse.Namespace
) -> list[str]:
    """All tables, as Markdown lines."""
    d = ablation.distillation
    one = times[UNTRAINED]
    lines = [NOTES, ""]
    lines += [
        f"{ablation.steps} steps of {d.batch} crops of {ablation.patch * 4} x {ablation.patch * 4} px per run, seeds {options.seeds}, "
        f"chain of {d.teacher_steps} steps, AdamW {d.lr:g} (discriminator {d.discriminator_lr:g}), weights {d.distill:.1f} / "
        f"{d.score_weight:.2f} / {d.adversarial_weight:g} (distillation / score / adversarial). Trained on {options.device}, "
        f"{options.threads} CPU thread(s).",
        "",
        "Seconds for one 512 x 512 picture: " + ", ".join(f"{name} {value:.2f} ({value / one:.1f}x)" for name, value in times.items()) + ".",
        "",
    ]  # fmt: skip
    left_out = metrics_at_hand(tuple(options.metrics)).left_out
    if left_out:
        lines += [f"Not computed, their weights could not be had: {', '.join(left_out)}.", ""]
    for degradation in DEGRADATIONS:
        part = f"photos, {degradation}"
        count = len(next(iter(results.values())).rows[0][part])
        lines += [f"## {part} (n={count})", "", *ablation_table(results, part), ""]
        lines += [
            "Difference of runs of the same seed (seeds in which the first is better):",
            "",
            *paired_table(results, part),
            "",
        ]
    return lines
