"""A small StableSR file in the published key layout, for the small checkpoint of `checkpoints` or for any other UNet.

Nothing in it is learned: random encoder and SFT layers, so that the result depends on the LR latent, the timestep and every
tensor of the file. Pictures of the small checkpoint stay pictures: the channels that carry them are not modulated.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from ...models.spade import SpadeShape
from ...models.state_dict import StateDict
from ...models.struct_encoder import EncoderBlock, StructEncoderConfig
from ...models.struct_parts import DENOISER, StructParts, StructPartsConfig
from .checkpoints import WIDTH, small_checkpoint

SMALL_STABLESR = "small_stablesr.safetensors"
FEATURES, HIDDEN = 64, 32
"""Channels of the encoder, two in a group: the norm of a single one would take away what the timestep adds to it."""
PICTURE_BLOCK = "output_blocks.3.0"
"""The residual block of the small checkpoint behind which nothing may be added to the channels of the picture."""


def put_small_stablesr(base: Path, name: str = SMALL_STABLESR, seed: int = 0) -> Path:
    """Writes encoder and SFT layers for the small checkpoint into a host's base directory; returns the path."""
    path = base / "models" / "adaptivesr" / "stablesr" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(stablesr_for_small_checkpoint(seed), path)
    return path


def stablesr_for_small_checkpoint(seed: int = 0) -> StateDict:
    """Every tensor of the small file in float16; the same for the same seed."""
    ends = ".out_layers.3.weight"
    keys = (key for key in small_checkpoint() if key.startswith(DENOISER) and key.endswith(ends))
    blocks = {key.removeprefix(DENOISER).removesuffix(ends): WIDTH for key in keys}
    weights = small_stablesr(blocks, levels=2, seed=seed)
    for name in ("param_free_norm.bias", "mlp_beta.weight", "mlp_beta.bias"):
        weights[f"{DENOISER}{PICTURE_BLOCK}.spade.{name}"][: WIDTH // 32] = 0
    return {key: value.half() for key, value in weights.items()}


def small_stablesr(blocks: Mapping[str, int], levels: int, seed: int = 0) -> StateDict:
    """Published keys of an encoder of so many levels and of SFT layers for residual blocks, channels by name (float32)."""
    per_level = [EncoderBlock(FEATURES, attention=True), EncoderBlock(FEATURES, halves=True)] * levels
    encoder = StructEncoderConfig(4, FEATURES, 4 * FEATURES, tuple(per_level[:-1]), FEATURES)
    shapes = tuple((name, SpadeShape(channels, HIDDEN, FEATURES)) for name, channels in blocks.items())
    network = StructParts(StructPartsConfig(encoder, shapes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            else:
                parameter.copy_(0.1 * noise + (1.0 if name.endswith("weight") else 0.0))
    return network.state_dict()
