"""Arithmetic of one call of a diffusion network on one latent, counted: what tilings are compared by.

A UNet's work on n latent cells is fixed + per_cell n + per_pair n^2: timestep and text are the same for every size,
convolutions see each cell once, attention sees each pair of cells. Exact where its levels divide the sides.
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


COUNTED: Mapping[str, NetworkCost] = {
    "SD 1.5": NetworkCost(3_007_774_720, 165_471_440, 7301.25),
    "SD 2.1": NetworkCost(3_991_797_760, 165_471_440, 7301.25),
    "SDXL": NetworkCost(52_531_036_160, 363_591_680, 2800.0),
}
"""Of the host's own UNets on one row with 77 tokens of text, by torch's counter: `dev.py bench flops`."""
