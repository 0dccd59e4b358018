"""The start of a ControlNet that reads a latent: its UNet's encoder, silent at first (DiffBIR, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

FIRST = "input_blocks.0.0.weight"
SILENT = ("zero_convs.", "middle_block_out.")


def controlnet_from_unet(unet: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """A state dict of the ControlNet's keys and shapes: equal tensors copied, the condition's inputs and outputs zero.

    The UNet's keys have no prefix. ValueError if a tensor is neither in the UNet nor one of the ControlNet's own.
    """
    made: dict[str, Tensor] = {}
    for key, shape in shapes.items():
        source = unet.get(key)
        if key.startswith(SILENT):
            made[key] = torch.zeros(shape)
        elif key == FIRST and source is not None and source.shape[0] == shape[0]:
            zeros = torch.zeros(shape[0], shape[1] - source.shape[1], *shape[2:])
            made[key] = torch.cat([source.detach().float().cpu(), zeros], dim=1)
        elif source is not None and source.shape == shape:
            made[key] = source.detach().float().cpu().clone()
        else:
            found = "nothing" if source is None else str(tuple(source.shape))
            raise ValueError(
                f"The ControlNet's {key} of {tuple(shape)} cannot start from this model, which has {found} there: expected a "
                "ControlNet of the model's own sizes."
            )
    return made
