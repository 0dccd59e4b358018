"""STABLESR and how it is loaded and put into a MODEL."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

import comfy.conds
import comfy.model_base
import comfy.sd
import folder_paths
import node_helpers
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor

from ...models import registry
from ...models.latent_control import EMBEDDED_CHANNELS
from ...models.state_dict import StateDict, UnsupportedModelError
from ...models.struct_parts import (
    DENOISER,
    MODULATION,
    StructParts,
    StructPartsConfig,
    base_prediction,
    describe_other,
    select_parts,
)
from .. import files
from ..loading import Loaded, Recipe, base_model, file_patcher
from .patch import LR_LATENT, PARTS, StructPatch, other_block_patches, residual_blocks

OTHER_BASES = {768: "Stable Diffusion 1.x", 2048: "SDXL"}
"""Families by the width of their prompts; SD 1.x has the same residual blocks as 2.1 and is only known by it."""
BASES = {"v": "SD 2.1 768 (v)", "eps": "SD 2.1 base 512 (eps) or SD Turbo", None: "the base it was trained on"}
"""What a file goes with, by what that predicts."""
_V_NAMES, _EPS_NAMES = ("768v", "768_v"), ("512", "turbo", "000117")

RECIPE = Recipe(select_parts)


@dataclass(frozen=True)
class LoadedStableSR(Loaded):
    """What STABLESR carries: encoder and SFT layers, and what the base is expected to predict ('eps', 'v' or unknown)."""

    summary: str
    prediction: str | None

    @property
    def parts(self) -> StructParts:
        """The networks."""
        return self.patcher.model


def load_stablesr(name: str) -> LoadedStableSR:
    """The encoder and the SFT layers of a checkpoint, whatever else it holds.

    Raises UnsupportedModelError with a sentence when the file is damaged or of another kind.
    """
    return loaded_from_file(files.find_file(files.STABLESR, name), name)


def loaded_from_file(path: str, name: str) -> LoadedStableSR:
    """As `load_stablesr`, of a file by its path."""
    return _parts_of(files.load_file(path), path, name)


def _parts_of(weights: StateDict, path: str, name: str) -> LoadedStableSR:
    identified = _identified(weights, name)
    prediction = base_prediction(weights)
    known = f"the file's denoiser predicts {prediction}" if prediction else "the file holds no denoiser"
    guess = prediction or guess_prediction(name)
    base = "Load Embedded Base" if is_for_embedded_base(identified.config) else BASES[guess]
    return LoadedStableSR(
        file_patcher(path, RECIPE, weights=weights), f"{identified.label}; {known}. Use with {base}.", guess
    )


def load_with_base(name: str) -> tuple[LoadedStableSR, ModelPatcher, Any, VAE]:
    """As `load_stablesr`, with the MODEL, CLIP and VAE that a full checkpoint holds beside the parts; the file is read once.

    Raises UnsupportedModelError with a sentence for a file of the parts alone, too.
    """
    path = files.find_file(files.STABLESR, name)
    weights = files.load_file(path)
    return _parts_of(weights, path, name), *_base_of(weights, name)


def _base_of(weights: StateDict, name: str) -> tuple[ModelPatcher, Any, VAE]:
    """By the host's own loader."""
    if not any(key.startswith(DENOISER) and MODULATION not in key for key in weights):
        embedded = is_for_embedded_base(StructPartsConfig.from_state_dict(weights))
        raise UnsupportedModelError(
            f"'{name}' holds StableSR's parts alone: expected a full checkpoint such as stablesr_000117.ckpt for load_base; switch it off "
            f"and take MODEL and VAE from {'Load Embedded Base' if embedded else 'Load Checkpoint'}."
        )
    try:
        found = comfy.sd.load_state_dict_guess_config(
            dict(weights), embedding_directory=folder_paths.get_folder_paths("embeddings")
        )
    except Exception as error:
        raise UnsupportedModelError(_damaged_base(name, error)) from error
    model, clip, vae = found[:3] if found else (None, None, None)
    if model is None or clip is None or vae is None:
        raise UnsupportedModelError(_damaged_base(name, None))
    return model, clip, vae


def is_for_embedded_base(config: StructPartsConfig) -> bool:
    """Whether parts read the embedded base's latents, those that ship or others."""
    return config.encoder.in_channels == EMBEDDED_CHANNELS


def _damaged_base(name: str, error: Exception | None) -> str:
    reason = f" ({' '.join(str(error).splitlines()[:1])[:150]})" if error else ""
    return (
        f"'{name}' holds a base that ComfyUI cannot load{reason}: expected UNet, text encoder and VAE of Stable Diffusion 2.1; switch "
        "load_base off and take them from Load Checkpoint, or get the file again from its publisher."
    )


def guess_prediction(name: str) -> str | None:
    """'v' or 'eps' by the published file names; None for others."""
    low = os.path.basename(name).lower()
    if any(part in low for part in _V_NAMES):
        return "v"
    return "eps" if any(part in low for part in _EPS_NAMES) else None


def _identified(weights: StateDict, name: str) -> registry.Identified[Any]:
    try:
        identified = registry.identify(weights)
        label = f"a {identified.label}"
    except UnsupportedModelError as error:
        identified, label = None, describe_other(weights)
        if select_parts(weights):
            raise UnsupportedModelError(f"'{name}': {error}") from error
    if identified is None or identified.kind != "struct_parts":
        raise UnsupportedModelError(
            f"'{name}' holds {label}: expected a StableSR checkpoint or its webui file (keys structcond_stage_model.* and "
            "*.spade.*); get one from the StableSR authors and put it into models/adaptivesr/stablesr."
        )
    return identified


def apply_stablesr(
    model: ModelPatcher,
    positive: list[Any],
    negative: list[Any],
    stablesr: LoadedStableSR,
    latent: dict[str, Any],
    strength: float,
) -> tuple[ModelPatcher, list[Any], list[Any], str]:
    """MODEL with the patch, both conditionings with the LR latent, and a remark (or ""); all unchanged at strength 0.

    Raises ValueError with a sentence for a MODEL or latent that does not fit.
    """
    check_base(model, stablesr.parts)
    samples = checked_samples(latent["samples"], stablesr.parts)
    remark = base_remark(model, stablesr)
    if strength == 0.0:
        return model, positive, negative, remark
    scaled = base_model(model).process_latent_in(samples)
    return patched(model, stablesr, strength), with_latent(positive, scaled), with_latent(negative, scaled), remark


def patched(model: ModelPatcher, stablesr: LoadedStableSR, strength: float) -> ModelPatcher:
    """A clone of the MODEL that runs the parts; a patch of the kind that it had before is replaced."""
    clone = model.clone()
    if other_block_patches(clone):
        logging.warning("StableSR Apply: the MODEL has another patch of its residual blocks, which StableSR overrules.")
    clone.set_additional_models(PARTS, [stablesr.patcher])
    for kind, wrapper in StructPatch(strength).wrappers().items():
        clone.remove_wrappers_with_key(kind, PARTS)
        clone.add_wrapper_with_key(kind, PARTS, wrapper)
    return clone


def with_latent(conditioning: list[Any], scaled: Tensor) -> list[Any]:
    """A copy of the conditioning that carries the scaled LR latent as something the host crops and batches like noise."""
    carried = comfy.conds.CONDNoiseShape(scaled)
    return [
        node_helpers.conditioning_set_values(
            [entry], {"model_conds": {**entry[1].get("model_conds", {}), LR_LATENT: carried}}
        )[0]
        for entry in conditioning
    ]


def check_base(model: ModelPatcher, parts: StructParts) -> None:
    """Raises ValueError unless the MODEL's UNet has the residual blocks that the parts have SFT layers for."""
    unet, kind = base_model(model).diffusion_model, type(base_model(model).model_config).__name__
    advice = "connect Stable Diffusion 2.1 (512 base for the 512 files, 768 for 768v) or SD Turbo."
    if is_for_embedded_base(parts.config):
        advice = "connect Load Embedded Base, or choose a StableSR file for this MODEL in Load StableSR."
    if not isinstance(unet, UNetModel):
        raise ValueError(f"StableSR Apply got a MODEL of the kind {kind}, which has no UNet: {advice}")
    context = base_model(model).model_config.unet_config.get("context_dim")
    if context in OTHER_BASES:
        raise ValueError(
            f"StableSR Apply got a MODEL of the kind {kind}, {OTHER_BASES[context]} with prompts of width {context}, and StableSR is "
            f"trained on 2.1: {advice}"
        )
    blocks = {placed.name: placed for placed in residual_blocks(unet)}
    wanted = {name: shape.channels for name, shape in parts.config.modulations}
    found = {name: placed.block.out_channels for name, placed in blocks.items()}
    other = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    deepest = 1 + max((placed.level for placed in blocks.values()), default=0)
    if other or deepest != parts.encoder.config.levels:
        where = f"they differ at {', '.join(other[:3])}" if other else "their numbers of levels differ"
        raise ValueError(
            f"StableSR Apply got a MODEL of the kind {kind} with {len(found)} residual blocks on {deepest} levels, and the STABLESR "
            f"file has SFT layers for {len(wanted)} on {parts.encoder.config.levels} ({where}): {advice}"
        )


def checked_samples(samples: Tensor, parts: StructParts) -> Tensor:
    """The LR latents (B, C, h, w) in float32; ValueError for another shape or what is not finite."""
    channels = parts.encoder.config.in_channels
    if samples.ndim != 4 or samples.shape[1] != channels:
        raise ValueError(
            f"StableSR Apply got an LR LATENT of shape {tuple(samples.shape)}: expected (batch, {channels}, height, width); "
            "encode the enlarged LR image with the VAE that belongs to the MODEL."
        )
    if not torch.isfinite(samples).all():
        raise ValueError(
            "StableSR Apply got an LR LATENT with NaN or infinite values: expected finite ones; check the image, or run the VAE in "
            "float32 (--fp32-vae)."
        )
    return samples.float()


def base_remark(model: ModelPatcher, stablesr: LoadedStableSR) -> str:
    """A warning, also logged, when the file's base predicts something else than the MODEL; keys cannot prove it."""
    types = comfy.model_base.ModelType
    predicted = {types.EPS: "eps", types.V_PREDICTION: "v"}.get(base_model(model).model_type)
    if stablesr.prediction in (None, predicted) or predicted is None:
        return ""
    remark = (
        f"This StableSR file goes with a base that predicts {stablesr.prediction}, and the MODEL predicts {predicted}: 512 and turbo "
        "files want SD 2.1 base or SD Turbo (eps), 768v files SD 2.1 768 (v)."
    )
    logging.warning("StableSR Apply: %s", remark)
    return remark
