"""Layers that cast their weights to their input, as a host supplies them to the networks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _cast(weight: Tensor | None, x: Tensor) -> Tensor | None:
    return None if weight is None else weight.to(x.dtype)


class Casting:
    """A namespace in the place of torch.nn."""

    class Conv1d(nn.Conv1d):
        def forward(self, x: Tensor) -> Tensor:
            return self._conv_forward(x, self.weight.to(x.dtype), _cast(self.bias, x))

    class Conv2d(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return self._conv_forward(x, self.weight.to(x.dtype), _cast(self.bias, x))

    class Linear(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.weight.to(x.dtype), _cast(self.bias, x))

    class GroupNorm(nn.GroupNorm):
        def forward(self, x: Tensor) -> Tensor:
            return F.group_norm(x, self.num_groups, _cast(self.weight, x), _cast(self.bias, x), self.eps)

    class LayerNorm(nn.LayerNorm):
        def forward(self, x: Tensor) -> Tensor:
            return torch.layer_norm(x, self.normalized_shape, _cast(self.weight, x), _cast(self.bias, x), self.eps)
