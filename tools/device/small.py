"""Cases that a CPU runs in seconds: the weights that the pack ships, and noise that a published predictor gives for a small picture."""

from __future__ import annotations

from typing import Any

import torch

from ..fullsize.bench import Bench, Case
from ..fullsize.device import run_node
from ..fullsize.invsr import load_predictor


def embedded(bench: Bench) -> None:
    """One-Step Distilled SR by the embedded weights."""
    sr = bench.load("AdaptiveSRLoadOneStepSR", model_name="embedded: one step", autoencoder="auto")[0]
    inputs: dict[str, Any] = {"scale": 4.0, "width": 0, "height": 0, "color_fix": "none", "tile": 256, "overlap": 32}
    inputs |= {"image": torch.rand(1, 32, 40, 3), "seed": 1, "tile_batch": 0, "chain": "stochastic", "steps": 1}
    title = "One-Step Distilled SR, embedded, 40x32"
    bench.run(title, lambda: run_node("AdaptiveSROneStepDistilledSR", one_step_sr=sr, **inputs))


def predictor(bench: Bench) -> None:
    """InvSR's published predictor on a small picture."""
    network = load_predictor(bench).patcher.model
    device = next(network.parameters()).device
    picture = torch.rand(1, 3, 16, 16, device=device, dtype=next(network.parameters()).dtype)
    bench.run("noise predictor, 16x16", lambda: network(picture, torch.tensor([249.0], device=device)))


CASES: tuple[Case, ...] = (embedded, predictor)
