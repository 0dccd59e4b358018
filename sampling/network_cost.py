"""Arithmetic of one call of a network on one latent, counted: what tilings are compared by.

The work on n latent cells is fixed + per_cell n + per_pair n^2: timestep and text are the same for every size,
convolutions see each cell once, attention sees each pair of cells. Exact where a network's levels divide the sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkCost:
    """Floating-point operations (a multiplication and an addition are two) as a polynomial of the latent's cells."""

    fixed: float
    per_cell: float
    per_pair: float

    def __call__(self, height: int, width: int) -> float:
        """Operations for one row of a call, a latent of (height, width) cells."""
        cells = height * width
        return self.fixed + self.per_cell * cells + self.per_pair * cells**2

    def plus(self, other: NetworkCost, times: int = 1) -> NetworkCost:
        """This network, and `times` calls of another one on the same latent."""
        return NetworkCost(
            self.fixed + times * other.fixed,
            self.per_cell + times * other.per_cell,
            self.per_pair + times * other.per_pair,
        )


COUNTED: Mapping[str, NetworkCost] = {
    "SD 1.5": NetworkCost(3_007_774_720, 165_471_440, 7301.25),
    "SD 2.1": NetworkCost(3_991_797_760, 165_471_440, 7301.25),
    "SDXL": NetworkCost(52_531_036_160, 363_591_680, 2800.0),
    "ResShift": NetworkCost(22_732_800, 24_731_584, 0.0),
    "embedded one step": NetworkCost(16_384, 1_244_544, 0.0),
    "embedded teacher": NetworkCost(147_456, 1_560_960, 0.0),
    "VQ-f4 encoder": NetworkCost(0, 75_897_874, 2048.0),
    "VQ-f4 decoder": NetworkCost(0, 155_327_506, 2048.0),
    "VQ-f8 encoder": NetworkCost(0, 112_885_888, 2048.0),
    "VQ-f8 decoder": NetworkCost(0, 227_311_744, 2048.0),
}
"""On one row, by torch's counter (`dev.py bench flops`): the host's UNets with 77 tokens of text, the published ResShift
denoiser for x4, our embedded ones (the teacher's serves the first student too), and the autoencoders of its family by their downscale, whose
attention over all cells outgrows the rest."""
