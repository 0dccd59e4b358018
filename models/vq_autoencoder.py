"""The VQ autoencoder (Esser et al. 2021, VQGAN) whose latents the ResShift family works in. Latents are unscaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Attention, Factory, group_norm, scaled_dot_product
from .state_dict import StateDict, UnsupportedModelError, require, sequence_length
from .vq_blocks import DISTANCE_LIMIT, EPS, SCORE_LIMIT, Level, Middle, Quantizer, VQDownsample, VQUpsample


@dataclass(frozen=True)
class VQConfig:
    """Hyper-parameters of VQAutoencoder; per-level tuples run from full resolution to the latent's."""

    stem: int
    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    image_channels: int
    z_channels: int
    latent_channels: int
    codes: int

    @classmethod
    def from_state_dict(cls, sd: StateDict) -> VQConfig:
        levels = sequence_length(sd, "encoder.down.{}.block.0.conv1.weight")
        if levels == 0:
            require(sd, "encoder.down.0.block.0.conv1.weight")
        inner = [key for key in sd if ".attn." in key]
        if inner:
            raise UnsupportedModelError(
                f"{inner[0]}: attention inside the levels of a VQ autoencoder is not supported. Use the published "
                "autoencoder_vq_f4 or ffhq512_vq_f8_dim8_face file."
            )
        codes, latent_channels = require(sd, "quantize.embedding.weight").shape
        z_channels = require(sd, "post_quant_conv.weight").shape[0]
        if require(sd, "encoder.conv_out.weight").shape[0] != z_channels:
            raise UnsupportedModelError(
                f"encoder.conv_out.weight gives {sd['encoder.conv_out.weight'].shape[0]} channels, expected {z_channels}: "
                "this autoencoder predicts a distribution. Use the published VQ file that belongs to the denoiser."
            )
        return cls(
            stem=require(sd, "encoder.conv_in.weight").shape[0],
            channels=tuple(require(sd, f"encoder.down.{i}.block.0.conv1.weight").shape[0] for i in range(levels)),
            blocks=tuple(sequence_length(sd, f"encoder.down.{i}.block.{{}}.conv1.weight") for i in range(levels)),
            image_channels=require(sd, "decoder.conv_out.weight").shape[0],
            z_channels=z_channels,
            latent_channels=latent_channels,
            codes=codes,
        )

    @property
    def downscale(self) -> int:
        """Pixels per latent cell, along one side."""
        return 1 << (len(self.channels) - 1)

    @property
    def label(self) -> str:
        """What a user should read about the network."""
        published = {(8192, 3): "VQ-f4", (4096, 8): "VQ-f8 face"}
        name = published.get((self.codes, self.latent_channels), f"VQ-f{self.downscale} (custom)")
        return f"{name} autoencoder, {self.codes} codes of {self.latent_channels} channels"


def encode_bytes(config: VQConfig, h: int, w: int, dtype_size: int) -> int:
    """Upper estimate of the peak activations of encoding to ONE latent of (h, w) cells, without gradients."""
    return _peak_bytes(config, h, w, dtype_size, decoding=False)


def decode_bytes(config: VQConfig, h: int, w: int, dtype_size: int) -> int:
    """Upper estimate of the peak activations of decoding ONE latent of (h, w) cells, without gradients."""
    return _peak_bytes(config, h, w, dtype_size, decoding=True)


def _peak_bytes(config: VQConfig, h: int, w: int, size: int, *, decoding: bool) -> int:
    """Largest channels x area of any single layer, with what its callers still hold."""
    tokens = h * w
    pixels = tokens * config.downscale**2
    before = [*config.channels[1:], config.channels[-1]] if decoding else [config.stem, *config.channels[:-1]]
    peak = 0.0
    norm = 8 if size < 4 else 4  # float32: the normalised map, and the copy that half precision needs
    for level, (inner, outer) in enumerate(zip(before, config.channels)):
        held = (
            2 if decoding or config.blocks[level] > 1 else 1
        )  # maps behind a block's first convolution; later blocks add theirs
        first_norm = inner * (size + norm)
        # The level's input is still alive; at the convolution its own input before and after SiLU, and its output.
        second = inner * size + outer * (held * size + max(norm, 2 * size))
        peak = max(peak, max(first_norm, second) * pixels / 4**level)
    attention = 7 * config.channels[-1] * size * tokens + min(SCORE_LIMIT, tokens * tokens) * (size + 4)
    codes = 2 * 4 * min(DISTANCE_LIMIT, tokens * config.codes) if decoding else 0
    return int(1.01 * max(peak, attention, codes))  # statistics of the norms and the like


class Encoder(nn.Module):
    """Image to continuous latent, before quant_conv."""

    def __init__(self, config: VQConfig, attention: Attention, make: Factory) -> None:
        super().__init__()
        self.conv_in = make.conv3(config.image_channels, config.stem)
        widths = [config.stem, *config.channels]
        levels = [Level(widths[i], widths[i + 1], count, make) for i, count in enumerate(config.blocks)]
        for level, channels in zip(levels[:-1], config.channels):
            level.downsample = VQDownsample(channels, make)
        self.down = nn.ModuleList(levels)
        self.mid = Middle(config.channels[-1], attention, make)
        self.norm_out = make.norm(config.channels[-1], EPS)
        self.conv_out = make.conv3(config.channels[-1], config.z_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(group_norm(self.norm_out, self.mid(x))))


class Decoder(nn.Module):
    """Latent after post_quant_conv to image; levels are stored by the encoder's index and run from the last."""

    def __init__(self, config: VQConfig, attention: Attention, make: Factory) -> None:
        super().__init__()
        self.conv_in = make.conv3(config.z_channels, config.channels[-1])
        self.mid = Middle(config.channels[-1], attention, make)
        widths = [*config.channels, config.channels[-1]]
        levels = [Level(widths[i + 1], widths[i], count + 1, make) for i, count in enumerate(config.blocks)]
        for level, channels in zip(levels[1:], config.channels[1:]):
            level.upsample = VQUpsample(channels, make)
        self.up = nn.ModuleList(levels)
        self.norm_out = make.norm(config.channels[0], EPS)
        self.conv_out = make.conv3(config.channels[0], config.image_channels)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid(self.conv_in(z))
        for level in reversed(list(self.up)):
            x = level(x)
        return self.conv_out(F.silu(group_norm(self.norm_out, x)))


class VQAutoencoder(nn.Module):
    """Images in [-1, 1] to latents and back; only decoding quantises."""

    def __init__(
        self,
        config: VQConfig,
        *,
        operations: Any = torch.nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        attention: Attention | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        attend = attention or scaled_dot_product
        make = Factory(operations, device, dtype)
        self.encoder = Encoder(config, attend, make)
        self.decoder = Decoder(config, attend, make)
        self.quantize = Quantizer(config.codes, config.latent_channels, make)
        self.quant_conv = make.conv1(config.z_channels, config.latent_channels)
        self.post_quant_conv = make.conv1(config.latent_channels, config.z_channels)

    @property
    def downscale(self) -> int:
        """Pixels per latent cell, along one side."""
        return self.config.downscale

    @property
    def latent_channels(self) -> int:
        return self.config.latent_channels

    def encode(self, image: Tensor) -> Tensor:
        """Continuous (not quantised) latent (B, C, H / downscale, W / downscale) of an image (B, 3, H, W) in [-1, 1]."""
        if image.shape[1] != self.config.image_channels or any(side % self.downscale for side in image.shape[2:]):
            raise ValueError(
                f"Expected an image of {self.config.image_channels} channels with sides that are multiples of "
                f"{self.downscale}, got {tuple(image.shape)}. Pad it first."
            )
        return self.quant_conv(self.encoder(image))

    def decode(self, z: Tensor, quantize: bool = True) -> Tensor:
        """Image (B, 3, H, W), about [-1, 1] and not clamped, of a latent; the published pipelines always quantise."""
        if z.shape[1] != self.latent_channels:
            raise ValueError(f"Expected a latent of {self.latent_channels} channels, got {tuple(z.shape)}.")
        return self.decoder(self.post_quant_conv(self.quantize(z)[0] if quantize else z))
