"""The recipe's generated pairs as batches for distillation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .pool import Pool


@dataclass(frozen=True)
class PoolPairs:
    """Crops of a pool, with its own mild degradation; a `PairSource`."""

    pool: Pool
    patch: int = 32
    """Side of the LR crops."""

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
        return self.pool.batch(generator, size, self.patch)
