"""TIME_AWARE_ADAPTER: the adapters of a network with the patcher by which the host moves them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import comfy.utils
from torch import Tensor

from ...models import registry
from ...models.state_dict import StateDict, check_fit
from ...models.time_aware_adapter import TimeAwareAdapters

OPERATIONS = comfy.ops.manual_cast
"""Layers that follow the dtype of the UNet's features."""


@dataclass(frozen=True)
class TimeAwarePart:
    """What TIME_AWARE_ADAPTER carries."""

    patcher: Any
    label: str

    @property
    def network(self) -> TimeAwareAdapters:
        """The adapters themselves."""
        return cast("TimeAwareAdapters", self.patcher.model)

    def is_dynamic(self) -> bool:
        """Asked by the host's cache."""
        return self.patcher.is_dynamic()


def adapter_part(identified: registry.Identified, weights: StateDict) -> TimeAwarePart:
    """The part made of an identified canonical state dict, loaded strictly."""
    fitting = check_fit(registry.build(identified, device="meta"), weights)
    device = mm.get_torch_device()
    dtype = mm.unet_dtype(
        device=device,
        model_params=comfy.utils.calculate_parameters(fitting),
        weight_dtype=comfy.utils.weight_dtype(fitting),
    )
    network = registry.build(identified, operations=OPERATIONS, device=mm.unet_offload_device(), dtype=dtype).eval()
    patcher = comfy.model_patcher.CoreModelPatcher(network, load_device=device, offload_device=mm.unet_offload_device())
    network.load_state_dict(fitting, strict=True, assign=patcher.is_dynamic())
    return TimeAwarePart(patcher, identified.label)


def adapter_part_from_weights(weights: dict[str, Tensor]) -> TimeAwarePart:
    """The part of plain weights, for example those that a training has just made."""
    return adapter_part(registry.identify(weights), {key: value.detach() for key, value in weights.items()})
