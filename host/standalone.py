"""The host without its page, for recipes and benchmarks: checkpoints by path, chains, pictures anywhere, another output folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import comfy.sample
import comfy.samplers
import comfy.sd
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from .files import OWNERS_FOLDERS


def load_checkpoint(path: Path) -> tuple[Any, Any, Any]:
    """MODEL, CLIP (None where the file has none) and VAE of a checkpoint."""
    return comfy.sd.load_checkpoint_guess_config(str(path), output_vae=True, output_clip=True)[:3]


def set_output_folder(path: Path) -> None:
    """Everything that this process writes as the host goes below path."""
    path.mkdir(parents=True, exist_ok=True)
    folder_paths.set_output_directory(str(path.resolve()))


def opened_folder(path: Path | None) -> str:
    """A folder that a command names, as trainings take it: whoever gives the command may open any; "" for None."""
    if path is None:
        return ""
    folder = str(path.resolve())
    os.environ[OWNERS_FOLDERS] = os.pathsep.join(part for part in (os.environ.get(OWNERS_FOLDERS), folder) if part)
    return folder


def euler_chain(
    model: ModelPatcher, noise: Tensor, prompts: Sequence[tuple[list[Any], int]], negative: list[Any], seed: int
) -> Tensor:
    """The latent at the end of a chain of Euler steps without guidance, from pure noise, whose prompt changes on the way.

    prompts are conditionings, each with its number of steps.
    """
    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", sum(steps for _, steps in prompts))
    latent, first = torch.zeros_like(noise), 0
    for prompt, steps in prompts:
        if steps:
            part, euler = sigmas[first : first + steps + 1], comfy.samplers.sampler_object("euler")
            latent = comfy.sample.sample_custom(
                model, noise, 1.0, euler, part, prompt, negative, latent, disable_pbar=True, seed=seed
            )
            noise = torch.zeros_like(noise)  # the next part goes on from this one's latent
        first += steps
    return latent
