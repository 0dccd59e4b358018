"""The host's own models at published size, loaded by the host from state dicts of fake tensors."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from .recorder import Recorder
from .weights import fake_tensor, like

UNETS: dict[str, dict[str, Any]] = {
    "SD 1.5": {
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
        "context_dim": 768,
        "num_heads": 8,
        "num_head_channels": -1,
        "use_linear_in_transformer": False,
    },
    "SD 2.1": {
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
        "context_dim": 1024,
        "num_head_channels": 64,
        "use_linear_in_transformer": True,
    },
    "SDXL": {
        "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 2, 4],
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "transformer_depth_middle": 10,
        "context_dim": 2048,
        "num_head_channels": 64,
        "use_linear_in_transformer": True,
        "adm_in_channels": 2816,
        "num_classes": "sequential",
    },
}
V_BIAS = "output_blocks.11.1.transformer_blocks.0.norm1.bias"
"""The host takes an SD 2 file for v prediction where this bias scatters by more than 0.09."""


def unet_arguments(name: str) -> dict[str, Any]:
    """What the host's UNetModel and ControlNet take in common."""
    shared = {
        "image_size": 32,
        "in_channels": 4,
        "model_channels": 320,
        "use_spatial_transformer": True,
        "legacy": False,
    }
    return {**shared, **UNETS[name]}


def unet_weights(recorder: Recorder, name: str, dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    """State dict of a UNet as its checkpoint holds it."""
    model = importlib.import_module("comfy.ldm.modules.diffusionmodules.openaimodel")
    ops = importlib.import_module("comfy.ops").disable_weight_init
    weights = like(recorder, lambda: model.UNetModel(**unet_arguments(name), out_channels=4, operations=ops), dtype)
    if V_BIAS in weights:
        weights[V_BIAS] = fake_tensor(recorder, weights[V_BIAS].shape, dtype, value=0.0)  # predicts eps
    return weights


def load_model(weights: dict[str, Tensor]) -> Any:
    """MODEL of a state dict, by the host's own detection and choice of dtypes."""
    model = importlib.import_module("comfy.sd").load_diffusion_model_state_dict(weights)
    if model is None:
        raise ValueError("the host does not recognise this state dict")
    return model


def text(model: Any, *, tokens: int = 77) -> list[Any]:
    """CONDITIONING of random text for a MODEL, as its text encoder gives it."""
    config = model.model.model_config.unet_config
    extra: dict[str, Any] = {}
    width = config.get("context_dim") or config.get("context_in_dim") or 4096
    if config.get("adm_in_channels"):
        extra["pooled_output"] = torch.randn(1, 1280)
    return [[torch.randn(1, tokens, width), extra]]
