"""How much StableSR's SFT layers turn the features of the base, by timestep (StableSR, fig. 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@contextmanager
def cosines(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, float]]:
    """Inside, a model call fills the dictionary: mean cosine over cells of a branch before and after its layer, by the layer's name."""
    found: dict[str, float] = {}

    def keep(name: str, _layer: nn.Module, given: tuple[Any, ...], after: Tensor) -> None:
        before: Tensor = given[0]
        found[name] = float(F.cosine_similarity(before.float(), after.float(), dim=1).mean())

    hooks = [layer.register_forward_hook(partial(keep, name)) for name, layer in layers.items()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def told_one_time(encoder: nn.Module, t: int) -> Iterator[None]:
    """Inside, the encoder is told the same timestep whatever the call's is."""

    def instead(_encoder: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        latent, times, *rest = given
        return latent, torch.full_like(times, t), *rest

    hook = encoder.register_forward_pre_hook(instead)
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def strength(layers: Mapping[str, nn.Module], call: Callable[[int], object], times: list[int]) -> list[float]:
    """Mean cosine over all layers at each timestep; call runs the guided model at one."""
    means: list[float] = []
    for t in times:
        with cosines(layers) as found:
            call(t)
        if set(found) != set(layers):
            raise ValueError(
                f"The call ran {len(found)} of {len(layers)} SFT layers: expected all; run the guided base."
            )
        means.append(sum(found.values()) / len(found))
    return means
