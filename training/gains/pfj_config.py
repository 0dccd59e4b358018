"""Settings of the injection network's training, frozen and saved beside every checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from ...models.feature_injection import PfjConfig
from .mmle_config import PAPER, SMALL, check_optimiser


def injector_config(size: str, channels: int, metrics: int) -> PfjConfig:
    """PAPER: 4.63 M parameters, for the UNets of Stable Diffusion. SMALL: 0.06 M, for bases of about a million (ours)."""
    if size == PAPER:
        return PfjConfig(latent_channels=channels, metrics=metrics)
    if size == SMALL:
        return PfjConfig(channels, stem=16, inner=32, blocks=2, hidden=64, metrics=metrics)
    raise ValueError(f"Got the size {size!r} of an injection network: expected {PAPER} or {SMALL}.")


@dataclass(frozen=True)
class PfjTrainConfig:
    """Defaults are ours; the paper says nothing of this training but that the base is frozen."""

    batch: int = 16
    lr: float = 5e-5
    seed: int = 0
    first_share: float = 0.2
    """Share of rows that stand for a region's first call, without gains."""
    snr_limit: float = 5.0
    pixel_weight: float = 0.1
    sampler: str = "ddpm"

    def __post_init__(self) -> None:
        check_optimiser(self.batch, self.lr, 0)
        if not 0 <= self.first_share <= 1:
            raise ValueError(f"Got first_share {self.first_share}: expected a share from 0 to 1.")

    def text(self, **more: object) -> str:
        """JSON of everything that decides a run, by which a resumed run knows its own file."""
        return json.dumps({**asdict(self), **more}, sort_keys=True)
