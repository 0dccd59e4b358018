"""One-Step Distilled SR on every published denoiser and autoencoder."""

from __future__ import annotations

from typing import Any

import torch

from .bench import Bench, Case
from .device import run_node
from .regions import DEFAULTS

FILES = {
    "ResShift v1": ("resshift_realsrx4_s15_v1.pth", "resshift_x4", "autoencoder_vq_f4.pth", "vq_f4"),
    "ResShift v2": ("resshift_realsrx4_s15_v2.pth", "resshift_x4", "autoencoder_vq_f4.pth", "vq_f4"),
    "ResShift v3": ("resshift_realsrx4_s4_v3.pth", "resshift_x4", "autoencoder_vq_f4.pth", "vq_f4"),
    "SinSR": ("SinSR_v1.pth", "resshift_x4", "autoencoder_vq_f4.pth", "vq_f4"),
    "TAD-SR": ("TAD-SR.pth", "resshift_x4", "autoencoder_vq_f4.pth", "vq_f4"),
    "ResShift face": ("resshift_faceir_s4.pth", "resshift_face", "ffhq512_vq_f8_dim8_face.pth", "vq_f8_face"),
}


def load(bench: Bench, name: str) -> tuple[Any, ...]:
    """ONE_STEP_SR, MODEL, VAE and info of a published pair of files."""
    denoiser, keys, autoencoder, vq_keys = FILES[name]
    bench.files.put_list("one_step", denoiser, keys)
    bench.files.put_list("autoencoder", autoencoder, vq_keys)
    given = bench.load("AdaptiveSRLoadOneStepSR", model_name=denoiser, autoencoder=autoencoder)
    model, vae = given[1], given[2]
    network = model.model.diffusion_model.network

    def estimate(call: Any) -> float:
        return model.model.memory_required([call.rows, *call.size])

    bench.watch("denoiser", network, estimate=estimate)
    bench.watch_vae(vae)
    return given


def upscale(bench: Bench, name: str, sr: Any, *, size: tuple[int, int] = (512, 512), steps: int = 1) -> None:
    """The node at its defaults on one random picture of (height, width)."""
    title = f"One-Step Distilled SR, {name}, {steps} step{'s' if steps > 1 else ''}, {size[1]}x{size[0]}"
    inputs: dict[str, Any] = {"scale": 4.0, "width": 0, "height": 0, "color_fix": "none", "tile": 256, "overlap": 32}
    inputs |= {"image": torch.rand(1, *size, 3), "seed": 1, "tile_batch": 0, "chain": "stochastic", "steps": steps}
    bench.run(title, lambda: run_node("AdaptiveSROneStepDistilledSR", one_step_sr=sr, **inputs))


def _chains(name: str, *steps: int) -> Case:
    """Runs of published weights by chains of these lengths."""

    def run(bench: Bench) -> None:
        sr = load(bench, name)[0]
        for length in steps:
            upscale(bench, name, sr, steps=length)

    run.__name__ = name.lower().replace(" ", "_").replace("-", "_")
    return run


def odd_size(bench: Bench) -> None:
    """Sides that no tile divides."""
    upscale(bench, "TAD-SR", load(bench, "TAD-SR")[0], size=(301, 517))


def quick(bench: Bench) -> None:
    """TAD-SR on 512 x 512 pixels."""
    upscale(bench, "TAD-SR", load(bench, "TAD-SR")[0])


def as_model(bench: Bench) -> None:
    """ResShift as MODEL in the region sampler."""
    sr, model, *_ = load(bench, "ResShift v3")
    empty = bench.load("AdaptiveSREmptyPrompt", model=model)[0]
    inputs = {"one_step_sr": sr, "positive": empty, "negative": empty, "image": torch.rand(1, 512, 512, 3)}
    positive, negative, latent = bench.load("AdaptiveSRResShiftConditioning", **inputs)
    inputs = {**DEFAULTS, "steps": 4, "cfg": 1.0, "scheduler": "simple", "denoise": 1.0, "tile_size": 0, "overlap": 64}
    inputs |= {"model": model, "positive": positive, "negative": negative, "latent": latent}
    bench.run(
        "Tiled Region Sampler, ResShift v3 as MODEL, 4 steps, 2048x2048",
        lambda: run_node("AdaptiveSRTiledRegionSampler", **inputs),
    )


CASES: tuple[Case, ...] = (
    _chains("ResShift v1", 15, 1),
    _chains("ResShift v2", 15),
    _chains("ResShift v3", 4),
    _chains("SinSR", 1),
    _chains("TAD-SR", 1),
    _chains("ResShift face", 4),
    odd_size,
    as_model,
)
"""All published weights; 15, 4 and 1 steps; an odd size; ResShift in the region sampler."""
