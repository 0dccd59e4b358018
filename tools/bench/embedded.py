"""The embedded weights against bicubic, Lanczos-3, weight-free back-projection and plain regression, on held-out pictures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from .parts import restorers
from .parts.heldout import DEGRADATIONS, SETS, TUNING, Pixels, low_resolution, picture
from .parts.measures import NAMES, measure
from .parts.report import RESULTS, write_report

NOTES = """PSNR and SSIM on luma, border 4. NLPD, GMSD: lower is better. GER: gradient energy over the truth's, nearer to 1 is nearer
to the truth's sharpness. Settings were compared on astronaut, chelsea and china only; the gain without them stands apart. The
regression's scores on all pictures had been seen when the student's settings were chosen."""
Rows = dict[str, dict[str, dict[str, float]]]  # method -> picture -> measure -> value


def as_tensor(image: Pixels) -> Tensor:
    """(H, W, 3) 8 bit to (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255


def evaluate(methods: Mapping[str, restorers.Restorer], set_name: str, degradation: str) -> Rows:
    """Every measure of every method on every picture of a set."""
    rows: Rows = {name: {} for name in methods}
    for index, name in enumerate(SETS[set_name]):
        truth = picture(name)
        low, target = as_tensor(low_resolution(truth, degradation, index)), as_tensor(truth)
        for method, restore in methods.items():
            rows[method][name] = measure(restore(low), target)
    return rows


def summary(rows: Rows) -> dict[str, dict[str, float]]:
    """Means over the pictures, the mean PSNR gain over bicubic and on how many pictures it is positive."""
    means: dict[str, dict[str, float]] = {}
    for method, pictures in rows.items():
        gains = [values["psnr"] - rows["bicubic"][name]["psnr"] for name, values in pictures.items()]
        others = [gain for name, gain in zip(pictures, gains) if name not in TUNING]
        means[method] = {name: mean(values[name] for values in pictures.values()) for name in NAMES}
        means[method] |= {"gain": mean(gains), "gain_others": mean(others), "wins": sum(g > 0 for g in gains)}
    return means


def table(rows: Rows) -> str:
    """A Markdown table of the means."""
    lines = [
        "| method | PSNR-Y | gain | gain without the tuning photos | SSIM-Y | NLPD | GMSD | GER | beats bicubic |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for method, m in summary(rows).items():
        lines.append(
            f"| {method} | {m['psnr']:.2f} | {m['gain']:+.2f} | {m['gain_others']:+.2f} | {m['ssim']:.4f} | "
            f"{m['nlpd']:.4f} | {m['gmsd']:.4f} | {m['ger']:.3f} | {m['wins']:.0f}/{len(rows[method])} |"
        )
    return "\n".join(lines)


def per_picture(rows: Rows) -> str:
    """A Markdown table of PSNR gains over bicubic, dB."""
    names = list(rows["bicubic"])
    lines = [
        "| gain over bicubic, dB | " + " | ".join(Path(n).stem for n in names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for method, pictures in rows.items():
        gains = [f"{pictures[n]['psnr'] - rows['bicubic'][n]['psnr']:+.2f}" for n in names]
        lines.append(f"| {method} | " + " | ".join(gains) + " |")
    return "\n".join(lines)


def stored(path: Path) -> dict[str, Rows]:
    """Rows of an earlier run."""
    return json.loads(path.read_text())["results"] if path.exists() else {}


def page(results: dict[str, Rows]) -> list[str]:
    """All tables, as Markdown lines."""
    lines = [NOTES, ""]
    for title, rows in results.items():
        lines += [f"## {title} (n={len(rows['bicubic'])})", "", table(rows), "", per_picture(rows), ""]
    return lines


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench embedded", description=__doc__)
    parser.add_argument("--sets", nargs="+", choices=sorted(SETS), default=list(SETS))
    parser.add_argument("--chains", nargs="*", type=int, default=[4, 15], help="lengths of the teacher's chains")
    parser.add_argument(
        "--only", nargs="*", default=[], help="methods whose name holds one of these; others stay as stored"
    )
    options = parser.parse_args(argv)
    methods = restorers.weight_free() | restorers.embedded(tuple(options.chains))
    chosen = {name: m for name, m in methods.items() if not options.only or any(part in name for part in options.only)}
    results = stored(RESULTS / "embedded.json") if options.only else {}
    for set_name in options.sets:
        for degradation in DEGRADATIONS:
            title = f"{set_name}, {degradation}"
            rows = results.get(title, {}) | evaluate(chosen, set_name, degradation)
            results[title] = {name: rows[name] for name in methods if name in rows}
    write_report("embedded", {"results": results}, page(results))
    return 0
