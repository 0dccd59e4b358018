"""Batches for TASR: crops of the user's pictures, degraded, each with its prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import DegradedPairs
from .steps import PromptedBatch


@dataclass(frozen=True)
class PromptedPairs:
    """Degraded pairs at one size with the encoded prompts of their pictures; a `PromptedSource`."""

    pairs: DegradedPairs
    texts: Sequence[Tensor]
    """(1, L, C) for every picture, or one for all."""
    empty_text: Tensor | None = None
    clean: Callable[[Tensor], Tensor] | None = None
    """Cleans conditions (B, 3, H, W) in [0, 1], as the public code does; the paper encodes the LR picture as it is."""

    def batch(self, generator: torch.Generator, size: int) -> PromptedBatch:
        """size crops of pictures drawn with replacement."""
        chosen, target, condition = self.pairs.chosen_batch(generator, size)
        if self.clean is not None:
            condition = self.clean(condition)
        texts = [self.texts[i if len(self.texts) > 1 else 0] for i in chosen]
        if self.empty_text is None:
            return PromptedBatch(target, condition, torch.cat(same_length(texts)), None)
        *aligned, empty = same_length([*texts, self.empty_text])
        return PromptedBatch(target, condition, torch.cat(aligned), empty)


def same_length(texts: Sequence[Tensor]) -> list[Tensor]:
    """Texts (1, L, C) repeated to the least common length, which changes nothing in cross-attention."""
    length = math.lcm(*(text.shape[1] for text in texts))
    return [text.repeat(1, length // text.shape[1], 1) for text in texts]
