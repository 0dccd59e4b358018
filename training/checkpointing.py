"""Gradient checkpointing: parts of a network that keep what enters them, and are computed again when gradients are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar, cast

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

Out = TypeVar("Out")


def recompute(parts: Iterable[nn.Module]) -> None:
    """Lets each part keep its inputs only (Chen et al. 2016); results and gradients stay the same bit for bit.

    For parts without random numbers and without state that a forward changes.
    """
    for part in parts:
        part.forward = partial(again, part.forward)  # type: ignore[method-assign]


def again(function: Callable[..., Out], *inputs: object, **options: Any) -> Out:
    """Calls a function and forgets what happened inside, which is computed again when gradients are wanted."""
    if not torch.is_grad_enabled():
        return function(*inputs, **options)
    kept = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False, **options)
    return cast("Out", kept)
