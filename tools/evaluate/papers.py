"""What the papers report of their own methods, by the shipped workflow that runs them; docs/scale.md shows the same table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PaperNumbers:
    """A row of a paper's table, under pyiqa's names of the metrics."""

    workflow: str
    data_set: str
    values: Mapping[str, float]
    source: str
    weights: str = ""


ADADIFFSR, TASR, TAD_SR, INVSR = "arXiv 2410.17752", "arXiv 2412.03355", "arXiv 2408.07476", "arXiv 2412.09013"
BY_ADADIFFSR = f"{ADADIFFSR}, which measured StableSR"

NUMBERS: tuple[PaperNumbers, ...] = (
    PaperNumbers("adadiffsr", "DIV2K", {"psnr": 24.25, "ssim": 0.7355, "lpips": 0.2153, "musiq": 68.81}, ADADIFFSR),
    PaperNumbers("adadiffsr", "RealSR", {"psnr": 24.19, "ssim": 0.7485, "lpips": 0.2595, "musiq": 60.47}, ADADIFFSR),
    PaperNumbers("adadiffsr", "DRealSR", {"psnr": 25.67, "ssim": 0.8415, "lpips": 0.2627, "musiq": 38.66}, ADADIFFSR),
    PaperNumbers(
        "stablesr", "DIV2K-val", {"psnr": 23.83, "ssim": 0.7059, "lpips": 0.2328, "musiq": 66.73}, BY_ADADIFFSR
    ),
    PaperNumbers("stablesr", "RealSR", {"psnr": 23.55, "ssim": 0.7461, "lpips": 0.2543, "musiq": 59.92}, BY_ADADIFFSR),
    PaperNumbers("stablesr", "DRealSR", {"psnr": 24.85, "ssim": 0.8326, "lpips": 0.2853, "musiq": 35.39}, BY_ADADIFFSR),
    PaperNumbers(
        "tasr",
        "DIV2K-val",
        {"psnr": 20.92, "ssim": 0.5174, "lpips": 0.3762, "maniqa": 0.6007, "musiq": 68.14, "clipiqa": 0.7681},
        TASR,
    ),
    PaperNumbers(
        "tasr",
        "RealSR",
        {"psnr": 23.79, "ssim": 0.6650, "lpips": 0.2986, "maniqa": 0.6113, "musiq": 69.94, "clipiqa": 0.7076},
        TASR,
    ),
    PaperNumbers(
        "tasr",
        "DRealSR",
        {"psnr": 27.25, "ssim": 0.7381, "lpips": 0.2869, "maniqa": 0.5551, "musiq": 65.23, "clipiqa": 0.7155},
        TASR,
    ),
    PaperNumbers("tasr", "RealLR200", {"maniqa": 0.6150, "musiq": 71.05, "clipiqa": 0.7660}, TASR),
    PaperNumbers(
        "one_step_sr", "ImageNet-Test", {"lpips": 0.227, "clipiqa": 0.652, "musiq": 57.533}, TAD_SR, weights="TAD-SR"
    ),
    PaperNumbers("one_step_sr", "RealSR", {"clipiqa": 0.741, "musiq": 65.701}, TAD_SR, weights="TAD-SR"),
    PaperNumbers("one_step_sr", "RealSet65", {"clipiqa": 0.734, "musiq": 67.5}, TAD_SR, weights="TAD-SR"),
    PaperNumbers(
        "invsr",
        "ImageNet-Test",
        {"psnr": 24.14, "ssim": 0.6789, "lpips": 0.2517, "musiq": 72.29, "clipiqa": 0.7093},
        INVSR,
    ),
    PaperNumbers(
        "invsr",
        "RealSR",
        {"psnr": 24.50, "ssim": 0.7262, "lpips": 0.2872, "musiq": 67.4586, "clipiqa": 0.6918},
        INVSR,
    ),
    PaperNumbers("invsr", "RealSet80", {"musiq": 69.8055, "clipiqa": 0.7291}, INVSR),
    PaperNumbers(
        "invsr_steps",
        "ImageNet-Test",
        {"psnr": 22.70, "ssim": 0.6412, "lpips": 0.2844, "musiq": 69.8427, "clipiqa": 0.6733},
        f"{INVSR}, five steps",
    ),
)


def numbers_for(title: str, workflow: str) -> list[PaperNumbers]:
    """Rows of the workflow of that name; of those that depend on weights, the ones whose name its JSON has."""
    return [entry for entry in NUMBERS if entry.workflow == title and entry.weights in workflow]


def as_table() -> str:
    """All of them in Markdown, for the docs."""
    columns = list(dict.fromkeys(name for entry in NUMBERS for name in entry.values))
    lines = [f"| workflow | set | {' | '.join(columns)} | source |", "|---" * (len(columns) + 3) + "|"]
    for entry in NUMBERS:
        cells = [f"{entry.values[name]:g}" if name in entry.values else "" for name in columns]
        name = f"`{entry.workflow}`" + (f" with {entry.weights}" if entry.weights else "")
        lines.append(f"| {name} | {entry.data_set} | {' | '.join(cells)} | {entry.source} |")
    return "\n".join(lines)
