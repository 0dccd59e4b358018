"""From the tensors of a file to a network of the host's layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import comfy.model_management as mm
import comfy.model_patcher
import torch

from ..models import registry
from ..models.state_dict import StateDict, UnsupportedModelError, check_fit
from .resshift.patchers import OPERATIONS, host_attention


def identify_file(weights: StateDict, name: str, expected: Mapping[str, str]) -> registry.Identified:
    """What the file `name` holds; UnsupportedModelError names the file when that is none of the kinds that `expected` describes."""
    try:
        identified = registry.identify(weights)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"'{name}': {error}") from error
    if identified.kind not in expected:
        raise UnsupportedModelError(
            f"'{name}' is of another kind ({identified.label}): expected {' or '.join(expected.values())}; "
            "move the file to the folder of its kind."
        )
    return identified


def build_network(
    weights: StateDict, device: torch.device, dtype_of: Callable[[StateDict], torch.dtype | None]
) -> tuple[torch.nn.Module, StateDict]:
    """A network of the host's layers and the tensors to load into it, which are known to fit."""
    identified = registry.identify(weights)
    # Checked on a plain copy without memory: the host's layers may have no weights before they are loaded.
    fitting = check_fit(registry.build(identified, device="meta"), weights)
    network = registry.build(
        identified, operations=OPERATIONS, device=device, dtype=dtype_of(fitting), attention=host_attention
    )
    return network, fitting


def network_patcher(network: torch.nn.Module, weights: StateDict, *, disable_dynamic: bool = False) -> Any:
    """A patcher of a network that goes along with a MODEL; the weights are loaded strictly."""
    network.requires_grad_(False).eval()
    mm.archive_model_dtypes(network)
    kind = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = kind(network, load_device=mm.get_torch_device(), offload_device=mm.unet_offload_device())
    network.load_state_dict(weights, strict=True, assign=patcher.is_dynamic())
    return patcher
