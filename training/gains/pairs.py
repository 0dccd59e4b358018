"""Targets and low-resolution pictures for the training of the gain models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from ...imaging.degradation.parts import filter_per_sample, gaussian_kernel
from ..image_folder import crops

Degrade: TypeAlias = Callable[[Tensor, torch.Generator, int], Tensor]
"""(pictures (B, 3, H, W) in [0, 1], generator, scale) -> (B, 3, H / scale, W / scale) in [0, 1]."""

SMOOTH_SIGMA, SMOOTH_TAPS = 16.0, 97
"""Of the blur that leaves only slow changes, as a sky has them, in pixels."""


class PairSource(Protocol):
    """Where batches come from; the same generator state gives the same batch."""

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
        """Targets (B, 3, H, W) and low-resolution pictures, both in [0, 1] on the CPU."""
        ...


@dataclass(frozen=True)
class DegradedPairs:
    """Crops of pictures (files, or tensors (3, H, W) in [0, 1]), a share of them blurred to smooth ones, degraded."""

    pictures: Sequence[Path | Tensor]
    side: int
    """Side of the targets in pixels, more than half of SMOOTH_TAPS."""
    scale: int
    degrade: Degrade
    smooth_share: float = 0.0

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
        """size crops of pictures drawn with replacement."""
        chosen = torch.randint(len(self.pictures), (size,), generator=generator).tolist()
        target = crops(self.pictures, chosen, self.side, generator)
        smooth = torch.rand(size, generator=generator) < self.smooth_share
        if bool(smooth.any()):
            kernel = gaussian_kernel(SMOOTH_TAPS, SMOOTH_SIGMA).to(target)
            target[smooth] = filter_per_sample(target[smooth], kernel[None].expand(int(smooth.sum()), -1, -1))
        return target, self.degrade(target, generator, self.scale)
