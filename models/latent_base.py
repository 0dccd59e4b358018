"""The embedded base: a small network in the layout of Stable Diffusion 2's UNet, on rearranged pixels (`pixel_autoencoder`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .latent_control import EMBEDDED_CHANNELS

LATENT_SCALE = 2.0
"""Rearranged pixels in [-1, 1] times this have about unit variance."""
CONTEXT_DIM = 64
"""Width of a prompt, which is all zeros: the base knows no text."""

SIZES: Mapping[str, Any] = {
    "model_channels": 64,
    "channel_mult": (1, 1),
    "num_res_blocks": 2,
    "attention_factors": (2,),
    "middle_transformer": -1,
    "num_head_channels": 64,
    "context_dim": CONTEXT_DIM,
    "in_channels": EMBEDDED_CHANNELS,
}
"""Of the UNet (`host.networks.UNetShape`): 1.9 M parameters."""
