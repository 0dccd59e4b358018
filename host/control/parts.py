"""TIME_AWARE_ADAPTER: the adapters of a network with the patcher by which the host moves them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import comfy.model_management as mm

from ...models.state_dict import StateDict
from ...models.time_aware_adapter import TimeAwareAdapters, TimeAwareAdaptersConfig
from ..loading import Loaded, build_network, identify_file, network_dtype, network_patcher


@dataclass(frozen=True)
class TimeAwarePart(Loaded):
    """What TIME_AWARE_ADAPTER carries."""

    label: str

    @property
    def network(self) -> TimeAwareAdapters:
        """The adapters themselves."""
        return cast("TimeAwareAdapters", self.patcher.model)


def adapter_part(weights: StateDict, name: str) -> TimeAwarePart:
    """The part of a canonical state dict, loaded strictly; errors name the file that it comes from."""
    identified = identify_file(weights, name, {TimeAwareAdaptersConfig: "adapters"})
    return TimeAwarePart(
        network_patcher(*build_network(weights, mm.unet_offload_device(), network_dtype)), identified.label
    )


def adapter_part_from_weights(weights: StateDict) -> TimeAwarePart:
    """The part of plain weights, for example those that a training has just made."""
    return adapter_part({key: value.detach() for key, value in weights.items()}, "adapters")
