"""How strongly a ControlNet speaks at a timestep: a schedule without any trained part.

Ours, from TASR's observation (section 1, fig. 1) that control in the last fifth of the chain costs detail and gives next to no fidelity:
s(t) = s_lo + (1 - s_lo) S(clamp((t - t_off) / (t_on - t_off), 0, 1)) with S(u) = u^2 (3 - 2 u).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

MIDDLE = -1
"""The level of the middle block; others count halvings of the latent's size: 0 is the latent's own."""
EARLIER = (0.0, 50.0, 100.0, 150.0)
"""By how many timesteps control at a level ends later in the chain than at level 0: structure is kept longer than texture."""
EARLIER_MIDDLE = 200.0


@dataclass(frozen=True)
class ControlSchedule:
    """Factor of the residuals over timesteps 0 (clean) to 999 (noise)."""

    s_lo: float = 0.0
    """Factor below t_off, in [0, 1]."""
    t_off: float = 200.0
    t_on: float = 400.0
    per_site: bool = False
    """Whether deep levels keep their control longer."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.s_lo <= 1.0:
            raise ValueError(f"Got s_lo {self.s_lo}: expected a share of the control from 0 to 1.")
        if self.t_on <= self.t_off:
            raise ValueError(
                f"Got t_on {self.t_on:g} and t_off {self.t_off:g}: expected t_on above t_off, since control is full at noisy "
                "timesteps and ends at clean ones."
            )

    @property
    def constant(self) -> bool:
        """Whether the factor is 1 everywhere."""
        return self.s_lo == 1.0

    def factors(self, timesteps: Tensor, level: int = 0) -> Tensor:
        """s(t) in [s_lo, 1] for timesteps (B,), float32."""
        t_off = self.t_off
        if self.per_site:
            t_off -= EARLIER_MIDDLE if level == MIDDLE else EARLIER[min(level, len(EARLIER) - 1)]
        u = ((timesteps.float() - t_off) / (self.t_on - t_off)).clamp(0.0, 1.0)
        return self.s_lo + (1.0 - self.s_lo) * u * u * (3.0 - 2.0 * u)

    def silent(self, timesteps: Tensor) -> bool:
        """Whether every factor is zero at these timesteps, at every level (the middle block is the last to fall silent)."""
        return not bool((self.factors(timesteps, MIDDLE) > 0).any())


OFF_LATE, CONSTANT, CUSTOM = "off_late", "constant", "custom"
PRESETS = {
    OFF_LATE: ControlSchedule(0.0, 200.0, 400.0),
    "drop10": ControlSchedule(0.0, 203.0, 204.0),
    "soft": ControlSchedule(0.3, 100.0, 600.0),
    CONSTANT: ControlSchedule(1.0, 0.0, 1.0),
}
"""off_late: none below 200; drop10: the hard cut of TASR's fig. 1, 10 of 50 steps (183 is the tenth, 204 the eleventh) and 4 of 20;
soft leans to fidelity."""


def level_of(size: int, full: int) -> int:
    """Halvings from a latent's side to a residual's; sizes that are no halving round to the nearest."""
    return max(0, round(math.log2(full / max(1, size))))
