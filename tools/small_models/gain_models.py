"""Small MMLE and PFJ networks with random weights, for tests and looks without trained ones."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...models.feature_injection import PfjConfig
from ...models.gain_models import GainModels, GainModelsConfig, GainModelsInfo, MetricInfo
from ...models.gain_regressor import MmleConfig

METRICS = (
    MetricInfo("psnr", 10.0, 35.0, False, True, 0.5),
    MetricInfo("nlpd", 0.0, 1.0, True, True, 0.5),
    MetricInfo("sharpness", 0.0, 4.0, False, False, 1.0),
)


def small_gain_models(
    latent: int = 4,
    condition: int = 4,
    *,
    mmle: bool = True,
    pfj: bool = True,
    fresh: bool = False,
    scale: float = 0.05,
) -> dict[str, Tensor]:
    """Tensors of a file for latents and an LR condition of these channels: random by scale, or as training starts (fresh)."""
    config = GainModelsConfig(
        MmleConfig(latent, (16,) * 7, 8, 24, len(METRICS)) if mmle else None,
        PfjConfig(condition, 16, 24, 2, 20, len(METRICS)) if pfj else None,
    )
    generator = torch.Generator().manual_seed(1)
    weights = GainModels(config).state_dict()
    for key, value in weights.items():
        fan_in = value[0].numel() if value.ndim > 1 else 0
        start = torch.randn(value.shape, generator=generator) * (fan_in**-0.5 if fan_in else 0.0)
        start = start + float(fan_in == 0 and key.endswith("weight"))
        start = torch.zeros_like(start) if key.startswith("pfj.out.") else start
        weights[key] = start if fresh else start + scale * torch.randn(value.shape, generator=generator)
    return weights


def save_gain_models(
    path: Path,
    base: tuple[str, str],
    tensors: dict[str, Tensor],
    metrics: tuple[MetricInfo, ...] = METRICS,
    *,
    t_half: float = 500.0,
    tau: float | None = None,
) -> None:
    """Writes a file for a base (identity, label), as training does."""
    save_file(tensors, path, GainModelsInfo(*base, metrics, t_half, tau).to_metadata())
