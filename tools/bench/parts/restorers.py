"""What the embedded benchmark compares: weight-free enlargers and the embedded networks, all LR in, HR out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from ....imaging.resize import bicubic_upsample, resize
from ....models import registry
from ....models.pixel_autoencoder import PixelAutoencoder
from ....models.pixel_denoiser import ResidualDenoiser, upsampled_latent
from ....sampling.noise import gaussian_field
from ....sampling.samplers import Denoise, sample_ancestral, sample_deterministic, sample_one_step
from ....sampling.schedules import ResidualShiftSchedule, shorten
from ....training.tad_sr.base import schedule_of

Restorer = Callable[[Tensor], Tensor]  # (1, 3, h, w) in [0, 1] to (1, 3, 4h, 4w) in [0, 1]
Chain = Callable[[Denoise, Tensor, ResidualShiftSchedule, Tensor], Tensor]
ROOT = Path(__file__).resolve().parents[3]
WEIGHTS = {
    "regression": ROOT / "tools" / "bench" / "baselines" / "embedded_regression.safetensors",
    "teacher": ROOT / "models" / "weights" / "embedded_teacher.safetensors",
    "student": ROOT / "models" / "weights" / "embedded_student.safetensors",
    "one step": ROOT / "models" / "weights" / "embedded_one_step.safetensors",
}
SEED = 0
codec = PixelAutoencoder()


def bicubic(lr: Tensor) -> Tensor:
    return bicubic_upsample(lr, 4).clamp(0, 1)


def lanczos(lr: Tensor) -> Tensor:
    """Pillow's Lanczos-3."""
    array = (lr[0].permute(1, 2, 0) * 255).round().byte().numpy()
    large = Image.fromarray(array).resize((array.shape[1] * 4, array.shape[0] * 4), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(large)).permute(2, 0, 1)[None].float() / 255


def back_projection(lr: Tensor, rounds: int = 10) -> Tensor:
    """Bicubic, then `rounds` times adds the enlarged error of its own reduction (Irani & Peleg 1991); no weights."""
    image = bicubic_upsample(lr, 4)
    for _ in range(rounds):
        image = image + bicubic_upsample(lr - resize(image, lr.shape[-2], lr.shape[-1]), 4)
    return image.clamp(0, 1)


def load_denoiser(path: Path) -> ResidualDenoiser:
    """An embedded network from its file, in float32."""
    tensors = load_file(path)
    model = cast("ResidualDenoiser", registry.build(registry.identify(tensors)))
    model.load_state_dict(tensors)
    return model.eval().requires_grad_(False)


def network_restorer(model: ResidualDenoiser, chain: Chain) -> Restorer:
    """A restorer that runs chain on the model with the fixed seed's noise."""

    def restore(lr: Tensor) -> Tensor:
        lq = lr * 2 - 1
        y = upsampled_latent(lq)
        noise = gaussian_field(y.shape[1:], seed=SEED)[None]
        with torch.inference_mode():
            z = chain(lambda x, t: model(x, t, lq), y, schedule_of(model), noise)
        return ((codec.decode(z) + 1) / 2).clamp(0, 1)

    return restore


def without_noise(denoise: Denoise, y: Tensor, schedule: ResidualShiftSchedule, noise: Tensor) -> Tensor:
    """The regression's single call: x_T = y."""
    return sample_one_step(denoise, y, schedule, torch.zeros_like(noise))


def deterministic(steps: int) -> Chain:
    return lambda denoise, y, schedule, noise: sample_deterministic(denoise, y, shorten(schedule, steps), noise)


def ancestral(steps: int) -> Chain:
    def chain(denoise: Denoise, y: Tensor, schedule: ResidualShiftSchedule, noise: Tensor) -> Tensor:
        def step_noise(i: int) -> Tensor:
            return gaussian_field(y.shape[1:], seed=SEED, step=i + 1)[None]

        return sample_ancestral(denoise, y, shorten(schedule, steps), noise, step_noise)

    return chain


def weight_free() -> dict[str, Restorer]:
    return {"bicubic": bicubic, "Lanczos-3": lanczos, "back-projection x10": back_projection}


def embedded(chains: tuple[int, ...] = (4, 15)) -> dict[str, Restorer]:
    """Restorers of the files that exist."""
    found: dict[str, Restorer] = {}
    models = {name: load_denoiser(path) for name, path in WEIGHTS.items() if path.exists()}
    if "regression" in models:
        found["regression, same size"] = network_restorer(models["regression"], without_noise)
    if "teacher" in models:
        found["teacher, 1 step"] = network_restorer(models["teacher"], sample_one_step)
        for steps in chains:
            found[f"teacher, {steps} steps deterministic"] = network_restorer(models["teacher"], deterministic(steps))
            found[f"teacher, {steps} steps ancestral"] = network_restorer(models["teacher"], ancestral(steps))
    if "student" in models:
        found["student, 1 step (v1)"] = network_restorer(models["student"], sample_one_step)
    if "one step" in models:
        found["one step (v2, default)"] = network_restorer(models["one step"], sample_one_step)
    return found
