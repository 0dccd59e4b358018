"""Files of the gain models' training: states, cached trajectories, and weights that Load MMLE + PFJ offers."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from ...models.gain_models import GainModelsInfo
from ...models.state_dict import StateDict
from ..files import GAIN_MODELS
from .files import RunFiles, below_output, states_folder

MMLE_FILES = RunFiles(".mmle-state.safetensors", GAIN_MODELS)
PFJ_FILES = RunFiles(".pfj-state.safetensors", GAIN_MODELS)


def cache_folder() -> Path:
    """Where the trajectories lie; safe to delete."""
    return states_folder() / "trajectories"


def save_gain_models(
    files: RunFiles, name: str, weights: StateDict, info: GainModelsInfo, header: dict[str, str]
) -> tuple[Path, str]:
    """Writes half-precision weights with their meaning; returns the path, and as users see it."""
    path = files.weights_path(name)
    halves = {key: value.detach().to("cpu", torch.float16).contiguous() for key, value in weights.items()}
    save_file(halves, path, metadata={**header, **info.to_metadata()})
    return path, below_output(path)
