"""Tiny random models and small prompts for the tests that run in a host."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from ...models.noise_predictor import NoisePredictor, NoisePredictorConfig
from ...models.pixel_denoiser import PixelDenoiser, PixelDenoiserConfig
from ..env.client import Client, Prompt

TINY = PixelDenoiserConfig(channels=8, blocks=1, refine_channels=8, feature_channels=4, time_channels=8, num_steps=15)
PREDICTOR = NoisePredictorConfig(
    (64, 128), (1, 1), sinusoid_dim=128, time_channels=64, out_channels=8, mid_attention=True
)
TINY_PREDICTOR = "tiny_noise_predictor.safetensors"
STUDENT, TEACHER, BROKEN = "tiny_student.safetensors", "tiny_teacher.safetensors", "broken.safetensors"


def put_tiny_models(base: Path) -> None:
    """A random student and teacher of the embedded architecture, and a truncated file, into a host's model folder."""
    folder = base / "models" / "adaptivesr" / "one_step"
    folder.mkdir(parents=True)
    for name, one_step in ((STUDENT, 1.0), (TEACHER, 0.0)):
        network = PixelDenoiser(TINY)
        generator = torch.Generator().manual_seed(int(one_step))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_(0, 0.05, generator=generator)
            network.one_step.fill_(one_step)
        save_file(network.state_dict(), folder / name)
    put_tiny_noise_predictor(base)
    whole = (folder / STUDENT).read_bytes()
    (folder / BROKEN).write_bytes(whole[: len(whole) // 2])


def put_tiny_noise_predictor(base: Path, name: str = TINY_PREDICTOR, seed: int = 0) -> Path:
    """Writes `tiny_noise_predictor` into a host's base directory; returns its path."""
    path = base / "models" / "adaptivesr" / "noise_predictor" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tiny_noise_predictor(seed), path)
    return path


def tiny_noise_predictor(seed: int = 0) -> dict[str, torch.Tensor]:
    """A random noise predictor of the published layout, smaller, whose noise is about standard normal."""
    network = NoisePredictor(PREDICTOR)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
            else:
                parameter.fill_(1.0 if "norm" in key and key.endswith("weight") else 0.0)
        network.encoder.conv_out.weight *= 0.2
    return network.state_dict()


def default_inputs(info: dict[str, Any], class_type: str) -> dict[str, Any]:
    """What the widgets of a fresh node hold, from the host's /object_info."""
    values: dict[str, Any] = {}
    for name, (kind, *options) in info[class_type]["input"].get("required", {}).items():
        settings = options[0] if options else {}
        choices = kind if isinstance(kind, list) else settings.get("options")
        if "default" in settings:
            values[name] = settings["default"]
        elif choices:
            values[name] = choices[0]
    return values


def one_step_prompt(client: Client, image: str, model: str = STUDENT, **inputs: Any) -> Prompt:
    """Load model and picture, upscale with the node's defaults but for `inputs`, save."""
    info = client.object_info()
    load = {**default_inputs(info, "AdaptiveSRLoadOneStepSR"), "model_name": model}
    upscale = {**default_inputs(info, "AdaptiveSROneStepDistilledSR"), "one_step_sr": ["load", 0]}
    return {
        "load": {"class_type": "AdaptiveSRLoadOneStepSR", "inputs": load},
        "photo": {"class_type": "LoadImage", "inputs": {"image": image}},
        "upscale": {
            "class_type": "AdaptiveSROneStepDistilledSR",
            "inputs": {**upscale, "image": ["photo", 0], **inputs},
        },
        "save": {"class_type": "SaveImage", "inputs": {"images": ["upscale", 0], "filename_prefix": "adaptivesr"}},
    }


def fetch_pixels(client: Client, entry: dict[str, str]) -> np.ndarray:
    """A picture that the host saved, as (H, W, C) bytes."""
    return np.asarray(Image.open(io.BytesIO(client.image(entry))))
