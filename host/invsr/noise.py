"""InvSR on the host: NOISE and SIGMAS for the host's own samplers, from a predictor and a MODEL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.model_sampling
import comfy.sample
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...sampling.inversion import StartNoise, indices, inversion_sigmas
from ...sampling.tiled.start_noise import Patches, predict_start_noise
from ..loading import base_model
from ..regions.sampler import check_latent
from ..runtime import HostRuntime, to_intermediate
from .loading import HostPredictor, NoisePredictorModel, with_rows

CONTEXT_DIM, TIMESTEPS = 1024, 1000
BASE = "SD-Turbo (or another SD 2.x model with eps prediction)"


@dataclass(frozen=True)
class PredictedNoise:
    """NOISE of the host: the predicted start noise of one canvas."""

    noise: StartNoise
    seed: int
    strength: float

    def generate_noise(self, input_latent: dict[str, Any]) -> Tensor:
        """Noise (B, 4, h, w) for a LATENT of the size that it was predicted for."""
        shape = tuple(input_latent["samples"].shape)
        drawn = self.noise.draw(self.seed, self.strength)
        if shape[1:] != tuple(drawn.shape[1:]) or len(drawn) not in (1, shape[0]):
            raise ValueError(
                f"The NOISE of 'InvSR Noise' was predicted for a latent of shape {tuple(drawn.shape)} and the sampler got one of "
                f"{shape}: sample the latent that 'InvSR Noise' gives."
            )
        return drawn.expand(shape[0], -1, -1, -1).clone()


def check_base(model: ModelPatcher) -> nn.Module:
    """The MODEL's noise table object. Raises ValueError with a sentence for a MODEL that InvSR cannot start."""
    sampling = model.get_model_object("model_sampling")
    names = (c.__name__ for c in type(sampling).__mro__ if c.__module__ == comfy.model_sampling.__name__)
    kind = next((name for name in names if not name.startswith("ModelSampling")), "unknown")
    discrete = isinstance(sampling, comfy.model_sampling.ModelSamplingDiscrete)
    if kind != "EPS" or not discrete or len(sampling.get_buffer("sigmas")) != TIMESTEPS:
        raise ValueError(
            f"InvSR got a MODEL with '{kind}' prediction: expected eps prediction and a table of {TIMESTEPS} timesteps; "
            f"load {BASE}."
        )
    width = base_model(model).model_config.unet_config.get("context_dim")
    if width != CONTEXT_DIM:
        raise ValueError(
            f"InvSR got a MODEL whose text has {width or 'no'} channels (SD 1.5 has 768, SDXL 2048): expected {CONTEXT_DIM}; "
            f"load {BASE}."
        )
    return sampling


def start_sigmas(model: ModelPatcher, taus: tuple[int, ...]) -> Tensor:
    """Noise levels of the steps, falling to 0, from the MODEL's own table. Raises as `check_base`."""
    return inversion_sigmas(taus, check_base(model).get_buffer("sigmas").float().cpu())


def noise_for(
    predictor: NoisePredictorModel,
    rgb: Tensor,
    latent: dict[str, Any],
    taus: tuple[int, ...],
    patches: Patches,
    *,
    seed: int,
    strength: float,
) -> tuple[PredictedNoise, dict[str, Any]]:
    """NOISE for the LATENT of the enlarged RGB images (B, 3, H, W), and that LATENT.

    Raises ValueError when the latent is not that of the image enlarged by the predictor's scale.
    """
    check_latent(latent["samples"])
    cells = _matching(predictor, rgb, latent["samples"])
    patches = with_rows(predictor, patches)
    noise, _ = predict_start_noise(
        to_intermediate(rgb),
        cells,
        predictor=HostPredictor(predictor),
        index=indices(taus)[0],
        patches=patches,
        runtime=HostRuntime(patches.count(rgb.shape, predictor.config.factor)),
    )
    kept = {key: value for key, value in latent.items() if not key.startswith("downscale_ratio_")}
    return PredictedNoise(noise, seed, strength), kept


def _matching(predictor: NoisePredictorModel, rgb: Tensor, samples: Tensor) -> tuple[int, int]:
    """Cells (h, w) of a latent that belongs to the images; a half cell at the end may be there or not."""
    factor, scale = predictor.config.factor, predictor.config.scale
    height, width = rgb.shape[-2:]
    cells = samples.shape[-2], samples.shape[-1]
    wanted = [{side // factor, -(-side // factor)} - {0} for side in (height, width)]
    if cells[0] not in wanted[0] or cells[1] not in wanted[1]:
        size = " x ".join(" or ".join(map(str, sorted(sides))) for sides in reversed(wanted))
        raise ValueError(
            f"Got an LR image of {width} x {height} pixels and a latent of {cells[1]} x {cells[0]} cells: expected {size} cells, the "
            f"VAE-encoded image enlarged x{scale}; for other scales resize the LR image first, then enlarge it x{scale}."
        )
    if len(rgb) not in (1, len(samples)):
        raise ValueError(
            f"Got {len(rgb)} LR images and {len(samples)} latents: expected one image, or one for each latent."
        )
    return cells
