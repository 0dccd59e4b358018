"""A restoration network of the host (UPSCALE_MODEL) as the cleaner of training conditions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import comfy.model_management as mm
import torch
from torch import Tensor

from ...imaging.resize import resize
from .networks import weights_digest


def cleaner_of(model: Any, side: int) -> tuple[Callable[[Tensor], Tensor] | None, str]:
    """What cleans conditions (B, 3, side, side) in [0, 1], and how a run's file names it; nothing where nothing is connected.

    A network that enlarges s times gets the condition reduced by s, as TASR's public code gives SwinIR and BSRNet the small picture.
    """
    if model is None:
        return None, ""
    network, scale = getattr(model, "model", None), int(getattr(model, "scale", 0))
    takes_rgb = getattr(model, "input_channels", 3) == 3 == getattr(model, "output_channels", 3)
    if not isinstance(network, torch.nn.Module) or not takes_rgb or scale < 1 or side % scale:
        raise ValueError(
            f"cleaner is a {type(model).__name__} that enlarges {scale} times: expected the UPSCALE_MODEL of Load Upscale Model whose "
            f"scale divides the crop of {side} pixels, such as BSRNet or Real-ESRGAN."
        )
    own = copy.copy(model)
    own.patcher = None  # the copy is the run's: the host does not move its weights
    own = copy.deepcopy(own).to(mm.get_torch_device()).eval()
    own.model.requires_grad_(False)

    @torch.no_grad()
    def clean(condition: Tensor) -> Tensor:
        small = condition if scale == 1 else resize(condition, side // scale, side // scale).clamp(0, 1)
        first = next(own.model.parameters())
        large = own(small.to(first)).to(condition)
        return (large if large.shape == condition.shape else resize(large, side, side)).clamp(0, 1)

    return clean, f", cleaned by {weights_digest(own.model)}"
