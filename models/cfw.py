"""Controllable feature wrapping: encoder features of the LR image fused into a KL autoencoder's decoder (StableSR, section 3.2).

Level 1 works at half of the image's resolution, level 2 at a quarter. Keys are the published ones, below `decoder.`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Factory
from .state_dict import StateDict, UnsupportedModelError, require, sequence_length
from .vq_blocks import VQResnetBlock

LEVELS = (1, 2)
"""Levels of the autoencoder that are fused, by the number of halvings of the image."""
PREFIX = "decoder.fusion_layer_"
AUTOENCODER_PREFIXES = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
SLOPE = 0.2  # of the leaky ReLU in the dense blocks
RESIDUAL_SCALE = 0.2  # of the dense blocks' residuals (ESRGAN, Wang et al. 2018, section 3.1)
DENSE_LAYERS = 5


@dataclass(frozen=True)
class FuseConfig:
    """Sizes of one fusion block: channels of the encoder's and the decoder's features, growth and number of RRDBs."""

    encoder_channels: int
    channels: int
    growth: int = 32
    blocks: int = 2

    @classmethod
    def from_state_dict(cls, sd: StateDict, prefix: str = "") -> FuseConfig:
        channels, both = require(sd, f"{prefix}encode_enc_1.conv1.weight").shape[:2]
        if both <= channels:
            raise UnsupportedModelError(
                f"{prefix}encode_enc_1.conv1.weight takes {both} channels and gives {channels}: expected more than it gives, "
                "the encoder's features beside the decoder's. The file is damaged or comes from a modified network."
            )
        growth = require(sd, f"{prefix}encode_enc_2.0.rdb1.conv1.weight").shape[0]
        blocks = sequence_length(sd, f"{prefix}encode_enc_2.{{}}.rdb1.conv1.weight")
        return cls(both - channels, channels, growth, blocks)


@dataclass(frozen=True)
class CFWConfig:
    """Fusion blocks in the order of LEVELS; the defaults are the published sizes."""

    levels: tuple[FuseConfig, FuseConfig] = (FuseConfig(256, 256), FuseConfig(512, 512))

    @classmethod
    def from_state_dict(cls, sd: StateDict) -> CFWConfig:
        half, quarter = (FuseConfig.from_state_dict(sd, f"{PREFIX}{level}.") for level in LEVELS)
        return cls((half, quarter))

    def of(self, level: int) -> FuseConfig:
        """Sizes of the block of one of LEVELS."""
        return self.levels[LEVELS.index(level)]

    @property
    def label(self) -> str:
        """What a user should read about the network."""
        widths = " and ".join(str(config.channels) for config in self.levels)
        return f"StableSR CFW, fusion at {widths} channels"


def fusion_weights(sd: StateDict) -> StateDict:
    """The fusion layers of a canonical state dict; the published file also holds its autoencoder and training losses."""
    return {key: value for key, value in sd.items() if key.startswith(PREFIX)}


def autoencoder_weights(sd: StateDict) -> StateDict:
    """The KL autoencoder that the published CFW file carries along; empty for files of fusion layers only."""
    return {key: value for key, value in sd.items() if key.startswith(AUTOENCODER_PREFIXES) and PREFIX not in key}


class DenseBlock(nn.Module):
    """Five convolutions, each of everything before it (ESRGAN, figure 4)."""

    def __init__(self, channels: int, growth: int, make: Factory) -> None:
        super().__init__()
        self.conv1 = make.conv3(channels, growth)
        self.conv2 = make.conv3(channels + growth, growth)
        self.conv3 = make.conv3(channels + 2 * growth, growth)
        self.conv4 = make.conv3(channels + 3 * growth, growth)
        self.conv5 = make.conv3(channels + 4 * growth, channels)

    def forward(self, x: Tensor) -> Tensor:
        known = x
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            known = torch.cat([known, F.leaky_relu(layer(known), SLOPE)], dim=1)
        return x + RESIDUAL_SCALE * self.conv5(known)


class RRDB(nn.Module):
    """Three dense blocks with a residual (ESRGAN, section 3.1)."""

    def __init__(self, channels: int, growth: int, make: Factory) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(channels, growth, make)
        self.rdb2 = DenseBlock(channels, growth, make)
        self.rdb3 = DenseBlock(channels, growth, make)

    def forward(self, x: Tensor) -> Tensor:
        return x + RESIDUAL_SCALE * self.rdb3(self.rdb2(self.rdb1(x)))


class FuseBlock(nn.Module):
    """F_m = F_d + w C(F_e, F_d) (StableSR, section 3.2)."""

    def __init__(self, config: FuseConfig, make: Factory) -> None:
        super().__init__()
        self.encode_enc_1 = VQResnetBlock(
            config.encoder_channels + config.channels, config.channels, make, shortcut="conv_out"
        )
        self.encode_enc_2 = nn.Sequential(*(RRDB(config.channels, config.growth, make) for _ in range(config.blocks)))
        self.encode_enc_3 = VQResnetBlock(config.channels, config.channels, make, shortcut="conv_out")

    def forward(self, encoder_features: Tensor, decoder_features: Tensor, w: float) -> Tensor:
        """Both features (B, C, h, w) of one size; w in [0, 1], 0 leaves the decoder's as they are."""
        h = self.encode_enc_1(torch.cat([encoder_features, decoder_features], dim=1))
        return decoder_features + w * self.encode_enc_3(self.encode_enc_2(h))


class CFW(nn.Module):
    """The fusion blocks of a file."""

    def __init__(
        self,
        config: CFWConfig | None = None,
        *,
        operations: Any = torch.nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config or CFWConfig()
        make = Factory(operations, device, dtype)
        self.decoder = nn.ModuleDict(
            {f"fusion_layer_{level}": FuseBlock(self.config.of(level), make) for level in LEVELS}
        )

    def forward(self, level: int, encoder_features: Tensor, decoder_features: Tensor, w: float) -> Tensor:
        """The decoder's features (B, C, h, w) of one of LEVELS with the encoder's fused in at strength w."""
        return self.decoder[f"fusion_layer_{level}"](encoder_features, decoder_features, w)


def feature_bytes(config: CFWConfig, height: int, width: int, dtype_size: int) -> int:
    """Encoder features of one image of (height, width) pixels that wait for the decoder."""
    cells = {level: (height >> level) * (width >> level) for level in LEVELS}
    return sum(config.of(level).encoder_channels * cells[level] for level in LEVELS) * dtype_size


def fuse_bytes(config: CFWConfig, height: int, width: int, dtype_size: int) -> int:
    """Upper estimate of the peak activations of fusing one image of (height, width) pixels, without gradients."""
    return max(_fuse_bytes(config.of(level), dtype_size) * (height >> level) * (width >> level) for level in LEVELS)


def _fuse_bytes(config: FuseConfig, size: int) -> int:
    """Per position: both inputs and the first block's float32 norm, or the states around the last dense convolution."""
    both = config.encoder_channels + config.channels
    first = both * (2 * size + 8) + 2 * config.channels * size
    widest = config.channels + (DENSE_LAYERS - 1) * config.growth
    dense = (both + 4 * config.channels + 2 * widest) * size
    return max(first, dense)
