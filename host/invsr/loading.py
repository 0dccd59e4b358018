"""NOISE_PREDICTOR: how it is loaded, and its network as the pipelines want it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import comfy.model_management as mm
import torch
from torch import Tensor

from ...models import registry
from ...models.memory import activation_bytes
from ...models.noise_predictor import NoisePredictorConfig
from ...models.state_dict import StateDict, UnsupportedModelError
from ...sampling.inversion import TRAINED_STARTS, parse_starts
from ...sampling.tiled.start_noise import Patches
from .. import files
from ..loading import Loaded, Recipe, file_patcher, identify_file, network_dtype
from ..runtime import rows_that_fit, to_intermediate

EXPECTED = "an InvSR noise predictor such as noise_predictor_sd_turbo_v5.pth"

STARTS_KEY = "taus"
"""Of the start steps in a file's metadata."""


@dataclass(frozen=True)
class NoisePredictorModel(Loaded):
    """What NOISE_PREDICTOR carries: a patcher of `models.noise_predictor.NoisePredictor`, and what it is in words."""

    summary: str
    dtype: torch.dtype
    """Type of the activations: that of the weights, unless the host casts them for its device."""
    starts: tuple[int, ...] = TRAINED_STARTS
    """Start steps of its training, which a file of the pack's own training names."""

    @property
    def config(self) -> NoisePredictorConfig:
        """Sizes of the network."""
        return self.patcher.model.config


class HostPredictor:
    """`sampling.tiled.protocols.StartNoisePredictor` of a patcher, which is loaded for every call: VAE and MODEL may push it out."""

    def __init__(self, model: NoisePredictorModel) -> None:
        self._model, self._patcher = model, model.patcher
        self.factor = model.config.factor

    def __call__(self, lr: Tensor, index: int, *, full_precision: bool = False) -> tuple[Tensor, Tensor]:
        dtype, device = torch.float32 if full_precision else self._model.dtype, self._patcher.load_device
        cells = lr.shape[2] // self.factor, lr.shape[3] // self.factor
        need = len(lr) * activation_bytes(self._patcher.model, *cells, mm.dtype_size(dtype))
        mm.load_models_gpu([self._patcher], memory_required=need)
        network, times = self._patcher.model, torch.full((len(lr),), float(index), device=device)
        found = network.distribution(network(lr.to(device, dtype), times))
        return to_intermediate(found.mean), to_intermediate(found.std)


def load_noise_predictor(name: str) -> NoisePredictorModel:
    """The predictor in a file of models/adaptivesr/noise_predictor.

    Raises UnsupportedModelError with a sentence when the file is damaged, of another kind or does not fit.
    """
    return loaded_from_file(files.find_file(files.NOISE_PREDICTOR, name), name)


def loaded_from_file(path: str, name: str) -> NoisePredictorModel:
    """As `load_noise_predictor`, from a path; name is what errors call it."""
    weights, metadata = files.load_described(path)
    identified = identify_file(weights, name, {NoisePredictorConfig: EXPECTED})
    stored = network_dtype(_own_tensors(weights))
    patcher = file_patcher(path, Recipe(_own_tensors), weights=weights)
    dtype = mm.unet_manual_cast(stored, patcher.load_device) or stored
    written = (metadata or {}).get(STARTS_KEY)
    if written is None:  # a published file
        return NoisePredictorModel(patcher, identified.label, dtype)
    starts = _starts(written, name)
    return NoisePredictorModel(patcher, f"{identified.label}, starts at {written}", dtype, starts)


def _starts(written: str, name: str) -> tuple[int, ...]:
    try:
        return parse_starts(written)
    except ValueError as error:
        raise UnsupportedModelError(f"'{name}', whose metadata is damaged: {error}") from error


def _own_tensors(weights: StateDict) -> StateDict:
    """The network's own tensors. Whatever else a file holds is passed over, as the published loader does; a lack is not."""
    names = registry.build(registry.identify(weights), device="meta").state_dict()
    return {key: value for key, value in weights.items() if key in names}


def with_rows(model: NoisePredictorModel, patches: Patches) -> Patches:
    """`patches` with rows 0 get as many in one call as the host's memory takes."""
    if patches.rows:
        return patches
    cells = patches.size // model.config.factor
    row = activation_bytes(model.patcher.model, cells, cells, mm.dtype_size(model.dtype))
    return replace(patches, rows=rows_that_fit(model.patcher.load_device, row))
