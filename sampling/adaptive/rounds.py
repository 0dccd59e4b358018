"""Rounds of the region loop that are looked at late, so that nothing waits for the device, and how one is taken back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...imaging.transfer import DeferredRead
from .types import RegionWork


def defers_check(device: torch.device) -> bool:
    """Tells whether to look at a value of this device means to wait for it, and a round later does not."""
    return device.type == "cuda"


@dataclass(frozen=True)
class RoundStart:
    """What a run was when a round began."""

    x: Tensor
    last_x0: Tensor
    level: list[int]
    last_level: list[int | None]
    active: list[int]
    planned: int
    best: dict[int, Tensor]
    reasons: dict[tuple[int, int], str]
    work: RegionWork


@dataclass(frozen=True)
class UncheckedRound:
    """A round whose predictions nobody has looked at yet: how it began, which of its rows were finite, what to preview."""

    start: RoundStart
    finite: DeferredRead
    canvas: Tensor | None
