"""Gradient checkpointing: parts of a network that keep what enters them, and are computed again when gradients are wanted."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute(parts: Iterable[nn.Module]) -> None:
    """Lets each part keep its inputs only (Chen et al. 2016); results and gradients stay the same bit for bit.

    For parts without random numbers and without state that a forward changes.
    """
    for part in parts:
        part.forward = partial(_again, part.forward)  # type: ignore[method-assign]


def _again(forward: object, *inputs: object, **options: object) -> object:
    if not torch.is_grad_enabled():
        return forward(*inputs, **options)  # type: ignore[operator]
    return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False, **options)  # type: ignore[arg-type]
