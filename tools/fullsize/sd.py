"""The host's own models at published size, loaded by the host from state dicts of fake tensors."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily

from .recorder import keep_values
from .weights import Maker, like

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
DITS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "SD3-medium": (
        "comfy.ldm.modules.diffusionmodules.mmdit",
        "MMDiT",
        {
            "input_size": None,
            "patch_size": 2,
            "in_channels": 16,
            "depth": 24,
            "pos_embed_max_size": 192,
            "num_patches": 192 * 192,
            "adm_in_channels": 2048,
            "context_embedder_config": {
                "target": "torch.nn.Linear",
                "params": {"in_features": 4096, "out_features": 1536},
            },
        },
    ),
    "Flux dev": (
        "comfy.ldm.flux.model",
        "Flux",
        {
            "image_model": "flux",
            "in_channels": 16,
            "out_channels": 16,
            "vec_in_dim": 768,
            "context_in_dim": 4096,
            "hidden_size": 3072,
            "mlp_ratio": 4.0,
            "num_heads": 24,
            "depth": 19,
            "depth_single_blocks": 38,
            "axes_dim": [16, 56, 56],
            "theta": 10000,
            "patch_size": 2,
            "qkv_bias": True,
            "guidance_embed": True,
            "txt_ids_dims": [],
        },
    ),
}
"""Module and class of the host, and its arguments."""
AUTOENCODER = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}
"""Of Stable Diffusion's VAE, as the host reads it off the file."""
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


def unet_weights(
    recorder: Maker, name: str, dtype: torch.dtype = torch.float16, *, predicts_v: bool = False
) -> dict[str, Tensor]:
    """State dict of a UNet as its checkpoint holds it; predicts_v for SD 2.1 of 768 pixels."""
    model = importlib.import_module("comfy.ldm.modules.diffusionmodules.openaimodel")
    ops = importlib.import_module("comfy.ops").disable_weight_init
    weights = like(recorder, lambda: model.UNetModel(**unet_arguments(name), out_channels=4, operations=ops), dtype)
    if V_BIAS in weights:
        weights[V_BIAS] = spread(weights[V_BIAS], predicts_v)
    return weights


def spread(bias: Tensor, predicts_v: bool) -> Tensor:
    """The tensor by whose values the two kinds of SD 2 are told apart."""
    with unset_fake_temporarily():
        values = torch.linspace(-1, 1, len(bias), dtype=bias.dtype) * predicts_v
    keep_values(bias, values)
    return bias if isinstance(bias, FakeTensor) else values


def dit_weights(recorder: Maker, name: str, dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    """State dict of a transformer as its file holds it."""
    place, kind, arguments = DITS[name]
    network = getattr(importlib.import_module(place), kind)
    ops = importlib.import_module("comfy.ops").disable_weight_init
    return like(recorder, lambda: network(**arguments, operations=ops), dtype)


def vae_weights(recorder: Maker, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """State dict of Stable Diffusion's VAE."""
    model = importlib.import_module("comfy.ldm.models.autoencoder")
    return like(recorder, lambda: model.AutoencoderKL(embed_dim=4, ddconfig=AUTOENCODER), dtype)


def load_vae(recorder: Maker) -> Any:
    """Stable Diffusion's VAE, by the host's own choice of dtypes."""
    return importlib.import_module("comfy.sd").VAE(sd=vae_weights(recorder))


def load_controlnet(recorder: Maker, name: str, dtype: torch.dtype = torch.float16) -> Any:
    """CONTROL_NET of an ordinary ControlNet (tile, for example) for a UNet, by the host's own loader."""
    network = importlib.import_module("comfy.cldm.cldm").ControlNet
    ops = importlib.import_module("comfy.ops").disable_weight_init
    arguments = {key: value for key, value in unet_arguments(name).items() if key != "transformer_depth_output"}
    weights = like(recorder, lambda: network(**arguments, hint_channels=3, operations=ops), dtype)
    return importlib.import_module("comfy.controlnet").load_controlnet_state_dict(weights)


def apply_control(
    conditions: tuple[list[Any], list[Any]], control: Any, image: Tensor, vae: Any = None, **changes: Any
) -> tuple[list[Any], list[Any]]:
    """Both conditionings with a CONTROL_NET, as the host's Apply ControlNet gives them."""
    apply = importlib.import_module("nodes").ControlNetApplyAdvanced().apply_controlnet
    settings = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, **changes}
    return apply(*conditions, control, image, **settings, vae=vae)


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
    pooled = config.get("vec_in_dim") or {2816: 1280}.get(config.get("adm_in_channels"), config.get("adm_in_channels"))
    if pooled:
        extra["pooled_output"] = torch.randn(1, pooled)
    if config.get("guidance_embed"):
        extra["guidance"] = 3.5
    return [[torch.randn(1, tokens, width), extra]]
