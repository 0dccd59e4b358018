"""Spatial feature modulation: a map of the LR image scales and shifts a normalised map of the denoiser.

StableSR (Wang et al. 2023, section 3.1, eq. 1) writes it as scale and shift alone; the published weights also normalise
first, with a trained affine (as SPADE: Park et al. 2019, eq. 1). Modulation thus replaces a map: with zero weights it is
a normalisation and not the identity. Key names are those of the published weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .layers import Factory, group_norm


@dataclass(frozen=True)
class SpadeShape:
    """Channels of the denoiser's map, of the hidden map and of the encoder's map."""

    channels: int
    hidden: int
    features: int


class SpadeModulation(nn.Module):
    """GN(h) (1 + gamma(s)) + beta(s); `param_free_norm` does have trained weights."""

    def __init__(self, shape: SpadeShape, make: Factory) -> None:
        super().__init__()
        self.param_free_norm = make.norm(shape.channels)
        self.mlp_shared = nn.Sequential(make.conv3(shape.features, shape.hidden), nn.ReLU())
        self.mlp_gamma = make.conv3(shape.hidden, shape.channels)
        self.mlp_beta = make.conv3(shape.hidden, shape.channels)

    def forward(self, h: Tensor, features: Tensor, rows: Tensor | None = None) -> Tensor:
        """h: (B, C, h, w); features: (U, F, h, w) of the same sides, row i of h takes features[rows[i]] (None: U = B).

        Scale and shift are made once for each of the U distinct maps.
        """
        hidden = self.mlp_shared(features)
        gamma, beta = self.mlp_gamma(hidden), self.mlp_beta(hidden)  # (U, C, h, w)
        if rows is not None:
            gamma, beta = gamma[rows], beta[rows]
        return group_norm(self.param_free_norm, h) * (1 + gamma) + beta


def modulate(
    layer: SpadeModulation, h: Tensor, features: Tensor, rows: Tensor | None = None, strength: float = 1.0
) -> Tensor:
    """The branch h of a residual block, from as it is (strength 0) to modulated (1), linearly; the papers only know 1."""
    modulated = layer(h, features, rows)
    return modulated if strength == 1.0 else torch.lerp(h, modulated, strength)


class StableDiffusionBlock(Protocol):
    """Stable Diffusion's residual block, whoever built it."""

    in_layers: Any
    emb_layers: Any
    out_layers: Any
    skip_connection: Any


def modulated_block(
    block: StableDiffusionBlock, x: Tensor, emb: Tensor, modulation: Callable[[Tensor], Tensor]
) -> Tensor:
    """The residual block with its branch modulated before the skip is added (StableSR, section 3.1).

    x: (B, C_in, h, w); emb: (B, D); modulation: of the branch (B, C, h, w).
    """
    h = block.in_layers(x)
    h = block.out_layers(h + block.emb_layers(emb).to(h.dtype)[:, :, None, None])
    return block.skip_connection(x) + modulation(h)
