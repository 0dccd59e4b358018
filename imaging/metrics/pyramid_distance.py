"""NLPD, the distance of normalised Laplacian pyramids (Laparra et al. 2016): how far apart two pictures are to the eye.

Written out here, and tested against pyiqa's numbers, because gains are measured on the upscaling path, which must not need pyiqa: it
is licensed for non-commercial use only, and takes seconds to import.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..transfer import upload

BLUR = (0.05, 0.25, 0.4, 0.25, 0.05)
"""Burt and Adelson's filter with a = 0.4."""

LEVELS = (
    (0.0248, 0.1015, 0.1011, 0.1460, 0.1493),
    (0.0185, 0.0837, 0.0757, 0.1846, 0.1986),
    (0.0179, 0.0467, 0.0477, 0.2243, 0.2138),
    (0.0191, 0.0, 0.0, 0.2616, 0.2503),
    (0.0220, 0.0, 0.0, 0.2552, 0.2598),
    (0.2782, 0.0, 0.0, 0.0717, 0.2215),
)
"""Constant and weights of the upper, lower, left and right neighbour in each level's gain control, as the authors fitted them."""


def pyramid_distance(x: Tensor, reference: Tensor) -> Tensor:
    """Mean over six levels of the RMS difference of rows (N, C, h, w) about in [0, 1] -> (N,); channels count alike."""
    # All maps at once as channels of one picture: most of the time on small ones goes into the calls, not the arithmetic, and
    # convolutions of single channels are many times slower than grouped ones on a CPU.
    pictures = torch.cat([x, reference]).flatten(0, 1).unsqueeze(0)  # (1, 2 N C, h, w)
    distances: list[Tensor] = []
    for i, level in enumerate(LEVELS):
        band, pictures = _band(pictures) if i < len(LEVELS) - 1 else (pictures, pictures)
        a, b = _normalised(band, *level).reshape(2, len(x), -1)
        distances.append((a - b).square().mean(1).sqrt())
    return torch.stack(distances, dim=1).mean(1)


def _band(x: Tensor) -> tuple[Tensor, Tensor]:
    """(x without what its half-size version holds, the half-size version)."""
    line = upload(torch.tensor(BLUR, dtype=x.dtype), x.device)
    maps = x.shape[1]
    blur = torch.outer(line, line).expand(maps, 1, -1, -1).contiguous()
    rows, columns = (_mirrored(length, x.device) for length in x.shape[-2:])
    low = F.conv2d(x.index_select(-2, rows).index_select(-1, columns), blur, stride=2, groups=maps)
    # Four times the blur, since three of four cells are zeros; the first four cells belong to the padding.
    large = F.conv_transpose2d(F.pad(low, (1, 1, 1, 1), mode="replicate"), 4 * blur, stride=2, groups=maps)
    return x - large[..., 4 : 4 + x.shape[-2], 4 : 4 + x.shape[-1]], low


def _mirrored(length: int, device: torch.device) -> Tensor:
    """Positions of a line extended by two on both sides, mirrored so that its ends repeat."""
    place = torch.arange(-2, length + 2, device=device) % (2 * length)
    return torch.where(place < length, place, 2 * length - 1 - place)


def _normalised(band: Tensor, constant: float, up: float, down: float, left: float, right: float) -> Tensor:
    """Each cell divided by the constant and the weighted magnitudes of its neighbours, zero beyond the border."""
    p = F.pad(band.abs(), (1, 1, 1, 1))
    vertical = up * p[..., :-2, 1:-1] + down * p[..., 2:, 1:-1]
    horizontal = left * p[..., 1:-1, :-2] + right * p[..., 1:-1, 2:]
    return band / (constant + vertical + horizontal)
