"""Exponential moving average of a module's parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Ema:
    """Averages float32 copies of the parameters; early steps count more, so that the start is soon forgotten."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values: dict[str, Tensor] = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Moves the average towards the parameters after optimiser step `step` (from 1)."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, parameter in module.named_parameters():
            self.values[name].lerp_(parameter, weight)
