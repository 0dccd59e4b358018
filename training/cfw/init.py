"""Where CFW's fusion layers start when no file is given."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ...models.cfw import CFW, RRDB, CFWConfig, FuseBlock, FuseConfig
from ...models.layers import zero_weights
from ...models.vq_blocks import VQResnetBlock
from ..checkpointing import recompute
from .config import FRESH, SIZES


def fusion_config(widths: Sequence[tuple[int, int]], size: str) -> CFWConfig:
    """Fusion blocks for an autoencoder's (encoder, decoder) channels at half and at a quarter of the picture."""
    growth, blocks = SIZES[size]
    half, quarter = (FuseConfig(*pair, growth, blocks) for pair in widths)
    return CFWConfig((half, quarter))


def fresh_cfw(config: CFWConfig, start: str, generator: torch.Generator) -> CFW:
    """Torch's own spread of weights, biases of zero and norms of one; unless FRESH, silent."""
    cfw = CFW(config)
    with torch.no_grad():
        for name, parameter in cfw.named_parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_uniform_(parameter, a=5**0.5, generator=generator)
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    if start != FRESH:
        silence(cfw)
    return cfw


@torch.no_grad()
def silence(cfw: CFW) -> None:
    """Zeroes what a fusion block adds, so that the first pictures are the VAE's own (ours).

    The block's end has a skip, so that its first layers give zero; the last convolution too, whose norm would make much of little.
    """
    for block in cfw.modules():
        if isinstance(block, FuseBlock):
            for layer in (block.encode_enc_1.conv2, block.encode_enc_1.conv_out, block.encode_enc_3.conv2):
                zero_weights(layer)  # type: ignore[arg-type]


def save_memory(cfw: CFW) -> None:
    """Gradient checkpointing of the blocks inside of the fusion."""
    recompute(module for module in cfw.modules() if isinstance(module, (RRDB, VQResnetBlock)))
