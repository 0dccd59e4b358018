"""Parts shared by the networks: injected layer factories, float32 normalisation, attention, time embedding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(Protocol):
    """Attention on (B, heads, L, d) tensors; the mask is additive and broadcasts to (B, heads, L, L)."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor: ...


def scaled_dot_product(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Returns softmax(q k^T / sqrt(d) + mask) v, all (B, heads, L, d)."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


@dataclass(frozen=True)
class Factory:
    """Makes layers from an injected namespace, so that a host can supply weights cast at use."""

    operations: Any
    device: torch.device | str | None = None
    dtype: torch.dtype | None = None

    def conv(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        padding: int = 0,
        *,
        bias: bool = True,
    ) -> nn.Module:
        place = {"device": self.device, "dtype": self.dtype}
        return self.operations.Conv2d(
            in_channels, out_channels, kernel, stride=stride, padding=padding, bias=bias, **place
        )

    def conv3(self, in_channels: int, out_channels: int, stride: int = 1) -> nn.Module:
        """A 3x3 convolution that keeps the size (or halves it, with stride 2)."""
        return self.conv(in_channels, out_channels, 3, stride, 1)

    def conv1(self, in_channels: int, out_channels: int, *, bias: bool = True) -> nn.Module:
        return self.conv(in_channels, out_channels, 1, bias=bias)

    def conv_tokens(self, in_channels: int, out_channels: int) -> nn.Module:
        """A linear layer on (B, C, L), stored as a convolution of width 1."""
        return self.operations.Conv1d(in_channels, out_channels, 1, device=self.device, dtype=self.dtype)

    def linear(self, in_features: int, out_features: int, *, bias: bool = True) -> nn.Module:
        return self.operations.Linear(in_features, out_features, bias=bias, device=self.device, dtype=self.dtype)

    def norm(self, channels: int, eps: float = 1e-5, *, groups: int = 32) -> nn.Module:
        return self.operations.GroupNorm(groups, channels, eps=eps, device=self.device, dtype=self.dtype)

    def layer_norm(self, channels: int) -> nn.Module:
        """Normalises the last axis."""
        return self.operations.LayerNorm(channels, device=self.device, dtype=self.dtype)

    def parameter(self, *shape: int) -> nn.Parameter:
        """A raw parameter; whoever uses it casts it to the dtype and device of the activations."""
        return nn.Parameter(torch.empty(shape, device=self.device, dtype=self.dtype))


def zero_weights(layer: nn.Module) -> nn.Module:
    """Zeroes a layer in place, so that the residual branch it ends starts as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def group_norm(norm: nn.Module, x: Tensor) -> Tensor:
    """Applies norm to (B, C, h, w) in float32 whatever the dtype of x, and returns the dtype of x."""
    return norm(x.to(torch.promote_types(x.dtype, torch.float32))).to(x.dtype)


def normalised_bytes(dtype_size: int) -> int:
    """Bytes that `group_norm` makes for each value on its way: the result, and in half precision its input in float32, too."""
    return 4 if dtype_size == 4 else 8


def timestep_embedding(t: Tensor, dim: int, max_period: float = 10000) -> Tensor:
    """Sinusoidal embedding of time indices, cosines first (Vaswani et al. 2017, section 3.5; Dhariwal & Nichol 2021).

    t is (B,), integer or float, not rescaled; the result is (B, dim) float32, zero-padded when dim is odd.
    """
    half = dim // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t.float()[:, None] * frequencies  # (B, dim // 2)
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, dim % 2))  # (B, dim)
