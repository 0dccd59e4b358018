"""What StableSR adds to Stable Diffusion: the time-aware encoder and a modulation in every residual block of the denoiser.

Published checkpoints hold both under the keys of the whole model, with or without the rest of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from .layers import Attention, Factory
from .spade import SpadeModulation, SpadeShape
from .state_dict import StateDict, UnsupportedModelError, describe_keys, require
from .struct_encoder import StructEncoder, StructEncoderConfig

ENCODER = "structcond_stage_model."
DENOISER = "model.diffusion_model."
MODULATION = ".spade."
_EPS_OR_V = f"{DENOISER}output_blocks.11.1.transformer_blocks.0.norm1.bias"
_V_SPREAD = 0.09


@dataclass(frozen=True)
class StructPartsConfig:
    """The encoder's sizes, and those of the modulation of every residual block by the block's name in the denoiser."""

    encoder: StructEncoderConfig
    modulations: tuple[tuple[str, SpadeShape], ...]

    @classmethod
    def from_state_dict(cls, sd: StateDict) -> StructPartsConfig:
        """The configuration of a canonical state dict; keys of other parts are passed over.

        Raises UnsupportedModelError when one of the two parts is not there, or lacks a tensor that a size is read from.
        """
        encoder = {key.removeprefix(ENCODER): value for key, value in sd.items() if key.startswith(ENCODER)}
        names = dict.fromkeys(key.split(MODULATION)[0] for key in sd if MODULATION in key and key.startswith(DENOISER))
        if not encoder or not names:
            missing = "the time-aware encoder (structcond_stage_model)" if names else "the SFT layers (spade)"
            raise UnsupportedModelError(
                f"The file lacks {missing}: it has {describe_keys(sd)}. Expected a StableSR checkpoint with encoder and SFT."
            )
        shapes = tuple((name.removeprefix(DENOISER), _shape(sd, name + MODULATION)) for name in names)
        return cls(StructEncoderConfig.from_state_dict(encoder), shapes)


def _shape(sd: StateDict, prefix: str) -> SpadeShape:
    shared = require(sd, f"{prefix}mlp_shared.0.weight")
    return SpadeShape(require(sd, f"{prefix}mlp_gamma.weight").shape[0], shared.shape[0], shared.shape[1])


class StructParts(nn.Module):
    """Encoder and modulations in one network, whose keys are those of the published checkpoints."""

    def __init__(
        self,
        config: StructPartsConfig,
        *,
        operations: Any = torch.nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        attention: Attention | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.structcond_stage_model = StructEncoder(
            config.encoder, operations=operations, device=device, dtype=dtype, attention=attention
        )
        make = Factory(operations, device, dtype)
        for name, shape in config.modulations:
            _place(self, f"{DENOISER}{name}.spade", SpadeModulation(shape, make))

    @property
    def encoder(self) -> StructEncoder:
        """LR latent and timesteps -> one map for each level."""
        return self.structcond_stage_model

    def modulations(self) -> dict[str, SpadeModulation]:
        """By the name of the residual block in the denoiser."""
        return {
            name: cast("SpadeModulation", self.get_submodule(f"{DENOISER}{name}.spade"))
            for name, _ in self.config.modulations
        }


def _place(root: nn.Module, path: str, module: nn.Module) -> None:
    """Adds a module below containers that are made where they are missing."""
    *parents, last = path.split(".")
    for name in parents:
        if name not in dict(root.named_children()):
            root.add_module(name, nn.Module())
        root = root.get_submodule(name)
    root.add_module(last, module)


def select_parts(sd: StateDict) -> StateDict:
    """The tensors of encoder and modulations, out of whatever else a checkpoint holds."""
    return {
        key: value
        for key, value in sd.items()
        if key.startswith(ENCODER) or (key.startswith(DENOISER) and MODULATION in key)
    }


def base_prediction(sd: StateDict) -> str | None:
    """'eps' or 'v' when the file also holds the denoiser it was trained with, else None: the two parts alone do not tell.

    SD 2.1's two denoisers have the same keys; their norms at this place spread differently, which is how hosts tell them.
    """
    bias = sd.get(_EPS_OR_V)
    if bias is None or bias.device.type == "meta":
        return None
    return "v" if float(bias.float().std()) > _V_SPREAD else "eps"


def describe_other(sd: StateDict) -> str:
    """What a file without the two parts seems to be, in words."""
    if any("decoder.fusion_layer_" in key for key in sd):
        return "a StableSR CFW autoencoder, which Load CFW takes"
    if any(key.startswith(DENOISER) for key in sd):
        return "a checkpoint of a diffusion model (Stable Diffusion, or the LDM-SR baseline) without StableSR's parts"
    if any(key.startswith("decoder.") for key in sd) and any(key.startswith("encoder.") for key in sd):
        return "an autoencoder"
    return "none that we know"
