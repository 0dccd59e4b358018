"""Which network a canonical state dict holds: an ordered table, specific rows before broad ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from .gain_models import GainModels, GainModelsConfig
from .layers import Attention
from .pixel_denoiser import PixelDenoiser, PixelDenoiserConfig
from .residual_unet import ResidualUNet, ResidualUNetConfig
from .state_dict import StateDict, UnsupportedModelError, canonicalize, describe_keys
from .vq_autoencoder import VQAutoencoder, VQConfig

__all__ = ["Identified", "StateDict", "UnsupportedModelError", "build", "canonicalize", "identify"]


@dataclass(frozen=True)
class Identified:
    """What a file holds: its kind, a label for users, and the configuration to build it from (None: cannot be built)."""

    kind: str
    label: str
    config: object


@dataclass(frozen=True)
class Row:
    """One kind of network: all of keys must be present, then read makes label and configuration, or refuses."""

    kind: str
    what: str
    keys: tuple[str, ...]
    read: Callable[[StateDict], Identified]


def _pixel_denoiser(sd: StateDict) -> Identified:
    try:
        config = PixelDenoiserConfig.from_state_dict(sd)
    except ValueError as error:
        raise UnsupportedModelError(f"Not an embedded pixel denoiser: {error}") from error
    return Identified("pixel_denoiser", f"embedded pixel denoiser, x4 ({config.channels} channels)", config)


def _discriminator(sd: StateDict) -> Identified:
    heads = {key.split(".")[1] for key in sd if key.startswith("heads.")}
    return Identified("time_aware_discriminator", f"TAD-SR time-aware discriminator, {len(heads)} heads", None)


def _gain_models(sd: StateDict) -> Identified:
    config = GainModelsConfig.from_state_dict(sd)
    return Identified("gain_models", config.label, config)


def _residual_unet(sd: StateDict) -> Identified:
    config = ResidualUNetConfig.from_state_dict(sd)
    return Identified("residual_unet", config.label, config)


def _vq_autoencoder(sd: StateDict) -> Identified:
    config = VQConfig.from_state_dict(sd)
    return Identified("vq_autoencoder", config.label, config)


TABLE = (
    Row("pixel_denoiser", "the embedded pixel denoiser", ("sqrt_etas", "kappa"), _pixel_denoiser),
    Row(
        "time_aware_discriminator",
        "a TAD-SR discriminator",
        ("heads.0.main.0.0.weight_orig", "emb_layers.0.1.weight"),
        _discriminator,
    ),
    Row("gain_models", "an MMLE regressor", ("mmle.convs.0.weight", "mmle.fc2.weight"), _gain_models),
    Row("gain_models", "a PFJ network", ("pfj.gain1.weight", "pfj.out.weight"), _gain_models),
    Row(
        "residual_unet",
        "a ResShift, SinSR or TAD-SR denoiser",
        ("input_blocks.0.0.weight", "out.2.weight"),
        _residual_unet,
    ),
    Row("vq_autoencoder", "a VQ autoencoder", ("quantize.embedding.weight",), _vq_autoencoder),
)


def identify(sd: StateDict) -> Identified:
    """Tells what a canonical state dict holds; UnsupportedModelError says what was found and what would match."""
    for row in TABLE:
        if all(key in sd for key in row.keys):
            return row.read(sd)
    known = "; ".join(f"{row.what} ({' and '.join(row.keys)})" for row in TABLE)
    raise UnsupportedModelError(f"No known network: the file has {describe_keys(sd)}. Expected the keys of {known}.")


def build(
    identified: Identified,
    *,
    operations: Any = torch.nn,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    attention: Attention | None = None,
) -> nn.Module:
    """Makes the network of an identified file, without its weights (see state_dict.load_weights)."""
    factory: dict[str, Any] = {"operations": operations, "device": device, "dtype": dtype}
    match identified.kind:
        case "residual_unet":
            return ResidualUNet(cast("ResidualUNetConfig", identified.config), attention=attention, **factory)
        case "vq_autoencoder":
            return VQAutoencoder(cast("VQConfig", identified.config), attention=attention, **factory)
        case "gain_models":
            return GainModels(cast("GainModelsConfig", identified.config), **factory)
        case "pixel_denoiser":
            return PixelDenoiser(cast("PixelDenoiserConfig", identified.config), **factory)
        case _:
            raise UnsupportedModelError(
                f"This file is a {identified.label}: it only takes part in training. Expected a denoiser or an autoencoder."
            )
