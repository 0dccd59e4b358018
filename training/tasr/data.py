"""Batches for TASR: crops of the user's pictures, degraded, each with its prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..image_folder import crops
from .degrade import degrade
from .steps import Pictures


@dataclass(frozen=True)
class DegradedCrops:
    """Pictures (files or tensors (3, H, W) in [0, 1]) with encoded prompts; a `PictureSource`."""

    pictures: Sequence[Path | Tensor]
    side: int
    """Side of the crops in pixels."""
    texts: Sequence[Tensor]
    """(1, L, C) for every picture, or one for all."""
    empty_text: Tensor | None = None

    def batch(self, generator: torch.Generator, size: int) -> Pictures:
        """size crops of pictures drawn with replacement."""
        chosen = torch.randint(len(self.pictures), (size,), generator=generator).tolist()
        target = crops(self.pictures, chosen, self.side, generator)
        condition = degrade(target, generator)
        texts = [self.texts[i if len(self.texts) > 1 else 0] for i in chosen]
        empty = [] if self.empty_text is None else [self.empty_text]
        *aligned, last = same_length([*texts, *empty]) if empty else [*same_length(texts), None]
        return Pictures(target, condition, torch.cat([text for text in aligned if text is not None]), last)


def same_length(texts: Sequence[Tensor]) -> list[Tensor]:
    """Texts (1, L, C) repeated to the least common length, which changes nothing in cross-attention."""
    length = math.lcm(*(text.shape[1] for text in texts))
    return [text.repeat(1, length // text.shape[1], 1) for text in texts]
