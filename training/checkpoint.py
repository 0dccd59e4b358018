"""One object holds everything a resumed run needs, and is stored as one safetensors file with a JSON header."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .atomic import replace_file
from .ema import Ema


@dataclass
class TrainState:
    """Position in the recipe and all tensors that change: parameters, their average, the optimisers' moments."""

    phase: str
    step: int
    images: int
    model: nn.Module
    ema: Ema
    optimizers: tuple[torch.optim.Optimizer, ...]


def _optimizer_tensors(state: TrainState) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for i, optimizer in enumerate(state.optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{index}.{name}": value for name, value in values.items()}
    return tensors


def save_checkpoint(path: Path, state: TrainState, recipe: str) -> None:
    """Writes path atomically; recipe is the resolved configuration as JSON."""
    tensors = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in state.ema.values.items()}
    tensors |= _optimizer_tensors(state)
    header = {"phase": state.phase, "step": state.step, "images": state.images}
    contiguous = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
    about = {"state": json.dumps(header), "recipe": recipe}
    replace_file(path, lambda place: save_file(contiguous, place, metadata=about))


def load_checkpoint(path: Path, state: TrainState, recipe: str) -> None:
    """Fills state in place; ValueError if the file belongs to another recipe."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    if metadata.get("recipe") != recipe:
        raise ValueError(f"{path} was written by another recipe: train into an empty folder or restore its settings")
    header = json.loads(metadata["state"])
    state.phase, state.step, state.images = header["phase"], header["step"], header["images"]
    state.model.load_state_dict(_part(tensors, "model."))
    places = {name: value.device for name, value in state.ema.values.items()}
    state.ema.values = {name: value.to(places[name]) for name, value in _part(tensors, "ema.").items()}
    for i, optimizer in enumerate(state.optimizers):
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(tensors, f"optimizer.{i}.").items():
            index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = value
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
