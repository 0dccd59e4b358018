"""What MMLE Gain Estimator offers, apart from what measures and decides: the host reads all schemas at its start."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ...sampling.adaptive.choices import GrowingRule


class GainBackEnd(str, Enum):
    """What gains are measured on. LATENT: predictions as they are. RGB_LINEAR: the host's linear picture of them.

    PROXIES: no metrics, distances and sharpness of predictions. VAE: decoded pictures, at every call.
    REGRESSOR: a network that was trained to tell the metrics' gains from predictions (MMLE).
    """

    LATENT = "latent"
    RGB_LINEAR = "rgb_linear"
    PROXIES = "proxies"
    VAE = "vae"
    REGRESSOR = "regressor"


@dataclass(frozen=True)
class GainLimits:
    """The expert numbers of the node; shares are of the run's steps."""

    intervals: str = "1, 2, 3, 4"
    warmup: int = 2
    patience: int = 2
    t_half: float = 500.0
    t_sat_max: float = 0.0
    min_share: float = 0.1
    max_share: float = 1.0
    tail_guard: float = 0.0
    prior: float = 1.0
    growing: str = GrowingRule.EITHER.value
