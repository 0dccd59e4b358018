"""The host's networks as `training.tasr.steps.FrozenBase`: copies that stay frozen, and fresh ones that learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import comfy.model_management as mm
import comfy.model_sampling
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor, nn

from ...models.latent_control import LATENT_CHANNELS
from ...models.time_aware_adapter import TimeAwareAdapters, TimeAwareAdaptersConfig
from ...models.time_aware_adapter_config import Design, lite_width
from ...training.tasr.init import controlnet_from_unet
from ..control.controlnet import LatentControl, check_base
from ..networks import LatentControlNetwork, controlnet
from .networks import FrozenNetworks, copied, frozen_parts

EMB_FACTOR = 4
"""Width of the time embedding in units of the UNet's channels."""


class TrainedFusion:
    """The patches of one model call of a training step: as `Fusion` sums them, with the gates kept for the loss."""

    def __init__(self, adapters: TimeAwareAdapters | None, residuals: dict[str, list[Any]]) -> None:
        self._adapters, self._emb = adapters, torch.empty(0)
        self._middle, self._output = residuals["middle"][0], list(residuals["output"])
        self.alphas: list[Tensor] = []
        self.patches = {"emb_patch": [self._time], "output_block_patch": [self._before_block]}

    def _time(self, emb: Tensor, channels: int, options: dict[str, Any]) -> Tensor:
        self._emb = emb
        return emb

    def _before_block(self, h: Tensor, skip: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Before a decoder block, deepest first, whose residual is the last that is left; the first has the middle block before it."""
        block = options["block"][1]
        if block == 0:
            h = self._added(0, h, h, None, self._middle)
        return h, self._added(block + 1, skip, h, skip, self._output.pop())

    def _added(self, site: int, target: Tensor, h: Tensor, skip: Tensor | None, residual: Tensor) -> Tensor:
        """target + alpha * residual (TASR gives it no number); alpha is 1 without adapters."""
        if self._adapters is None:
            return target + residual
        self.alphas.append(self._adapters.forward_site(site, h, skip, residual, self._emb))
        return target + self.alphas[-1] * residual


class HostBase(FrozenNetworks):
    """`training.tasr.steps.FrozenBase` of a frozen UNet and autoencoder of the host."""

    @property
    def latent_channels(self) -> int:
        return int(cast("UNetModel", self._unet).in_channels)

    def predict(
        self,
        controlnet: nn.Module,
        adapters: TimeAwareAdapters | None,
        z_t: Tensor,
        z_lr: Tensor,
        t: Tensor,
        text: Tensor,
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Noise (B, C, h, w) and the gates, deepest site first."""
        with self.cast():
            residuals = controlnet(z_t, z_lr, t, text)
            fusion = TrainedFusion(adapters, residuals)
            noise = self._unet(z_t, t, context=text, transformer_options={"patches": fusion.patches})
        return noise.float(), fusion.alphas


def base_of(model: ModelPatcher, vae: VAE, precision: torch.dtype) -> HostBase:
    """Frozen copies of MODEL (with its patches) and VAE, which passed `check_model`."""
    return HostBase(*frozen_parts(model, vae), precision, cast("int", vae.spacial_compression_encode()))


def check_model(model: ModelPatcher, vae: VAE) -> None:
    """ValueError with a sentence for a MODEL or VAE that TASR's training is not made for."""
    network, sampling = model.model.diffusion_model, model.get_model_object("model_sampling")
    if not isinstance(network, UNetModel):
        raise ValueError(
            f"The MODEL is a {type(network).__name__}: expected the UNet of Stable Diffusion 2.1-base, whose skips the adapters "
            "gate; load that checkpoint."
        )
    expected = model.model.latent_format.latent_channels
    if network.num_classes is not None or network.in_channels != expected or expected not in LATENT_CHANNELS:
        raise ValueError(
            f"The MODEL takes {network.in_channels} latent channels{' and a label' if network.num_classes else ''}: expected "
            "a text-to-image UNet of 4 channels without a label, as Stable Diffusion 2.1-base is (no SDXL, no inpainting)."
        )
    if isinstance(sampling, comfy.model_sampling.V_PREDICTION) or not isinstance(sampling, comfy.model_sampling.EPS):
        raise ValueError(
            "The MODEL does not predict noise: expected an eps model such as Stable Diffusion 2.1-base (512); the 768 version and "
            "DiffBIR v2.1's predict v, for which TASR has no losses."
        )
    if vae.latent_channels != expected or vae.latent_dim != 2:
        raise ValueError(
            f"The VAE has {vae.latent_channels} latent channels: expected the {expected} of the MODEL; connect the checkpoint's own VAE."
        )


def trainable_controlnet(control: Any, model: ModelPatcher) -> tuple[LatentControlNetwork, str]:
    """A ControlNet that learns, in float32 on the CPU, and where it starts: from a CONTROL_NET, or from the UNet (no control)."""
    if control is None:
        config, weights = _from_unet(copied(model, "diffusion_model"), model.model.model_config.unet_config)
        words = "the MODEL's encoder"
    else:
        config, weights = _from_control(control, model)
        words = "the given ControlNet"
    network = controlnet(config, dtype=torch.float32, device="cpu")
    network.load_state_dict(weights, strict=True)
    return network.requires_grad_(True), words


def _from_control(control: Any, model: ModelPatcher) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not isinstance(control, LatentControl):
        raise ValueError(
            f"control_net is a {type(control).__name__}: expected the CONTROL_NET of Load Time-Aware ControlNet itself (a DiffBIR or "
            "TASR file), or nothing, to start from the MODEL."
        )
    check_base(control.config, control.prediction, model.model)
    mm.load_models_gpu([control.control_model_wrapped], force_full_load=True)
    sd = cast("nn.Module", control.control_model).state_dict()
    return control.config.arguments(), {key: value.detach().float().cpu().clone() for key, value in sd.items()}


def _from_unet(unet: nn.Module, sizes: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Arguments and weights of a fresh ControlNet of the UNet's sizes (DiffBIR, section 3.3)."""
    left_out = ("transformer_depth_output", "out_channels", "in_channels", "dtype", "device")
    arguments = {key: value for key, value in sizes.items() if key not in left_out} | {
        "in_channels": 2 * sizes["in_channels"]
    }
    shapes = {key: value.shape for key, value in controlnet(arguments, device="meta").state_dict().items()}
    return arguments, controlnet_from_unet(unet.state_dict(), shapes)


def sites_of(unet: nn.Module) -> tuple[int, list[tuple[int, int]]]:
    """Channels behind the middle block, and of (feature, skip) before each decoder block, deepest first."""
    skips: list[int] = []
    for block in unet.input_blocks:  # type: ignore[union-attr]
        skips.append(_width(block, skips[-1] if skips else 0))
    hidden = skips[-1]
    sites: list[tuple[int, int]] = []
    middle = hidden
    for block in unet.output_blocks:  # type: ignore[union-attr]
        sites.append((hidden, skips.pop()))
        hidden = _width(block, hidden)
    return middle, sites


def _width(block: Any, before: int) -> int:
    """Channels that leave a block, by the last convolution that changes them."""
    first = block[0]
    found = getattr(first, "out_channels", None)
    return int(found) if found is not None else before


def fresh_adapters(unet: nn.Module, design: Design, seed: int) -> TimeAwareAdapters:
    """Adapters for every site of a UNet, at their neutral start."""
    middle, decoder = sites_of(unet)
    channels = int(unet.model_channels)  # type: ignore[arg-type]
    sizes = {"emb_channels": channels * EMB_FACTOR, "width": lite_width(channels)}
    network = TimeAwareAdapters(TimeAwareAdaptersConfig.for_channels(design, middle, decoder, **sizes))
    network.reset_parameters(torch.Generator().manual_seed(seed))
    return network
