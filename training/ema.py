"""Exponential moving average of a module's parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Ema:
    """Averages float32 copies of a module's parameters; early steps count more, so that the start is soon forgotten."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        """A module without parameters averages nothing."""
        self.module, self.decay = module, decay
        self.values: dict[str, Tensor] = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the average towards the parameters after optimiser step `step` (from 1)."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self.module.named_parameters():
            self.values[name].lerp_(parameter, weight)

    def averaged(self) -> dict[str, Tensor]:
        """The module's state with its averaged parameters, on the CPU."""
        values = {**self.module.state_dict(), **self.values}
        return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in values.items()}
