"""How much fine detail a picture or a latent has."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def laplacian_map(x: Tensor) -> Tensor:
    """Absolute four-neighbour Laplacian of (N, C, h, w), averaged over channels -> (N, h, w); beyond the border its cells repeat."""
    p = F.pad(x, (1, 1, 1, 1), mode="replicate")
    around = p[..., 1:-1, :-2] + p[..., 1:-1, 2:] + p[..., :-2, 1:-1] + p[..., 2:, 1:-1]
    return (around - 4 * x).abs().mean(1)


def sharpness(x: Tensor) -> Tensor:
    """Mean of the map of each row (N, C, h, w) -> (N,)."""
    return laplacian_map(x).flatten(1).mean(1)
