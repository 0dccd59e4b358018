"""ONE_STEP_SR as `training.tad_sr.base.LatentModel`, and back: plain float32 copies that can be trained."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import cast

import comfy.model_management as mm
import torch
from torch import Tensor

from ...models.pixel_denoiser import PixelDenoiser
from ...models.residual_unet import ResidualUNet
from ...models.vq_autoencoder import VQAutoencoder
from ...training.tad_sr.base import Denoiser, LatentModel, Latents, PixelLatents, VQLatents
from ..resshift.loading import OneStepSR, one_step_from_file
from .networks import copied


def check_teacher(sr: OneStepSR, *, stage_zero: bool) -> None:
    """ValueError with a sentence for what cannot teach."""
    if sr.one_step_only:
        what = "trained on as a teacher" if stage_zero else "a teacher"
        raise ValueError(
            f"The connected model knows one step only ({sr.summary}), so it cannot be {what}: expected a multi-step model, such as "
            "ResShift's or 'embedded: teacher, 15 steps'."
        )


def check_start(start: OneStepSR, teacher: OneStepSR) -> None:
    """ValueError where a student's start is not of the teacher's architecture."""
    if start.network.config != teacher.network.config:
        raise ValueError(
            f"The student's start ({start.summary}) is another network than the teacher's ({teacher.summary}): expected the same "
            "architecture; connect a file of that kind, or nothing, to start as the teacher."
        )


def latent_model(sr: OneStepSR, device: torch.device) -> LatentModel:
    """A trainable copy of a model's denoiser and a frozen one of its autoencoder.

    To be called outside of inference mode: weights loaded by a graph cannot take part in gradients, their copies can.
    """
    return LatentModel(denoiser_copy(sr).to(device), sr.schedule, _latents(sr, device))


def denoiser_copy(sr: OneStepSR) -> Denoiser:
    """The denoiser with torch's own layers, in float32 on the CPU, with the patches of its MODEL applied."""
    source = copied(sr.patcher, "diffusion_model.network")
    weights = _weights(source, torch.float32)
    kind = type(sr.network)
    if kind not in (PixelDenoiser, ResidualUNet):
        raise ValueError(f"A {kind.__name__} cannot be distilled: expected a ResShift-family denoiser.")
    make = cast("Callable[[object], Denoiser]", kind)  # the config is of the network's own kind
    network = make(sr.network.config)
    network.load_state_dict(weights, strict=True)
    return network


def _latents(sr: OneStepSR, device: torch.device) -> Latents:
    if not isinstance(sr.vae.first_stage_model, VQAutoencoder):
        return PixelLatents()
    source = cast("VQAutoencoder", copied(sr.vae.patcher))
    autoencoder = VQAutoencoder(source.config)
    autoencoder.load_state_dict(_weights(source, sr.vae.vae_dtype), strict=True)
    return VQLatents(autoencoder.to(device, sr.vae.vae_dtype).eval())


def _weights(network: torch.nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    return {key: value.detach().to("cpu", dtype, copy=True) for key, value in network.state_dict().items()}


def autoencoder_bytes(sr: OneStepSR) -> int:
    """Bytes of the autoencoder's copy."""
    return sum(value.numel() * value.element_size() for value in sr.vae.first_stage_model.state_dict().values())


def student_weights(sr: OneStepSR, averaged: dict[str, Tensor], *, one_step: bool) -> dict[str, Tensor]:
    """What is written: the averaged weights; the embedded family says itself whether it is a student."""
    weights = copy.copy(averaged)
    if sr.is_embedded:
        weights["one_step"] = torch.tensor(float(one_step))
    return weights


def loaded_student(sr: OneStepSR, path: Path) -> OneStepSR:
    """ONE_STEP_SR of a file that was just written, with the teacher's autoencoder."""
    mm.unload_all_models()
    return one_step_from_file(str(path), path.name, sr.vae)
