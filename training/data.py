"""Batches of good pictures and of what a degradation makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..imaging.degradation.parts import filter_per_sample, gaussian_kernel, usm_sharpen
from ..imaging.degradation.presets import RealWorldPreset, degrade
from .image_folder import crops, read_image

ATTEMPTS = 4
"""Tries to get a degraded batch that is finite; TAD-SR's public code drops samples that are not."""
SMOOTH_SIGMA, SMOOTH_TAPS = 16.0, 97
"""Of the blur that leaves only slow changes, as a sky has them, in pixels."""


class PairSource(Protocol):
    """Where batches come from; the same generator state gives the same batch."""

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
        """Targets (B, 3, H, W) and low-resolution pictures (B, 3, H / scale, W / scale), both in [0, 1] on the CPU."""
        ...


@dataclass(frozen=True)
class DegradedPairs:
    """Crops of pictures (files, or tensors (3, H, W) in [0, 1]), degraded by a preset; a `PairSource`."""

    pictures: Sequence[Path | Tensor]
    side: int
    """Of the target crops in pixels."""
    preset: RealWorldPreset
    scale: int = 4
    """1: the degraded pictures are enlarged to the size of the targets."""
    reduced: bool = False
    """Whole squares of the pictures, reduced to `side` (TAD-SR's data preparation), in place of crops at full resolution."""
    sharpened: bool = False
    """Targets are sharpened after the small pictures were made of them: presets sharpen for themselves where papers do."""
    smooth_share: float | None = None
    """Share of targets that are blurred to slow changes first, which needs sides above half of SMOOTH_TAPS; None draws nothing."""

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
        """Pairs of pictures drawn with replacement."""
        return self.chosen_batch(generator, size)[1:]

    def chosen_batch(self, generator: torch.Generator, size: int) -> tuple[list[int], Tensor, Tensor]:
        """As `batch`, with the numbers of the pictures before it."""
        chosen = torch.randint(len(self.pictures), (size,), generator=generator).tolist()
        for _ in range(ATTEMPTS):
            target = self._targets(chosen, generator)
            low = degrade(target, self.preset, generator, self.scale)
            if bool(low.isfinite().all()):
                target, low = self._some_grey(target, low, generator)
                return chosen, usm_sharpen(target) if self.sharpened else target, low
        entries = [(i, self.pictures[i]) for i in chosen]
        names = ", ".join(str(entry) if isinstance(entry, Path) else f"picture {i + 1}" for i, entry in entries)
        raise ValueError(
            f"The degradation gave no finite pictures in {ATTEMPTS} tries; look at {names}, or choose another preset."
        )

    def _some_grey(self, target: Tensor, low: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Some pairs without colour, where the preset wants them; BT.601, as GFPGAN has it."""
        if not self.preset.gray:
            return target, low
        grey = (torch.rand(len(target), generator=generator) < self.preset.gray)[:, None, None, None]
        luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        plain = [torch.where(grey, (luma * side).sum(1, keepdim=True), side) for side in (target, low)]
        return plain[0], plain[1]

    def _targets(self, chosen: Sequence[int], generator: torch.Generator) -> Tensor:
        if self.reduced:
            return torch.cat([self._square(self.pictures[index], generator) for index in chosen])
        target = crops(self.pictures, chosen, self.side, generator)
        if self.smooth_share is not None:
            smooth = torch.rand(len(chosen), generator=generator) < self.smooth_share
            if bool(smooth.any()):
                kernel = gaussian_kernel(SMOOTH_TAPS, SMOOTH_SIGMA).to(target)
                target[smooth] = filter_per_sample(target[smooth], kernel[None].expand(int(smooth.sum()), -1, -1))
        return target

    def _square(self, entry: Path | Tensor, generator: torch.Generator) -> Tensor:
        """The largest square of a picture at a random place, mirrored half of the time, reduced by its mean of areas."""
        picture = entry if isinstance(entry, Tensor) else read_image(entry)
        square = crops([picture], [0], max(self.side, min(picture.shape[-2:])), generator)
        return F.interpolate(square, size=(self.side, self.side), mode="area")
