"""Real-world degradation of IMAGEs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.model_management as mm
import torch
from torch import Tensor

from ..imaging.degradation.presets import PRESETS, degrade_one
from ..sampling.noise import generator_for
from .runtime import HostRuntime


@dataclass(frozen=True)
class Degraded:
    """The small picture, what it was made of (cropped to whole pixels of the small one), and what was drawn."""

    small: Tensor
    reference: Tensor
    reference_alpha: Tensor | None
    report: dict[str, Any]


def degrade_images(rgb: Tensor, alpha: Tensor | None, preset: str, scale: int, seed: int) -> Degraded:
    """RGB (B, 3, H, W) in [0, 1] degraded and reduced by scale; image i as the seed seed + i degrades it alone.

    Columns on the right and rows at the bottom that do not fill a pixel of the small picture are left out.
    """
    height, width = (side // scale * scale for side in rgb.shape[2:])
    if 0 in (height, width):
        raise ValueError(
            f"Got a picture of {rgb.shape[3]}x{rgb.shape[2]} pixels to be reduced by {scale}: expected at least {scale}x{scale}; "
            "take a larger picture or a smaller scale."
        )
    reference = rgb[..., :height, :width].clamp(0, 1)
    runtime = HostRuntime(len(rgb))
    device = mm.get_torch_device()
    pictures: list[Tensor] = []
    logs: list[dict[str, Any]] = []
    for index, image in enumerate(reference.split(1)):
        low, steps = degrade_one(image.to(device), PRESETS[preset], generator_for(seed + index), scale)
        pictures.append(low.to(reference))
        logs.append({"seed": seed + index, "steps": [_rounded(step) for step in steps]})
        runtime.step(1)
    report = {
        "preset": preset,
        "scale": scale,
        "input": f"{len(rgb)} x {rgb.shape[3]}x{rgb.shape[2]}",
        "output": f"{width // scale}x{height // scale}",
        "images": logs,
    }
    cropped = None if alpha is None else alpha[..., :height, :width]
    return Degraded(torch.cat(pictures), reference, cropped, report)


def _rounded(step: dict[str, Any]) -> dict[str, Any]:
    """Four decimals are enough to read."""
    return {key: _short(value) for key, value in step.items()}


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return [_short(entry) for entry in value]
    return round(value, 4) if isinstance(value, float) else value


def describe(report: dict[str, Any]) -> str:
    """The first image's steps in a line."""
    parts = [_words(step) for step in report["images"][0]["steps"]]
    more = f" (image 1 of {len(report['images'])})" if len(report["images"]) > 1 else ""
    return f"{report['preset']}{more}: {', '.join(parts)}"


def _words(step: dict[str, Any]) -> str:
    kind = step["step"]
    if kind in ("blur", "sinc"):
        strength = f"cutoff {step['cutoff']:.2g}" if "cutoff" in step else f"sigma {max(step['sigma']):.2g}"
        return f"{step.get('kind', 'last sinc').replace('_', ' ')} {strength}"
    if kind == "resize":
        return f"{step['mode']} to {step['size'][0]}x{step['size'][1]}"
    if kind == "noise":
        strength = step["sigma"] if step["kind"] == "gaussian" else step["scale"]
        return f"{step['colors']} {step['kind']} {strength:.2g}"
    return f"jpeg {step['quality']:.0f}" if kind == "jpeg" else kind
