"""From a model file to a network that the host moves: identify, build out of the host's layers, put into a patcher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

import comfy.model_management as mm
import comfy.ops
import comfy.utils
import torch
from comfy.latent_formats import LatentFormat
from comfy.ldm.modules.attention import attention_pytorch, optimized_attention
from comfy.model_base import BaseModel
from comfy.model_patcher import CoreModelPatcher, ModelPatcher
from torch import Tensor, nn

from ..models import registry
from ..models.registry import Identified
from ..models.state_dict import StateDict, UnsupportedModelError, check_fit
from . import files

Config = TypeVar("Config")

OPERATIONS = comfy.ops.manual_cast
"""Layers that follow the dtype of their input, so that a tile can be repeated in float32."""


@dataclass(frozen=True)
class Loaded:
    """What a loader's output carries: networks in the patcher by which the host moves them."""

    patcher: ModelPatcher

    def is_dynamic(self) -> bool:
        """Answers the host's cache."""
        return self.patcher.is_dynamic()


def base_model(model: ModelPatcher) -> BaseModel:
    """Gives the host's model that a MODEL's patcher moves."""
    return cast("BaseModel", model.model)


def latent_format(model: ModelPatcher) -> LatentFormat:
    """Gives the format of the latents that a MODEL samples."""
    return cast("LatentFormat", model.get_model_object("latent_format"))


def host_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Runs the host's optimised attention on (B, heads, L, d); with a mask PyTorch's.

    Some of the host's choices (SageAttention) know no masks and have dropped them, and with them a network's position biases.
    """
    attend = optimized_attention if mask is None else attention_pytorch
    return attend(q, k, v, heads=q.shape[1], mask=mask, skip_reshape=True, skip_output_reshape=True)


def network_dtype(weights: StateDict) -> torch.dtype:
    """Asks the host for the storage type of a network."""
    return mm.unet_dtype(
        device=mm.get_torch_device(),
        model_params=comfy.utils.calculate_parameters(weights),
        weight_dtype=comfy.utils.weight_dtype(weights),
    )


def network_devices() -> tuple[torch.device, torch.device]:
    """Gives the host's devices for running and for storing a denoiser."""
    return mm.get_torch_device(), mm.unet_offload_device()


def identify_file(weights: StateDict, name: str, expected: Mapping[type[Config], str]) -> Identified[Config]:
    """Tells what the file `name` holds; UnsupportedModelError names the file when that is none of the expected kinds."""
    try:
        identified = registry.identify(weights)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"'{name}': {error}") from error
    if not isinstance(identified.config, tuple(expected)):
        raise UnsupportedModelError(
            f"'{name}' is of another kind ({identified.label}): expected {' or '.join(expected.values())}; "
            "move the file to the folder of its kind."
        )
    return cast("Identified[Config]", identified)


def build_network(
    weights: StateDict, device: torch.device, dtype_of: Callable[[StateDict], torch.dtype | None]
) -> tuple[nn.Module, StateDict]:
    """Builds a network of the host's layers and gives the tensors to load into it, which are known to fit."""
    identified = registry.identify(weights)
    # Checked on a plain copy without memory: the host's layers may have no weights before they are loaded.
    fitting = check_fit(registry.sketch(identified), weights)
    network = registry.build(
        identified, operations=OPERATIONS, device=device, dtype=dtype_of(fitting), attention=host_attention
    )
    return network, fitting


def network_patcher(
    network: nn.Module,
    weights: StateDict,
    *,
    model: nn.Module | None = None,
    devices: tuple[torch.device, torch.device] | None = None,
    disable_dynamic: bool = False,
) -> ModelPatcher:
    """Puts a network, or the model around it, into a patcher and loads the network's weights strictly."""
    network.requires_grad_(False).eval()
    mm.archive_model_dtypes(network)
    load, offload = devices or network_devices()
    kind = ModelPatcher if disable_dynamic else CoreModelPatcher
    patcher = kind(network if model is None else model, load_device=load, offload_device=offload)
    network.load_state_dict(weights, strict=True, assign=patcher.is_dynamic())
    return patcher


@dataclass(frozen=True)
class Recipe:
    """How the networks of one kind of file are held: their tensors in the file, storage type, devices, model around them."""

    select: Callable[[StateDict], StateDict] = dict
    dtype: Callable[[StateDict], torch.dtype | None] = network_dtype
    devices: Callable[[], tuple[torch.device, torch.device]] = network_devices
    model: Callable[[nn.Module, StateDict], nn.Module | None] = lambda network, weights: None


def file_patcher(
    path: str, recipe: Recipe, *, weights: StateDict | None = None, disable_dynamic: bool = False
) -> ModelPatcher:
    """Makes the patcher of a file; the host calls it again, without weights, when it needs an unshared copy."""
    chosen = recipe.select(files.load_file(path) if weights is None else weights)
    load, offload = recipe.devices()
    network, fitting = build_network(chosen, offload, recipe.dtype)
    model = recipe.model(network, fitting)
    patcher = network_patcher(network, fitting, model=model, devices=(load, offload), disable_dynamic=disable_dynamic)
    patcher.cached_patcher_init = (file_patcher, (path, recipe))
    return patcher
