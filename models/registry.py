"""Which network a canonical state dict holds: an ordered table, specific rows before broad ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import nn

from .cfw import CFW, CFWConfig
from .compact_denoiser import CompactDenoiser, CompactDenoiserConfig
from .gain_models import GainModels, GainModelsConfig
from .judges.latent_lpips import FIRST_KEY as LPIPS_KEY
from .latent_control import LatentControlConfig
from .layers import Attention
from .noise_predictor import TIME_KEY, NoisePredictor, NoisePredictorConfig
from .pixel_denoiser import PixelDenoiser, PixelDenoiserConfig
from .residual_unet import ResidualUNet, ResidualUNetConfig
from .state_dict import StateDict, UnsupportedModelError, canonicalize, describe_keys
from .struct_parts import StructParts, StructPartsConfig, select_parts
from .time_aware_adapter import TimeAwareAdapters, TimeAwareAdaptersConfig
from .vq_autoencoder import VQAutoencoder, VQConfig

__all__ = ["Identified", "StateDict", "UnsupportedModelError", "build", "canonicalize", "identify"]


Config = TypeVar("Config", covariant=True)


@dataclass(frozen=True)
class Identified(Generic[Config]):
    """What a file holds: its kind, a label for users, and the configuration to build it from (None: cannot be built)."""

    kind: str
    label: str
    config: Config


class LabelledConfig(Protocol):
    """A configuration that names its network for users."""

    @property
    def label(self) -> str:
        """Name of the network."""
        ...


SHAPE_ERRORS = (LookupError, ValueError, TypeError, ArithmeticError, RuntimeError)
"""What comes of reading sizes off tensors that are not of their kind, and of building networks of such sizes."""

Reader = Callable[[StateDict], tuple[str, object]]
"""Gives label and configuration of a canonical state dict, or refuses it."""


@dataclass(frozen=True)
class RegistryRow:
    """One kind of network: all of keys must be present for read to be asked.

    An entry of keys that starts or ends with a dot stands for any key that contains it.
    """

    kind: str
    what: str
    keys: tuple[str, ...]
    read: Reader

    def matches(self, sd: StateDict) -> bool:
        """Whether a canonical state dict has what this row looks for."""
        return all(
            any(key in other for other in sd) if key.startswith(".") or key.endswith(".") else key in sd
            for key in self.keys
        )


def _labelled(config_of: Callable[[StateDict], LabelledConfig]) -> Reader:
    def read(sd: StateDict) -> tuple[str, object]:
        config = config_of(sd)
        return config.label, config

    return read


def _pixel_denoiser(sd: StateDict) -> tuple[str, object]:
    try:
        config = PixelDenoiserConfig.from_state_dict(sd)
    except ValueError as error:
        raise UnsupportedModelError(f"Not an embedded pixel denoiser: {error}") from error
    return f"embedded pixel denoiser, x4 ({config.channels} channels)", config


def _compact_denoiser(sd: StateDict) -> tuple[str, object]:
    try:
        config = CompactDenoiserConfig.from_state_dict(sd)
    except ValueError as error:
        raise UnsupportedModelError(f"Not an embedded compact denoiser: {error}") from error
    return f"embedded compact denoiser, x4 ({config.blocks} x {config.channels} channels)", config


def _discriminator(sd: StateDict) -> tuple[str, object]:
    heads = {key.split(".")[1] for key in sd if key.startswith("heads.")}
    return f"TAD-SR time-aware discriminator, {len(heads)} heads", None


def _for_training(label: str) -> Reader:
    return lambda sd: (label, None)


def _struct_parts(sd: StateDict) -> tuple[str, object]:
    config = StructPartsConfig.from_state_dict(sd)
    count = sum(value.numel() for value in select_parts(sd).values()) / 1e6
    return f"StableSR encoder and {len(config.modulations)} SFT layers ({count:.1f} M parameters)", config


_time_aware_adapters = _labelled(TimeAwareAdaptersConfig.from_state_dict)
_gain_models = _labelled(GainModelsConfig.from_state_dict)

TABLE = (
    RegistryRow(
        "struct_parts", "StableSR's encoder and SFT layers", ("structcond_stage_model.", ".spade."), _struct_parts
    ),
    RegistryRow(
        "compact_denoiser", "the embedded one-step network", ("sqrt_etas", "kappa", "slopes.0"), _compact_denoiser
    ),
    RegistryRow("pixel_denoiser", "the embedded pixel denoiser", ("sqrt_etas", "kappa"), _pixel_denoiser),
    RegistryRow(
        "cfw",
        "StableSR's controllable feature wrapping",
        ("decoder.fusion_layer_1.encode_enc_1.conv1.weight", "decoder.fusion_layer_2.encode_enc_1.conv1.weight"),
        _labelled(CFWConfig.from_state_dict),
    ),
    RegistryRow(
        "time_aware_discriminator",
        "a TAD-SR discriminator",
        ("heads.0.main.0.0.weight_orig", "emb_layers.0.1.weight"),
        _discriminator,
    ),
    RegistryRow(
        "latent_discriminator",
        "InvSR's discriminator",
        ("add_embedding.pool.positional_embedding", "out_blocks.0.5.weight"),
        _for_training("InvSR discriminator"),
    ),
    RegistryRow(
        "latent_lpips",
        "LPIPS on latents",
        (LPIPS_KEY, "lin0.model.1.weight"),
        _for_training("LPIPS on latents"),
    ),
    RegistryRow("time_aware_adapters", "full time-aware adapters", ("0.0.in_layers.0.weight",), _time_aware_adapters),
    RegistryRow("time_aware_adapters", "lite or paper time-aware adapters", ("0.0.emb.weight",), _time_aware_adapters),
    RegistryRow(
        "latent_controlnet",
        "a DiffBIR or TASR ControlNet",
        ("zero_convs.0.0.weight", "middle_block_out.0.weight", "input_blocks.0.0.weight"),
        _labelled(LatentControlConfig.from_state_dict),
    ),
    RegistryRow("gain_models", "an MMLE regressor", ("mmle.convs.0.weight", "mmle.fc2.weight"), _gain_models),
    RegistryRow("gain_models", "a PFJ network", ("pfj.gain1.weight", "pfj.out.weight"), _gain_models),
    RegistryRow(
        "residual_unet",
        "a ResShift, SinSR or TAD-SR denoiser",
        ("input_blocks.0.0.weight", "out.2.weight"),
        _labelled(ResidualUNetConfig.from_state_dict),
    ),
    RegistryRow(
        "noise_predictor",
        "an InvSR noise predictor",
        (TIME_KEY, "encoder.conv_out.weight"),
        _labelled(NoisePredictorConfig.from_state_dict),
    ),
    RegistryRow(
        "vq_autoencoder", "a VQ autoencoder", ("quantize.embedding.weight",), _labelled(VQConfig.from_state_dict)
    ),
)


def identify(sd: StateDict) -> Identified[object]:
    """Tells what a canonical state dict holds; UnsupportedModelError says what was found and what would match."""
    for row in TABLE:
        if row.matches(sd):
            try:
                label, config = row.read(sd)
            except UnsupportedModelError:
                raise
            except SHAPE_ERRORS as error:  # readers may take it that a tensor has the axes of its kind
                raise UnsupportedModelError(
                    f"The file has the keys of {row.what}, but tensors of other shapes or values ({str(error)[:100]}): it is damaged or "
                    "comes from a modified network; get it again from its publisher."
                ) from error
            return Identified(row.kind, label, config)
    known = "; ".join(f"{row.what} ({' and '.join(row.keys)})" for row in TABLE)
    raise UnsupportedModelError(f"No known network: the file has {describe_keys(sd)}. Expected the keys of {known}.")


def sketch(identified: Identified[object]) -> nn.Module:
    """Makes the network of an identified file without memory, to see what it stores; UnsupportedModelError for absurd sizes."""
    try:
        return build(identified, device="meta")
    except UnsupportedModelError:
        raise
    except SHAPE_ERRORS as error:
        raise UnsupportedModelError(
            f"No network can be built from this {identified.label} ({str(error)[:100]}): the file is damaged or comes from a modified "
            "network; get it again from its publisher."
        ) from error


def build(
    identified: Identified[object],
    *,
    operations: Any = torch.nn,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    attention: Attention | None = None,
) -> nn.Module:
    """Makes the network of an identified file, without its weights (see state_dict.load_weights)."""
    factory: dict[str, Any] = {"operations": operations, "device": device, "dtype": dtype}
    match identified.config:
        case ResidualUNetConfig() as config:
            return ResidualUNet(config, attention=attention, **factory)
        case VQConfig() as config:
            return VQAutoencoder(config, attention=attention, **factory)
        case NoisePredictorConfig() as config:
            return NoisePredictor(config, attention=attention, **factory)
        case StructPartsConfig() as config:
            return StructParts(config, attention=attention, **factory)
        case GainModelsConfig() as config:
            return GainModels(config, **factory)
        case PixelDenoiserConfig() as config:
            return PixelDenoiser(config, **factory)
        case CompactDenoiserConfig() as config:
            return CompactDenoiser(config, **factory)
        case CFWConfig() as config:
            return CFW(config, **factory)
        case TimeAwareAdaptersConfig() as config:
            return TimeAwareAdapters(config, **factory)
        case LatentControlConfig():
            raise UnsupportedModelError(
                f"This file is a {identified.label}: it works inside a MODEL; load it with Load Time-Aware ControlNet."
            )
        case _:
            raise UnsupportedModelError(
                f"This file is a {identified.label}: it only takes part in training. Expected a denoiser or an autoencoder."
            )
