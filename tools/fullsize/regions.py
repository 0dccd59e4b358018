"""Tiled Region Sampler on the host's models."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .bench import Bench, Case
from .device import run_node
from .sd import apply_control, dit_weights, load_controlnet, load_model, text, unet_weights

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
    )


def unet_model(bench: Bench, name: str, *, beside: nn.Module | None = None, **options: Any) -> Any:
    """A MODEL that is watched; beside: a network of this pack that runs inside of its calls."""
    model = load_model(unet_weights(bench.recorder, name, bench.half, **options))
    bench.watch_model("UNet", model, beside)
    return model


def canvas(width: int, height: int, channels: int = 4) -> dict[str, Tensor]:
    """LATENT of a picture of that size."""
    return {"samples": torch.randn(1, channels, height // 8, width // 8)}


def sd21(bench: Bench) -> None:
    """SD 2.1, 2048 x 2048."""
    model = unet_model(bench, "SD 2.1")
    sample(bench, "SD 2.1, 2048x2048", model, {"samples": torch.randn(1, 4, 256, 256)})


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


def sdxl(bench: Bench) -> None:
    """SDXL, 2048 x 2048 in regions of 1024."""
    model = unet_model(bench, "SDXL")
    sample(bench, "SDXL, 2048x2048", model, {"samples": torch.randn(1, 4, 256, 256)}, tile_size=1024)


def controlled(bench: Bench) -> None:
    """SD 1.5 under a tile ControlNet, whole and in a part of the schedule; an odd size."""
    model = unet_model(bench, "SD 1.5")
    control = load_controlnet(bench.recorder, "SD 1.5", bench.half)
    bench.watch("ControlNet", control.control_model, marks=False)
    for name, share in (("", 1.0), (" until 40 %", 0.4)):
        both = apply_control((text(model), text(model)), control, torch.rand(1, 744, 1048, 3), end_percent=share)
        sample(
            bench,
            f"SD 1.5, tile ControlNet{name}, 1048x744",
            model,
            canvas(1048, 744),
            positive=both[0],
            negative=both[1],
        )


def sd3(bench: Bench) -> None:
    """SD3-medium, 2048 x 2048 in regions of 1024."""
    model = load_model(dit_weights(bench.recorder, "SD3-medium", bench.half))
    bench.watch_model("MMDiT", model)
    words = {"positive": text(model, tokens=154), "negative": text(model, tokens=154)}
    sample(bench, "SD3-medium, 2048x2048", model, canvas(2048, 2048, 16), tile_size=1024, scheduler="simple", **words)


def flux(bench: Bench) -> None:
    """Flux dev, 2048 x 2048 in regions of 1024, without guidance by a second prompt, which it was distilled to do without."""
    model = load_model(dit_weights(bench.recorder, "Flux dev", bench.half))
    bench.watch_model("Flux", model)
    words = {"positive": text(model, tokens=256), "negative": text(model, tokens=256)}
    sample(
        bench,
        "Flux dev, 2048x2048",
        model,
        canvas(2048, 2048, 16),
        tile_size=1024,
        cfg=1.0,
        scheduler="simple",
        **words,
    )


CASES: tuple[Case, ...] = (sd21, masks_and_areas, sdxl, controlled, sd3, flux)
"""Every kind of model."""
