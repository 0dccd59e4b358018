"""`dev.py bench stablesr`: what StableSR's patch adds to a model call of Stable Diffusion 2.1 at full size, random weights.

Seconds with and without the patch in turns, beside the arithmetic of encoder and SFT layers, and beside their own seconds
when they run alone: what is left over is what the patch itself costs.
"""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from ..env import environment as env
from ..env.in_process import enter_host
from .parts.report import write_report


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench stablesr", description=__doc__)
    parser.add_argument("--latent", type=int, default=64, help="latent cells along each side (64)")
    parser.add_argument("--repeats", type=int, default=3, help="turns, of which the median is taken (3)")
    options = parser.parse_args(argv)
    enter_host(env.host_source(env.ensure_environment()))
    networks = importlib.import_module(f"{__package__}.stablesr_networks").Networks(options.latent)
    rows = {
        "1 row (cfg 1)": networks.measure(1, options.repeats),
        "2 rows (cfg, one LR latent)": networks.measure(2, options.repeats),
    }
    lines = [
        f"{options.latent} x {options.latent} cells, float32, {networks.parameters}. Median of {options.repeats} turns; seconds of the "
        "processor where there is no GPU. "
        "'alone': encoder and SFT layers run by themselves; 'left over': (with - without - alone) / without.",
        "",
        "| call | without s | with s | ratio | alone s | left over | TFLOP without | TFLOP added | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_line(name, row) for name, row in rows.items()),
    ]
    write_report("stablesr", {"rows": rows, "parameters": networks.parameters, **vars(options)}, lines)
    return 0


def _line(name: str, row: dict[str, Any]) -> str:
    return (
        f"| {name} | {row['without_s']:.2f} | {row['with_s']:.2f} | {row['time_ratio']:.3f} | {row['alone_s']:.2f} | "
        f"{100 * row['left_over']:+.1f} % | {row['flop_without'] / 1e12:.3f} | {row['flop_added'] / 1e12:.3f} | "
        f"{row['flop_ratio']:.3f} |"
    )
