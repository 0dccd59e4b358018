"""What the widgets of Train MMLE and Train PFJ mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from ...training.gains.mmle_config import PAPER, MmleTrainConfig
from ...training.gains.pfj_config import PfjTrainConfig
from .files import START_ANEW
from .gains_base import ChainSettings

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
OFFLINE = "psnr, sharpness"


@dataclass(frozen=True)
class GainTrainSettings:
    """What the nodes' widgets say beyond the configs of the runs."""

    steps: int
    """Optimiser steps of this execution, on top of those of a resumed run."""
    name: str = "gain"
    resume: str = START_ANEW
    size: str = PAPER
    crop: int = 512
    degradation: str = "real-esrgan"
    smooth_share: float = 0.1
    calls: int = 40
    denoise: float = 1.0
    sampler: str = "ddpm"
    precision: str = "float32"
    save_every: int = 500
    trajectories: int = 200
    metrics: str = OFFLINE

    @property
    def samplers(self) -> tuple[str, ...]:
        """Those of the trajectories; one, or several with commas."""
        return tuple(name.strip() for name in self.sampler.split(","))

    @property
    def chain(self) -> ChainSettings:
        """The fixed-step chain of the base."""
        return ChainSettings(self.calls, self.denoise)


def mmle_settings(steps: int, inputs: Mapping[str, Any]) -> tuple[MmleTrainConfig, GainTrainSettings]:
    """The settings that the inputs of Train MMLE mean; what is not given has its default."""
    default, own = MmleTrainConfig(), GainTrainSettings(steps)
    config = MmleTrainConfig(
        batch=inputs.get("batch_size", default.batch),
        lr=inputs.get("learning_rate", default.lr),
        schedule=inputs.get("schedule", default.schedule),
        seed=inputs.get("seed", default.seed),
        t_half=inputs.get("t_half", default.t_half),
        floor=inputs.get("visibility_floor", default.floor),
        convolutions=inputs.get("convolutions", default.convolutions),
    )
    trajectories, metrics = inputs.get("trajectories", own.trajectories), inputs.get("metrics", own.metrics)
    return config, replace(_settings_of(steps, inputs), trajectories=trajectories, metrics=metrics)


def pfj_settings(steps: int, inputs: Mapping[str, Any]) -> tuple[PfjTrainConfig, GainTrainSettings]:
    """The settings that the inputs of Train PFJ mean; what is not given has its default."""
    default, settings = PfjTrainConfig(), _settings_of(steps, inputs)
    config = PfjTrainConfig(
        batch=inputs.get("batch_size", default.batch),
        lr=inputs.get("learning_rate", default.lr),
        seed=inputs.get("seed", default.seed),
        sampler=settings.samplers[0],
    )
    return config, settings


def _settings_of(steps: int, inputs: Mapping[str, Any]) -> GainTrainSettings:
    own = GainTrainSettings(steps)
    return GainTrainSettings(
        steps,
        name=inputs.get("name", own.name),
        resume=inputs.get("resume", own.resume),
        size=inputs.get("size", own.size),
        crop=inputs.get("crop_size", own.crop),
        degradation=inputs.get("degradation", own.degradation),
        smooth_share=inputs.get("smooth_share", own.smooth_share),
        calls=inputs.get("calls", own.calls),
        denoise=inputs.get("denoise", own.denoise),
        sampler=inputs.get("sampler_name", own.sampler),
        precision=inputs.get("precision", own.precision),
        save_every=inputs.get("save_every", own.save_every),
    )
