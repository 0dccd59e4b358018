"""Tiled Region Sampler on the host's models."""

from __future__ import annotations

from typing import Any

import torch

from .bench import Bench
from .device import run_node
from .sd import load_model, text, unet_weights

STEPS = 2
DEFAULTS: dict[str, Any] = {
    "seed": 1,
    "steps": STEPS,
    "cfg": 6.0,
    "sampler_name": "euler",
    "scheduler": "normal",
    "denoise": 0.35,
    "tile_size": 512,
    "overlap": 128,
    "merge_mode": "consensus",
}


def sample(bench: Bench, title: str, model: Any, latent: Any, **changes: Any) -> Any:
    """One run of the node, what it gave."""
    inputs: dict[str, Any] = {
        **DEFAULTS,
        "model": model,
        "positive": text(model),
        "negative": text(model),
        "latent": latent,
        **changes,
    }
    return bench.run(
        f"Tiled Region Sampler, {title}",
        lambda: run_node("AdaptiveSRTiledRegionSampler", **inputs),
        steps=inputs["steps"],
    )


def unet_model(bench: Bench, name: str) -> Any:
    """A MODEL that is watched."""
    model = load_model(unet_weights(bench.recorder, name, bench.half))
    bench.watch_model("UNet", model)
    return model


def sd21(bench: Bench) -> None:
    """SD 2.1, 2048 x 2048."""
    model = unet_model(bench, "SD 2.1")
    sample(bench, "SD 2.1, 2048x2048", model, {"samples": torch.randn(1, 4, 256, 256)})
    bench.clear()


def masks_and_areas(bench: Bench) -> None:
    """SD 1.5 with a noise mask, a prompt in an area, one under a mask and one in a part of the schedule; an odd size."""
    model = unet_model(bench, "SD 1.5")
    latent = {"samples": torch.randn(1, 4, 93, 131), "noise_mask": torch.rand(1, 1, 744, 1048)}
    (words, _), mask = text(model)[0], torch.rand(1, 93, 131)
    positive = [
        [words, {"area": (40, 60, 8, 16), "strength": 1.0}],
        [words, {"mask": mask, "mask_strength": 1.0, "set_area_to_bounds": False}],
        [words, {"start_percent": 0.0, "end_percent": 0.5}],
    ]
    sample(bench, "SD 1.5, masks and areas, 1048x744", model, latent, positive=positive)
    sample(
        bench,
        "SD 1.5, euler_ancestral, final, 1048x744",
        model,
        latent,
        sampler_name="euler_ancestral",
        merge_mode="final",
    )
    bench.clear()


def sdxl(bench: Bench) -> None:
    """SDXL, 2048 x 2048 in regions of 1024."""
    model = unet_model(bench, "SDXL")
    sample(bench, "SDXL, 2048x2048", model, {"samples": torch.randn(1, 4, 256, 256)}, tile_size=1024)
    bench.clear()


def run(bench: Bench) -> None:
    """Every model of UNet shape."""
    sd21(bench)
    masks_and_areas(bench)
    sdxl(bench)
