"""The ResShift denoiser: a U-Net with Swin layers that predicts the clean latent from a noisy one and the LR image.

Yue et al. 2023 (ResShift); the same network serves SinSR (Wang et al. 2024) and TAD-SR (He et al. 2024).
Module and key names are those of the published weights.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Attention, Factory, group_norm, scaled_dot_product, timestep_embedding, zero_weights
from .residual_unet_config import CONDITION_WIDTH, ResidualUNetConfig, activation_bytes
from .swin import SwinLayer

__all__ = ["ResidualUNet", "ResidualUNetConfig", "activation_bytes"]


class TimeResBlock(nn.Module):
    """Two 3x3 convolutions; the time embedding scales and shifts the second normalisation."""

    def __init__(self, in_channels: int, out_channels: int, emb_channels: int, make: Factory) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(make.norm(in_channels), nn.SiLU(), make.conv3(in_channels, out_channels))
        self.emb_layers = nn.Sequential(nn.SiLU(), make.linear(emb_channels, 2 * out_channels))
        self.out_layers = nn.Sequential(
            make.norm(out_channels), nn.SiLU(), nn.Identity(), zero_weights(make.conv3(out_channels, out_channels))
        )
        same = in_channels == out_channels
        self.skip_connection = nn.Identity() if same else make.conv1(in_channels, out_channels)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.in_layers[1:](group_norm(self.in_layers[0], x))  # (B, C_out, h, w)
        scale, shift = self.emb_layers(emb)[:, :, None, None].chunk(2, dim=1)  # (B, C_out, 1, 1) each
        h = group_norm(self.out_layers[0], h) * (1 + scale) + shift
        return self.skip_connection(x) + self.out_layers[1:](h)


class UNetDownsample(nn.Module):
    """Halves the map with a strided convolution."""

    def __init__(self, in_channels: int, out_channels: int, make: Factory) -> None:
        super().__init__()
        self.op = make.conv3(in_channels, out_channels, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class UNetUpsample(nn.Module):
    """Doubles the map by repetition, then a convolution."""

    def __init__(self, channels: int, make: Factory) -> None:
        super().__init__()
        self.conv = make.conv3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class UNetStage(nn.ModuleList):
    """Layers in a row; those that know the time receive its embedding."""

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, emb) if isinstance(layer, TimeResBlock) else layer(x)
        return x


def condition_extractor(config: ResidualUNetConfig, make: Factory) -> nn.Sequential:
    """Brings the LR condition (and mask) to latent size: per stage a convolution and one that halves and doubles."""
    layers: list[nn.Module] = []
    width = 4 if config.has_mask else 3
    for stage in range(config.condition_stages):
        out = CONDITION_WIDTH << stage
        layers += [make.conv3(width, out), nn.SiLU(), UNetDownsample(out, 2 * out, make)]
        width = 2 * out
    return nn.Sequential(*layers)


class ResidualUNet(nn.Module):
    """Predicts the clean latent x0 from the scaled noisy latent, the raw time index and the LR condition.

    With torch.nn as operations all weights are float32 (use autocast for less); operations that cast their
    weights to the input allow any mix of weight and activation dtypes.
    """

    def __init__(
        self,
        config: ResidualUNetConfig,
        *,
        operations: Any = torch.nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        attention: Attention | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self._attention = attention or scaled_dot_product
        make = Factory(operations, device, dtype)
        emb = 4 * config.model_channels
        self.feature_extractor = condition_extractor(config, make)
        self.time_embed = nn.Sequential(make.linear(config.model_channels, emb), nn.SiLU(), make.linear(emb, emb))
        self.input_blocks, widths = self._encoder(emb, make)
        width, deepest = widths[-1], len(config.channels) - 1
        self.middle_block = UNetStage(
            [TimeResBlock(width, width, emb, make), self._swin(deepest, make), TimeResBlock(width, width, emb, make)]
        )
        self.output_blocks = self._decoder(emb, widths, make)
        head = config.channels[0]
        self.out = nn.Sequential(make.norm(head), nn.SiLU(), zero_weights(make.conv3(head, config.latent_channels)))

    def forward(self, x: Tensor, timesteps: Tensor, lq: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the predicted clean latent, like x.

        x: (B, C, h, w) latent divided by sqrt(kappa^2 eta_t + 1); timesteps: (B,) indices 0..T-1, integer or float;
        lq: (B, 3, h f, w f) LR image in [-1, 1] with f = lq_factor; mask: (B, 1, h f, w f), 1 = unknown, -1 = known.
        """
        skips, emb = self._encode(x, timesteps, lq, mask)
        h = self.middle_block(skips[-1], emb)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), emb)
        h = group_norm(self.out[0], h.to(torch.promote_types(h.dtype, torch.float32)))
        return self.out[1:](h).to(x.dtype)  # (B, C, h, w)

    def features(
        self, x: Tensor, timesteps: Tensor, lq: Tensor, mask: Tensor | None = None, *, taps: tuple[int, ...] = ()
    ) -> list[Tensor]:
        """Returns what the time-aware discriminator sees: every downsampling's output, the last level's, the middle's.

        For the published size these are input blocks 3, 6, 9, 11 and the middle block (TAD-SR, eq. 9). `taps` chooses among
        them by place; none: all.
        """
        skips, emb = self._encode(x, timesteps, lq, mask)
        maps = [h for h, block in zip(skips, self.input_blocks) if isinstance(next(block.children()), UNetDownsample)]
        maps += [skips[-1], self.middle_block(skips[-1], emb)]
        return [maps[tap] for tap in taps] if taps else maps

    def _encode(self, x: Tensor, timesteps: Tensor, lq: Tensor, mask: Tensor | None) -> tuple[list[Tensor], Tensor]:
        condition = self._condition(x, lq, mask)
        # The published inference keeps the time MLP and the head in float32 whatever the blocks run in.
        emb = self.time_embed(timestep_embedding(timesteps, self.config.model_channels)).to(x.dtype)  # (B, 4D)
        h = torch.cat([x, self.feature_extractor(condition.to(x.dtype))], dim=1)
        outputs: list[Tensor] = []
        for block in self.input_blocks:
            h = block(h, emb)
            outputs.append(h)
        return outputs, emb

    def _condition(self, x: Tensor, lq: Tensor, mask: Tensor | None) -> Tensor:
        config = self.config
        if x.shape[1] != config.latent_channels or any(side % config.size_multiple for side in x.shape[2:]):
            raise ValueError(
                f"Expected a latent of {config.latent_channels} channels with sides that are multiples of "
                f"{config.size_multiple}, got {tuple(x.shape)}. Pad the image first."
            )
        if (mask is not None) != config.has_mask:
            raise ValueError(
                f"This {config.family} network {'needs' if config.has_mask else 'takes no'} mask. "
                f"{'Connect one' if config.has_mask else 'Leave it out, or load an inpainting network'}."
            )
        size = tuple(side * config.lq_factor for side in x.shape[2:])
        condition = lq if mask is None else torch.cat([lq, mask.to(lq.dtype)], dim=1)
        if lq.shape[1] != 3 or tuple(lq.shape[2:]) != size:
            raise ValueError(f"Expected an LR condition of 3 channels and size {size}, got {tuple(lq.shape)}.")
        return condition

    def _swin(self, level: int, make: Factory) -> SwinLayer:
        config = self.config
        return SwinLayer(config.channels[level], config.swin, config.resolution(level), self._attention, make)

    def _encoder(self, emb: int, make: Factory) -> tuple[nn.ModuleList, list[int]]:
        """The input blocks and the channels of their outputs."""
        config = self.config
        blocks: list[nn.Module] = [UNetStage([make.conv3(config.in_channels, config.channels[0])])]
        widths = [config.channels[0]]
        for level, (out, count) in enumerate(zip(config.channels, config.blocks)):
            for i in range(count):
                layers: list[nn.Module] = [TimeResBlock(widths[-1], out, emb, make)]
                if i == 0 and config.has_swin[level]:
                    layers.append(self._swin(level, make))
                blocks.append(UNetStage(layers))
                widths.append(out)
            if level + 1 < len(config.channels):
                blocks.append(UNetStage([UNetDownsample(out, out, make)]))
                widths.append(out)
        return nn.ModuleList(blocks), widths

    def _decoder(self, emb: int, skip_widths: list[int], make: Factory) -> nn.ModuleList:
        config = self.config
        skips = list(skip_widths)
        width = skips[-1]
        blocks: list[nn.Module] = []
        for level in reversed(range(len(config.channels))):
            for i in range(config.blocks[level] + 1):
                layers: list[nn.Module] = [TimeResBlock(width + skips.pop(), config.channels[level], emb, make)]
                width = config.channels[level]
                if i == 0 and config.has_swin[level]:
                    layers.append(self._swin(level, make))
                if level > 0 and i == config.blocks[level]:
                    layers.append(UNetUpsample(width, make))
                blocks.append(UNetStage(layers))
        return nn.ModuleList(blocks)
