"""LPIPS on latents: the metric that InvSR was trained with, from the published file.

Zhang et al. 2018 (LPIPS), eq. 1, with VGG16 trained on latents in place of pictures (Yue et al. 2025, InvSR, section 3.3).
Module and key names are those of the published weights, layer numbers those of VGG16's list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import Factory
from ..state_dict import StateDict

CHANNELS = 4
SLICES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""Numbers of the convolutions of each slice. Only the pool before the last slice is left of VGG16's."""
WIDTHS = (64, 128, 256, 512, 512)
"""Channels of the slices."""
FIRST_KEY = "net.slice1.0.weight"
UNUSED = ("lins.", "scaling_layer.")
"""Beginnings of the published keys that repeat others or belong to pictures."""
EPS = 1e-10


class LatentLPIPS(nn.Module):
    """Distance of two latents by the features of a frozen VGG16 that reads latents."""

    def __init__(
        self,
        widths: Sequence[int] = WIDTHS,
        *,
        operations: Any = nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        make = Factory(operations, device, dtype)
        self.net = nn.Module()
        before = CHANNELS
        for number, (layers, width) in enumerate(zip(SLICES, widths), start=1):
            convolutions = nn.ModuleDict()
            for layer in layers:
                convolutions[str(layer)] = make.conv3(before, width)
                before = width
            self.net.add_module(f"slice{number}", convolutions)
            weights = nn.Module()
            weights.model = nn.ModuleDict({"1": make.conv1(width, 1, bias=False)})
            self.add_module(f"lin{number - 1}", weights)

    def forward(self, latent: Tensor, target: Tensor) -> Tensor:
        """Distances (B,) of scaled latents (B, 4, h, w) of at least 2 x 2 cells."""
        return self.per_layer(latent, target).sum(1)

    def per_layer(self, latent: Tensor, target: Tensor) -> Tensor:
        """The distance in each of the five layers of features, (B, 5)."""
        pairs = zip(self._features(latent), self._features(target))
        return torch.stack([self._distance(index, *pair) for index, pair in enumerate(pairs)], dim=1)

    def _features(self, x: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        for number in range(1, len(SLICES) + 1):
            if number == len(SLICES):
                x = F.max_pool2d(x, 2)
            for layer in self.net.get_submodule(f"slice{number}").children():
                x = layer(x).relu()
            found.append(x)
        return found

    def _distance(self, index: int, a: Tensor, b: Tensor) -> Tensor:
        """Mean over places of the weighted squared difference of unit vectors (LPIPS, eq. 1)."""
        difference = (_unit(a) - _unit(b)).square()
        return self.get_submodule(f"lin{index}.model.1")(difference).mean((1, 2, 3))


def _unit(features: Tensor) -> Tensor:
    # A norm's gradient is not a number where all channels are 0, as behind a ReLU they may be.
    squares = features.square().sum(1, keepdim=True)
    norm = torch.where(squares > 0, squares, 1.0).sqrt() * (squares > 0)
    return features / (norm + EPS)


def own_tensors(sd: StateDict) -> StateDict:
    """The tensors of a published file that the network has."""
    return {key: value for key, value in sd.items() if not key.startswith(UNUSED)}
