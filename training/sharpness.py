"""How much detail a picture has, differentiable."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)


def gradient_energy(image: Tensor, window: int = 8) -> Tensor:
    """Mean squared luma difference to the next pixel, per window: (B, 3, H, W) in [-1, 1] to (B, 1, H/w, W/w)."""
    luma = (image * torch.tensor(LUMA, device=image.device, dtype=image.dtype).view(1, 3, 1, 1)).sum(1, keepdim=True)
    dx, dy = luma.diff(dim=-1).square(), luma.diff(dim=-2).square()
    return F.avg_pool2d(F.pad(dx, (0, 1)) + F.pad(dy, (0, 0, 0, 1)), window)
