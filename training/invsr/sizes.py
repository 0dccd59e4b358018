"""The sizes in which noise predictors are trained."""

from __future__ import annotations

from collections.abc import Mapping

from ...models.noise_predictor import NoisePredictorConfig

PREDICTORS: Mapping[str, NoisePredictorConfig] = {
    "paper": NoisePredictorConfig((256, 512), (3, 3), 256, 512, out_channels=8, mid_attention=True),
    "small": NoisePredictorConfig((64, 128), (1, 1), 128, 256, out_channels=8, mid_attention=True),
}
"""By the names of `config.SIZES`."""
