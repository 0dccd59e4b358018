"""Super Resolution (InvSR) by 1 and 5 steps, both orders, and InvSR Noise for the host's samplers."""

from __future__ import annotations

from typing import Any

import torch

from .bench import Bench, Case
from .device import run_node
from .regions import canvas, unet_model
from .sd import load_vae, text

PREDICTOR = "noise_predictor_sd_turbo_v5.pth"


def load_predictor(bench: Bench) -> Any:
    """NOISE_PREDICTOR of the published list of keys."""
    bench.files.put_list("noise_predictor", PREDICTOR, "noise_predictor")
    loaded = bench.load("AdaptiveSRLoadNoisePredictor", model_name=PREDICTOR)[0]
    bench.watch_own("noise predictor", loaded.patcher.model, factor=loaded.config.factor, marks=False)
    return loaded


def upscale(bench: Bench, title: str, *, size: tuple[int, int], steps: int, **changes: Any) -> None:
    """Super Resolution (InvSR) of a random picture of (width, height)."""
    width, height = size
    model, vae, predictor = unet_model(bench, "SD 2.1"), load_vae(bench.recorder), load_predictor(bench)
    bench.watch_vae(vae)
    inputs = {
        "model": model,
        "positive": text(model),
        "negative": text(model),
        "vae": vae,
        "noise_predictor": predictor,
    }
    inputs |= {"image": torch.rand(1, height, width, 3), "steps": steps, "taus": "", "seed": 1, **changes}
    bench.run(
        f"Super Resolution (InvSR), {title}, {width}x{height} to {4 * width}x{4 * height}",
        lambda: run_node("AdaptiveSRInvSRUpscale", **inputs),
    )


def one_step(bench: Bench) -> None:
    upscale(bench, "1 step", size=(512, 512), steps=1)


def five_steps(bench: Bench) -> None:
    upscale(bench, "5 steps, cfg 4", size=(301, 205), steps=5, cfg=4.0)


def chopped(bench: Bench) -> None:
    upscale(bench, "5 steps, pixel chop", size=(200, 150), steps=5, mode="pixel chop")


def noise(bench: Bench) -> None:
    """InvSR Noise, whose noise is drawn."""
    model, predictor = unet_model(bench, "SD 2.1"), load_predictor(bench)
    latent = canvas(2048, 2048)
    inputs = {"noise_predictor": predictor, "model": model, "lr_image": torch.rand(1, 512, 512, 3), "lr_latent": latent}

    def run() -> None:
        predicted = run_node("AdaptiveSRInvSRNoise", **inputs, steps=5, taus="", seed=1)[0]
        predicted.generate_noise(latent)

    bench.run("InvSR Noise, 512x512 to 2048x2048", run)


def quick(bench: Bench) -> None:
    """A small picture of odd sides in one step."""
    upscale(bench, "1 step", size=(139, 163), steps=1)


CASES: tuple[Case, ...] = (one_step, five_steps, chopped, noise)
