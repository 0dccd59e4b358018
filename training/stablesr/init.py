"""Where StableSR's encoder and SFT layers start when no file is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from ...models.layers import zero_weights
from ...models.spade import SpadeShape
from ...models.struct_encoder import EncoderAttention, EncoderBlock, StructEncoder, StructEncoderConfig, TimedBlock
from ...models.struct_parts import StructParts, StructPartsConfig
from .config import PAPER, SMALL, TINY

MULTIPLES = (1, 1, 2, 2)
"""Widths of the published encoder's levels; its last level has no attention."""
WIDTHS = {PAPER: (256, 128, 2), SMALL: (64, 32, 1), TINY: (32, 16, 1)}
"""Channels of the encoder, hidden channels of the SFT layers, and residual blocks of a level."""


def parts_config(channels: Mapping[str, int], levels: int, size: str, in_channels: int = 4) -> StructPartsConfig:
    """Sizes for a denoiser's residual blocks (channels by name) on so many levels: the published ones, or small ones."""
    paper = size == PAPER
    width, hidden, repeats = WIDTHS[size]
    blocks: list[EncoderBlock] = []
    for level in range(levels):
        wide = width * (MULTIPLES[min(level, len(MULTIPLES) - 1)] if paper else 1)
        if level:
            blocks.append(EncoderBlock(blocks[-1].channels, halves=True))
        attention = level < levels - 1 or levels == 1
        blocks += [EncoderBlock(wide, attention=attention)] * repeats
    encoder = StructEncoderConfig(in_channels, width, 4 * width, tuple(blocks), width)
    return StructPartsConfig(encoder, tuple((name, SpadeShape(c, hidden, width)) for name, c in channels.items()))


@torch.no_grad()
def initialise(parts: StructParts, generator: torch.Generator) -> None:
    """Torch's own spread of weights, biases of zero and norms of one, with the last layers of the encoder's branches at zero."""
    for name, parameter in parts.named_parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_uniform_(parameter, a=5**0.5, generator=generator)
        else:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    silence_branches(parts.encoder)


@torch.no_grad()
def silence_branches(encoder: StructEncoder) -> None:
    """Zeroes the last convolution of every residual block and attention, as the public code starts."""
    for module in encoder.modules():
        if isinstance(module, TimedBlock):
            zero_weights(module.out_layers[-1])
        elif isinstance(module, EncoderAttention):
            zero_weights(module.proj_out)


@torch.no_grad()
def start_near_base(parts: StructParts, branches: Mapping[str, Tensor]) -> None:
    """Lets every SFT layer give back, on average, what it gets (ours): scale and shift zero, the norm's affine as the branch.

    branches: by the block's name, outputs (B, C, h, w) of the bare base's branches on noised pictures. The layer normalises
    its input, so that with weight 1 and bias 0 the frozen base would start from branches of another size.
    """
    for name, layer in parts.modulations().items():
        zero_weights(layer.mlp_gamma)
        zero_weights(layer.mlp_beta)
        norm = cast("nn.GroupNorm", layer.param_free_norm)
        grouped = branches[name].float().flatten(2).unflatten(1, (norm.num_groups, -1)).flatten(2)  # (B, G, C / G h w)
        size, share = norm.num_channels // norm.num_groups, grouped.var(2, unbiased=False).mean(0)
        norm.weight.copy_((share + norm.eps).sqrt().repeat_interleave(size))
        norm.bias.copy_(grouped.mean(2).mean(0).repeat_interleave(size))
