"""`dev.py bench tasr`: TASR on the embedded base: where control counts, what the gates learned, and what they are worth.

curve: control in the first k steps of a chain only, for growing k (TASR, fig. 1). gates: the learned alpha by site and
timestep (fig. 6). ablation: stage II from one ControlNet, once for each adapter and order of losses (Table 4), by measures
that were not the reward. Held-out photographs, the middle of each, x4.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from ...imaging.resize import bicubic_upsample
from ...training.tasr.config import CONTROLNET, EVERYWHERE, INVERSE, REWARD_ONLY
from ...training.tasr.rewards import ENERGY, REWARDS
from ..env import environment as env
from ..env.in_process import enter_host
from .parts.heldout import DEGRADATIONS
from .parts.middles import MEASURES, Rows, bicubic, crops, measured, table
from .parts.report import RESULTS, write_report

WEIGHTS = Path(__file__).resolve().parents[2] / "models" / "weights"
BASE, CONTROL = WEIGHTS / "embedded_latent_base.safetensors", WEIGHTS / "embedded_control.safetensors"
AS_LONG = "no adapter, trained as long"
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    AS_LONG: {"reward_moves": CONTROLNET, "reward_weight": 0.0},
    "lite": {},
    "full": {"design": "full"},
    "paper": {"design": "paper"},
    "lite, no timestep": {"sees_time": False},
    "lite, losses everywhere": {"loss_schedule": EVERYWHERE},
    "lite, inverse order": {"loss_schedule": INVERSE},
    "lite, reward only": {"loss_schedule": REWARD_ONLY},
    "no adapter, reward on the ControlNet": {"reward_moves": CONTROLNET},
}


def run(controls: Any, kinds: Mapping[str, tuple[str, int]], options: argparse.Namespace, seeds: range) -> Rows:
    """All pictures and seeds of every kind: a CONTROL_NET's name and the number of first steps in which it is active."""
    rows: Rows = {name: {measure_name: [] for measure_name in MEASURES} for name in kinds}
    for low, truth in crops(options):
        large = bicubic_upsample(low, 4).clamp(0, 1)
        for seed in seeds:
            for name, (kind, active) in kinds.items():
                result = controls.sample(kind, large, seed, options.steps, active)
                for measure_name, value in measured(result, truth).items():
                    rows[name][measure_name].append(value)
    return rows


def curve(runs: Any, options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """The ControlNet is active in the first k steps, then not."""
    counts = sorted({round(options.steps * share / 10) for share in (0, 1, 2, 4, 6, 8, 9, 10)})
    controls = runs.controls_of(options.base, options.control)
    kinds = {f"first {count} of {options.steps}": (runs.PLAIN, count) for count in counts}
    rows = bicubic(options) | run(controls, kinds, options, range(options.seeds))
    return {"rows": rows}, table(rows, "ControlNet active in")


def gates(runs: Any, options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Learned alpha of the adapters in the file."""
    controls = runs.controls_of(options.base, options.control)
    if "trained" not in controls.controls:
        raise SystemExit(f"{options.control.name} holds no adapters: give a file of stage II as --control.")
    low, _ = crops(options)[0]
    controls.sample("trained", bicubic_upsample(low, 4).clamp(0, 1), 0, options.steps, options.steps)
    summary = controls.gates("trained")
    times = summary["timesteps"][::2]
    lines = ["| site | " + " | ".join(f"t {t}" for t in times) + " |", "|---" * (1 + len(times)) + "|"]
    for site, values in runs.gate_rows(summary, 2):
        lines.append(f"| {site} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    return {"gates": summary}, lines


def ablation(runs: Any, options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Every variant, trained and run with each seed."""
    chosen = {name: VARIANTS[name] for name in options.variants or VARIANTS}
    total: Rows = {}
    for seed in range(options.seeds):
        controls = runs.trained_controls(options.base, options.control, options.images, chosen, seed, options)
        kinds = {name: (name, options.steps) for name in (runs.PLAIN, runs.FREE, *chosen)}
        for name, values in run(controls, kinds, options, range(seed, seed + 1)).items():
            for key, found in values.items():
                total.setdefault(name, {}).setdefault(key, []).extend(found)
    return {"rows": total}, [*table(total, "variant"), *differences(total, runs.PLAIN, options.seeds)]


def differences(rows: Rows, plain: str, seeds: int) -> list[str]:
    """Tables against the ControlNet as it was (plain) and against the one that was trained as long, paired by picture and seed."""
    lines: list[str] = []
    for rival in (plain, AS_LONG):
        if rival not in rows:
            continue
        lines += ["", f"Against *{rival}*, mean and deviation over seeds (of means over pictures):", ""]
        lines += ["| variant | " + " | ".join(MEASURES) + " |", "|---" * (1 + len(MEASURES)) + "|"]
        for name in rows:
            if name not in (plain, rival):
                cells = [spread(rows[name][key], rows[rival][key], seeds) for key in MEASURES]
                lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def spread(values: list[float], plain: list[float], seeds: int) -> str:
    """Mean difference and its deviation over seeds; values are grouped by seed."""
    count = len(values) // seeds
    means = [
        mean(a - b for a, b in zip(values[i : i + count], plain[i : i + count])) for i in range(0, len(values), count)
    ]
    return f"{mean(means):+.3f}" + (f" ± {stdev(means):.3f}" if len(means) > 1 else "")


PARTS = {"curve": curve, "gates": gates, "ablation": ablation}


def parser() -> argparse.ArgumentParser:
    """Options; defaults are those of the committed tables."""
    top = argparse.ArgumentParser(prog="bench tasr", description=__doc__)
    top.add_argument("--part", choices=PARTS, default="curve")
    top.add_argument("--base", type=Path, default=BASE)
    top.add_argument(
        "--control", type=Path, default=CONTROL, help="a file of stage I for ablation, of stage II for gates"
    )
    top.add_argument("--photos", type=int, default=8)
    top.add_argument("--side", type=int, default=192, help="of the measured middles, pixels (192)")
    top.add_argument("--degradation", choices=DEGRADATIONS, default="mild")
    top.add_argument("--steps", type=int, default=20, help="of a chain (20, as TASR)")
    top.add_argument("--seeds", type=int, default=3)
    top.add_argument(
        "--images", type=Path, help="ablation: pictures to train on (`train embedded --part base` writes them)"
    )
    top.add_argument("--variants", nargs="*", choices=VARIANTS, help="ablation: some of them")
    top.add_argument("--train-steps", type=int, default=500)
    top.add_argument("--batch", type=int, default=4)
    top.add_argument(
        "--adapter-every", type=int, default=2, help="ablation: every n-th step is the adapters' (2: in turns)"
    )
    top.add_argument("--lr", type=float, default=2e-4)
    top.add_argument("--reward", choices=REWARDS, default=ENERGY)
    top.add_argument("--threads", type=int, default=1)
    return top


def main(argv: list[str]) -> int:
    options = parser().parse_args(argv)
    torch.set_num_threads(options.threads)
    enter_host(env.host_source(env.ensure_environment()))
    runs = importlib.import_module(f"{__package__}.parts.tasr_runs")
    if options.part == "ablation":
        if options.images is None:
            parser().error("--part ablation trains: add --images DIR")
        standalone = importlib.import_module("adaptivesr.host.standalone")
        options.images = standalone.opened_folder(options.images)
        standalone.set_output_folder(RESULTS.parents[2] / "train_output" / "bench_tasr")
    with torch.no_grad():
        result, lines = PARTS[options.part](runs, options)
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    settings |= {key: Path(settings[key]).name for key in ("base", "control", "images") if settings[key]}
    about = (
        f"{options.photos} held-out photographs ({options.degradation}), middles of {options.side} pixels, x4, {options.steps} steps "
        f"of Euler, {options.seeds} seeds, no guidance."
    )
    write_report(f"tasr_{options.part}", {**settings, **result}, [about, "", *lines])
    return 0
