"""Batches for distillation: good pictures and what a degradation makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ...imaging.degradation.presets import RealWorldPreset, degrade
from ..image_folder import crops, read_image

ATTEMPTS = 4
"""Tries to get a degraded batch that is finite; the public code drops samples that are not."""


class PairSource(Protocol):
    """Where batches come from; the same generator state gives the same batch."""

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
        """HR (B, 3, s f, s f) and LR (B, 3, s, s) in [-1, 1]."""
        ...


@dataclass(frozen=True)
class DegradedPairs:
    """Crops of pictures (files, or tensors (3, H, W) in [0, 1]), degraded by a preset; a `PairSource`."""

    pictures: Sequence[Path | Tensor]
    side: int
    """Of the HR crops in pixels."""
    preset: RealWorldPreset
    scale: int = 4
    reduced: bool = False
    """Whole squares of the pictures, reduced to `side` (TAD-SR's data preparation), in place of crops at full resolution."""

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
        """size pictures drawn with replacement."""
        chosen = torch.randint(len(self.pictures), (size,), generator=generator).tolist()
        for _ in range(ATTEMPTS):
            hr = (
                self._squares(chosen, generator) if self.reduced else crops(self.pictures, chosen, self.side, generator)
            )
            lr = degrade(hr, self.preset, generator, self.scale)
            if bool(lr.isfinite().all()):
                return hr * 2 - 1, lr * 2 - 1
        names = ", ".join(
            str(self.pictures[i]) if isinstance(self.pictures[i], Path) else f"picture {i + 1}" for i in chosen
        )
        raise ValueError(
            f"The degradation gave no finite pictures in {ATTEMPTS} tries; look at {names}, or choose another preset."
        )

    def _squares(self, chosen: Sequence[int], generator: torch.Generator) -> Tensor:
        """The largest square of each picture at a random place, mirrored half of the time, reduced by its mean of areas."""
        squares: list[Tensor] = []
        for index in chosen:
            entry = self.pictures[index]
            picture = entry if isinstance(entry, Tensor) else read_image(entry)
            side = max(self.side, min(picture.shape[-2:]))
            square = crops([picture], [0], side, generator)
            squares.append(F.interpolate(square, size=(self.side, self.side), mode="area"))
        return torch.cat(squares)
