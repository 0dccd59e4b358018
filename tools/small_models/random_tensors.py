"""Random weights that keep the scale of what flows through a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Draw = Callable[[torch.Size], Tensor]
"""Standard normal numbers of a shape."""


def normal(generator: torch.Generator) -> Draw:
    """Numbers of a generator, in its order."""
    return lambda size: torch.randn(size, generator=generator)


def random_tensor(key: str, shape: Iterable[int], draw: Draw) -> Tensor:
    """The tensor of a key: matrices N(0, 1 / fan in), norms 1, biases 0."""
    size = torch.Size(shape)
    if len(size) < 2:
        return torch.zeros(size) if key.endswith("bias") else torch.ones(size)
    return draw(size) * size[1:].numel() ** -0.5
