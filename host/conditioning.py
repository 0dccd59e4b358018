"""CONDITIONING that needs no text encoder, and the LR condition of the ResShift family."""

from __future__ import annotations

from typing import Any

import comfy.model_base
import node_helpers
import torch
import torch.nn.functional as F
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..imaging.resize import bicubic_upsample, pad_to_multiple
from .images import SMALLER_PICTURE, check_room
from .loading import base_model
from .resshift.loading import OneStepSR
from .resshift.patchers import LR_CONDITION, ResidualShiftModel

TOKENS = 77
DEFAULT_WIDTH = 768
POOLED_SDXL = 1280
"""SDXL's vector input has sizes and crops beside the pooled output."""


def empty_prompt(model: ModelPatcher) -> list[Any]:
    """Zeros (1, 77, width) and a pooled output of zeros, in the widths that the model's configuration names.

    ValueError for a model whose prompts are not of this form (SD3, Flux and later ones). ResShift's networks read no prompt at all.
    """
    config = base_model(model).model_config.unet_config
    if "context_dim" not in config and not isinstance(model.model, ResidualShiftModel):
        raise ValueError(
            f"Got a MODEL of the kind {type(model.model).__name__}, whose empty prompt is not known here: expected SD 1.x, 2.x or SDXL; "
            "connect a prompt from its own text encoder."
        )
    width = config.get("context_dim") or DEFAULT_WIDTH
    with_sizes = isinstance(model.model, (comfy.model_base.SDXL, comfy.model_base.SDXLRefiner))
    pooled = POOLED_SDXL if with_sizes else config.get("adm_in_channels") or width
    return [[torch.zeros(1, TOKENS, width), {"pooled_output": torch.zeros(1, pooled)}]]


def lr_condition(sr: OneStepSR, rgb: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Condition values and the start LATENT for RGB (B, 3, H, W) in [0, 1]; sides are reflected up to whole latent cells."""
    check_room(len(rgb), sr.scale * rgb.shape[2], sr.scale * rgb.shape[3], SMALLER_PICTURE)
    lq = pad_to_multiple(rgb, sr.lq_factor)
    large = bicubic_upsample(lq, sr.scale).movedim(1, -1)  # (B, s H, s W, 3), not clamped, as ResShift does
    y = sr.vae.encode(large)
    folded = F.pixel_unshuffle(lq * 2 - 1, sr.lq_factor)  # (B, 3 f^2, h, w)
    return {"concat_latent_image": y, LR_CONDITION: folded}, {"samples": y}


def with_values(conditioning: list[Any], values: dict[str, Tensor]) -> list[Any]:
    """A copy of the conditioning that carries more values."""
    return node_helpers.conditioning_set_values(conditioning, values)
