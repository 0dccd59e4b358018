"""The sizes in which the gain regressor and the injection network are trained."""

from __future__ import annotations

from ...models.feature_injection import PfjConfig
from ...models.gain_regressor import MmleConfig
from .config import PAPER, SMALL

SMALL_WIDTHS = (8, 8, 16, 16, 16, 16, 16)


def regressor_config(size: str, channels: int, metrics: int) -> MmleConfig:
    """PAPER: 2.19 M parameters, for the UNets of Stable Diffusion. SMALL: 0.04 M with statistics, for bases of about a million (ours)."""
    if size == PAPER:
        return MmleConfig(latent_channels=channels, metrics=metrics)
    if size == SMALL:
        return MmleConfig(channels, SMALL_WIDTHS, hidden=64, metrics=metrics, statistics=64)
    raise ValueError(f"Got the size {size!r} of a gain regressor: expected {PAPER} or {SMALL}.")


def injector_config(size: str, channels: int, metrics: int) -> PfjConfig:
    """PAPER: 4.63 M parameters, for the UNets of Stable Diffusion. SMALL: 0.06 M, for bases of about a million (ours)."""
    if size == PAPER:
        return PfjConfig(latent_channels=channels, metrics=metrics)
    if size == SMALL:
        return PfjConfig(channels, stem=16, inner=32, blocks=2, hidden=64, metrics=metrics)
    raise ValueError(f"Got the size {size!r} of an injection network: expected {PAPER} or {SMALL}.")
