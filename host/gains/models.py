"""GAIN_MODELS: the gain regressor (MMLE) and the injection network (PFJ) of a file, and the base network they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import comfy.model_management as mm
import torch
from comfy.model_base import BaseModel
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...models.gain_models import GainModels, GainModelsConfig, GainModelsInfo, base_identity
from ...models.gain_regressor import Mmle
from ...models.memory import activation_bytes
from ...models.state_dict import UnsupportedModelError
from ...sampling.adaptive.observers import Regressor
from .. import files
from ..loading import Loaded, Recipe, base_model, file_patcher, identify_file
from ..stablesr.patch import PARTS as STABLESR_PARTS

PARTS = "adaptivesr_gain_models"
"""Key of the networks among the additional models of a MODEL that is sampled with them."""

RECIPE = Recipe(dtype=lambda _: torch.float32)


@dataclass(frozen=True)
class LoadedGainModels(Loaded):
    """What GAIN_MODELS carries: a patcher around `models.gain_models.GainModels`, and what the file says about its parts."""

    info: GainModelsInfo
    config: GainModelsConfig
    summary: str

    @property
    def network(self) -> GainModels:
        """Returns the networks, on whatever device the host has put them."""
        return self.patcher.model

    def check_base(self, model: ModelPatcher) -> None:
        """Raises UnsupportedModelError with a sentence for a MODEL other than the parts' own."""
        self.info.check_base(*base_of(model))

    def regressor(self, model: ModelPatcher, reference: Tensor) -> Regressor:
        """Returns the gain regressor for a run of MODEL on latents as the reference (M, C, h, w), loaded beside it.

        The all-in-one sampler hands the networks to the host together with the MODEL; where a SAMPLER runs in another guider they
        are loaded here, and what the host has loaded for the run is named with them, so that it stays where it is, in parts or
        whole. Raises UnsupportedModelError for another base, ValueError for latents of other channels.
        """
        self.check_base(model)
        config = self.config.mmle
        if config is None or config.latent_channels != reference.shape[1]:
            raise ValueError(
                f"The MMLE regressor is for latents of {0 if config is None else config.latent_channels} channels, the sampled ones "
                f"have {reference.shape[1]}: expected equal ones; choose the file for this MODEL."
            )
        loaded = [patcher for patcher in mm.loaded_models(only_currently_used=True) if patcher is not None]
        if not any(patcher.is_clone(self.patcher) for patcher in loaded):
            rows = activation_bytes(self.network, reference.shape[2], reference.shape[3], 4)
            mm.load_models_gpu([*loaded, self.patcher], memory_required=rows)
        network = cast("Mmle", self.network.mmle)

        def gains(x0: Tensor, last: Tensor, original: Tensor, t: Tensor, last_t: Tensor) -> Tensor:
            return network(x0.float(), last.float(), original.float(), t, last_t)

        return gains

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the gains in the networks' order."""
        return tuple(metric.name for metric in self.info.metrics)


def load_gain_models(name: str) -> LoadedGainModels:
    """Returns the parts of a file, in float32: they are small, and gains are small numbers.

    Raises UnsupportedModelError with a sentence when the file is damaged, of another kind or has no metadata.
    """
    return loaded_from_file(files.find_file(files.GAIN_MODELS, name), name)


def loaded_from_file(path: str, name: str) -> LoadedGainModels:
    """Returns the parts of the file at path, which users know as name."""
    weights, metadata = files.load_described(path)
    config = identify_file(weights, name, {GainModelsConfig: "an MMLE regressor, a PFJ network or both"}).config
    try:
        info = GainModelsInfo.from_metadata(metadata)
        info.check_parts(config)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"'{name}': {error}") from error
    summary = f"{config.label} ({', '.join(metric.name for metric in info.metrics)}). For {info.base_label}."
    return LoadedGainModels(file_patcher(path, RECIPE, weights=weights), info, config, summary)


def base_of(model: ModelPatcher) -> tuple[str, str]:
    """Identity and name, for users, of a MODEL's network; StableSR's parts count as part of it, LoRAs and fine-tunes do not."""
    network = base_model(model).diffusion_model
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    label = _kind(base_model(model))
    for extra in model.get_additional_models_with_key(STABLESR_PARTS):
        shapes |= {f"{STABLESR_PARTS}.{key}": tuple(value.shape) for key, value in extra.model.state_dict().items()}
        label = f"StableSR on {label}"
    count = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    return base_identity(shapes), f"{label} ({count:.1f} M parameters)"


def _kind(model: BaseModel) -> str:
    """Returns the host's name of a model's family, or our own class's where the host knows none."""
    name = type(model.model_config).__name__
    return type(model).__name__ if name == "BASE" else name
