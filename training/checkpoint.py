"""One object holds everything a resumed run needs, and is stored as one safetensors file with a JSON header."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    """Fills state in place, once the whole file is read and known to fit; ValueError with a sentence, and state as it was, else."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except Exception as error:  # what a damaged file makes its reader raise
        raise _damaged(path, type(error).__name__) from error
    if metadata.get("recipe") != recipe:
        raise ValueError(
            f"The saved run '{path.name}' was written by another recipe: expected the settings, pictures and model that it had; restore "
            "them, or start anew."
        )
    phase, step, images = _position(path, metadata)
    model, ema = _part(tensors, "model."), _part(tensors, "ema.")
    _check_same(path, model, state.model.state_dict())
    _check_same(path, ema, state.ema.values)
    moments = [
        _moments(path, _part(tensors, f"optimizer.{i}."), optimizer) for i, optimizer in enumerate(state.optimizers)
    ]
    state.phase, state.step, state.images = phase, step, images
    state.model.load_state_dict(model)
    places = {name: value.device for name, value in state.ema.values.items()}
    state.ema.values = {name: value.to(places[name]) for name, value in ema.items()}
    for optimizer, found in zip(state.optimizers, moments):
        optimizer.load_state_dict({"state": found, "param_groups": optimizer.state_dict()["param_groups"]})


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"The saved run '{path.name}' is damaged ({reason}): expected a file as the training writes it; choose another run, or start anew."
    )


def _position(path: Path, metadata: Mapping[str, str]) -> tuple[str, int, int]:
    """Phase, steps and pictures so far, as the header says."""
    try:
        header = json.loads(metadata["state"])
        phase, step, images = header["phase"], header["step"], header["images"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise _damaged(path, "its header cannot be read") from error
    counts = all(isinstance(count, int) and count >= 0 for count in (step, images))
    if not isinstance(phase, str) or not counts:
        raise _damaged(path, "its header holds no position")
    return phase, step, images


def _check_same(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Refuses other names, shapes, kinds of numbers and values that are not finite."""
    other = sorted(found.keys() ^ wanted.keys())
    if other:
        raise _damaged(path, f"{'without' if other[0] in wanted else 'with'} {other[0]}")
    for name, value in found.items():
        expected = wanted[name]
        if value.shape != expected.shape or value.is_floating_point() != expected.is_floating_point():
            raise _damaged(
                path,
                f"{name} is {tuple(value.shape)} {value.dtype} instead of {tuple(expected.shape)} {expected.dtype}",
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise _damaged(path, f"{name} holds NaN or infinite values")


def _moments(
    path: Path, tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> dict[int, dict[str, Tensor]]:
    """An optimiser's moments by the number of their parameter: as many for each, of its shape or single numbers."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, moment = name.partition(".")
        known = index.isdigit() and int(index) < len(parameters)
        if not known or (value.ndim and value.shape != parameters[int(index)].shape):
            raise _damaged(path, f"the moment {name[:80]} belongs to no parameter")
        if not bool(torch.isfinite(value).all()):
            raise _damaged(path, f"the moment {name[:80]} holds NaN or infinite values")
        moments.setdefault(int(index), {})[moment] = value
    if len({frozenset(values) for values in moments.values()}) > 1:
        raise _damaged(path, "some parameters lack moments that others have")
    return moments


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
