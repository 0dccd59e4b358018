"""What the training of the gain regressor and of the injection network asks of a base network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Seen:
    """What the base is shown of low-resolution pictures, in its latent scale.

    reference (B, C, h, w) is the original o that gains compare with; condition (B, P, h, w) is the map through which the base
    reads the picture, which the injection network replaces. They are the same tensor where the base reads o itself.
    """

    reference: Tensor
    condition: Tensor

    def with_condition(self, condition: Tensor) -> Seen:
        """The same pictures with another condition."""
        return Seen(self.reference, condition)


class GainBase(Protocol):
    """A frozen denoiser of a variance-exploding space (x = x0 + sigma n) with its autoencoder, at cfg 1."""

    device: torch.device
    sigmas: Tensor
    """(n + 1,) noise levels of the fixed-step chain, falling, with 0 at the end; on the CPU."""
    timesteps: tuple[float, ...]
    """n timesteps on the scale of 1000 (999 is the most noise of the model)."""
    pixels_per_cell: int
    scale: int
    """Pixels of the target along one of the low-resolution picture."""

    def see(self, lr: Tensor) -> Seen:
        """Of pictures (B, 3, H, W) in [0, 1], without gradients."""
        ...

    def encode(self, picture: Tensor) -> Tensor:
        """Latents (B, C, h, w) in the model's scale of targets (B, 3, H, W) in [0, 1], without gradients."""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) about in [0, 1], not clamped; differentiable."""
        ...

    def start(self, seen: Seen, noise: Tensor) -> Tensor:
        """Where the chain begins: (B, C, h, w) at `sigmas[0]`."""
        ...

    def predict(self, x: Tensor, sigma: Tensor, seen: Seen) -> Tensor:
        """x0 (B, C, h, w) of noisy latents at levels sigma (B,); differentiable in x and in the condition."""
        ...
