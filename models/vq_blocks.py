"""Blocks of the VQ autoencoder (Esser et al. 2021, VQGAN), under the names of the published weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Attention, Factory, group_norm

EPS = 1e-6  # of every GroupNorm here; the denoiser has 1e-5
SCORE_LIMIT = 2**27  # most attention scores of one image asked for in one call
DISTANCE_LIMIT = 2**24  # most position x code distances held at once, 64 MiB


class VQResnetBlock(nn.Module):
    """Two 3x3 convolutions with a residual, without time; published files name the shortcut differently."""

    def __init__(self, in_channels: int, out_channels: int, make: Factory, shortcut: str = "nin_shortcut") -> None:
        super().__init__()
        self._shortcut = shortcut
        self.norm1 = make.norm(in_channels, EPS)
        self.conv1 = make.conv3(in_channels, out_channels)
        self.norm2 = make.norm(out_channels, EPS)
        self.conv2 = make.conv3(out_channels, out_channels)
        self.add_module(shortcut, None if in_channels == out_channels else make.conv1(in_channels, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(group_norm(self.norm1, x)))
        h = self.conv2(F.silu(group_norm(self.norm2, h)))
        shortcut = self._modules[self._shortcut]
        return h + (x if shortcut is None else shortcut(x))


class AttnBlock(nn.Module):
    """Single-head attention over all positions, with a residual; queries go in chunks on large maps."""

    def __init__(self, channels: int, attention: Attention, make: Factory) -> None:
        super().__init__()
        self.attention = attention
        self.norm = make.norm(channels, EPS)
        self.q = make.conv1(channels, channels)
        self.k = make.conv1(channels, channels)
        self.v = make.conv1(channels, channels)
        self.proj_out = make.conv1(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        h = group_norm(self.norm, x)
        q, k, v = (layer(h).flatten(2).transpose(1, 2)[:, None] for layer in (self.q, self.k, self.v))  # (B, 1, hw, C)
        chunk = max(1, SCORE_LIMIT // q.shape[2])
        out = torch.cat([self.attention(part, k, v) for part in q.split(chunk, dim=2)], dim=2)
        return x + self.proj_out(out[:, 0].transpose(1, 2).reshape(x.shape))


class VQDownsample(nn.Module):
    """Halves the map; the padding is on the right and bottom only."""

    def __init__(self, channels: int, make: Factory) -> None:
        super().__init__()
        self.conv = make.conv(channels, channels, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class VQUpsample(nn.Module):
    """Doubles the map by repetition, then a convolution."""

    def __init__(self, channels: int, make: Factory) -> None:
        super().__init__()
        self.conv = make.conv3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Level(nn.Module):
    """The blocks of one resolution and the change to the next."""

    def __init__(self, in_channels: int, out_channels: int, count: int, make: Factory) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            [VQResnetBlock(in_channels if i == 0 else out_channels, out_channels, make) for i in range(count)]
        )
        self.downsample: nn.Module | None = None
        self.upsample: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        for resample in (self.downsample, self.upsample):
            x = x if resample is None else resample(x)
        return x


class Middle(nn.Module):
    """Two blocks around the attention, at latent resolution."""

    def __init__(self, channels: int, attention: Attention, make: Factory) -> None:
        super().__init__()
        self.block_1 = VQResnetBlock(channels, channels, make)
        self.attn_1 = AttnBlock(channels, attention, make)
        self.block_2 = VQResnetBlock(channels, channels, make)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Codebook(nn.Module):
    """The learned codes, (codes, channels), as a raw parameter."""

    def __init__(self, codes: int, channels: int, make: Factory) -> None:
        super().__init__()
        self.weight = make.parameter(codes, channels)
        nn.init.uniform_(self.weight, -1 / codes, 1 / codes)


class Quantizer(nn.Module):
    """Holds the codebook under its published key."""

    def __init__(self, codes: int, channels: int, make: Factory) -> None:
        super().__init__()
        self.embedding = Codebook(codes, channels, make)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest codes of z (B, C, h, w), same shape, and their indices (B, h, w); gradients pass straight to z."""
        codebook = self.embedding.weight.detach().to(z.device, torch.float32)
        positions = z.movedim(1, -1)  # (B, h, w, C)
        indices = nearest_codes(positions.detach().reshape(-1, z.shape[1]).float(), codebook)
        z_q = codebook[indices].reshape(positions.shape).movedim(-1, 1).to(z.dtype)
        # z - z.detach() is zero with gradient one: the straight-through estimator without its rounding error.
        return z_q + (z - z.detach()), indices.reshape(positions.shape[:-1])


def nearest_codes(positions: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest code (Euclidean) of every position; (N, C) and (K, C) float32 -> (N,) int64.

    Float32 and differences rather than a matrix product: half precision flips indices (also under autocast).
    """
    chunk = max(1, DISTANCE_LIMIT // codebook.shape[0])
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cat([torch.cdist(part, codebook, compute_mode=exact).argmin(1) for part in positions.split(chunk)])
