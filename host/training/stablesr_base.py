"""The host's networks as `training.stablesr.run.GuidedBase`: frozen copies, with the product's own patch for the parts that learn."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

import comfy.model_sampling
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor, nn

from ...models.latent_control import LATENT_CHANNELS
from ...models.struct_parts import StructParts
from ...training.checkpointing import again, recompute
from ...training.stablesr.run import GuidedBase
from ..stablesr.patch import BlockPatch, Features, residual_blocks
from .networks import FrozenNetworks, frozen_parts


class FrugalPatch(BlockPatch):
    """The product's patch, which keeps no more of a residual block than what enters it."""

    def __call__(self, block: Any, *given: Any) -> Tensor:
        return again(super().__call__, block, *given)


class GuidedNetworks(FrozenNetworks, GuidedBase):
    """A frozen Stable Diffusion under one prompt, guided by parts that may learn."""

    predicts_v = False
    frugal = False
    """Whether residual blocks are computed again on the way back."""
    text: Tensor
    _unet: UNetModel

    def save_memory(self) -> None:
        """Gradient checkpointing of the UNet's blocks and of the encoder."""
        self.frugal = True
        recompute(layer for layer in self._unet.modules() if isinstance(layer, SpatialTransformer))

    def predict(self, parts: StructParts | None, x_t: Tensor, t: Tensor, z_lr: Tensor) -> Tensor:
        """The UNet's output (B, C, h, w)."""
        text = self.text.to(self.device).expand(len(x_t), -1, -1)
        with self.cast():
            if parts is None:
                return self._unet(x_t, t, context=text).float()
            features = Features(again(parts.encoder, z_lr, t) if self.frugal else parts.encoder(z_lr, t))
            kind = FrugalPatch if self.frugal else BlockPatch
            with kind(self._unet, parts, features, 1.0).in_call({}) as options:
                return self._unet(x_t, t, context=text, transformer_options=options).float()

    @torch.no_grad()
    def branches(self, x_t: Tensor, t: Tensor) -> dict[str, Tensor]:
        """Outputs (B, C, h, w) of the bare residual branches by the block's name."""
        found: dict[str, Tensor] = {}

        def keep(name: str, _module: nn.Module, _inputs: object, h: Tensor) -> None:
            found[name] = h.float()

        with ExitStack() as stack:
            for placed in residual_blocks(self._unet):
                hook = placed.block.out_layers.register_forward_hook(partial(keep, placed.name))
                stack.callback(hook.remove)
            self.predict(None, x_t, t, x_t)
        return found

    @property
    def latent_channels(self) -> int:
        return self._unet.in_channels

    def sizes(self) -> tuple[dict[str, int], int]:
        """Channels of the residual blocks by name, and the number of levels."""
        placed = list(residual_blocks(self._unet))
        return {one.name: one.block.out_channels for one in placed}, 1 + max(one.level for one in placed)


def guided_base(model: ModelPatcher, vae: VAE, text: Tensor, precision: torch.dtype, *, frugal: bool) -> GuidedNetworks:
    """Frozen copies of MODEL (with its patches) and VAE, which passed `check_guided`; text (1, L, C) for all pictures."""
    base = GuidedNetworks(*frozen_parts(model, vae), precision)
    base.predicts_v = predicts_v(model)
    base.text = text
    if frugal:
        base.save_memory()
    return base


def predicts_v(model: ModelPatcher) -> bool:
    """Whether MODEL predicts v."""
    return isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.V_PREDICTION)


def check_guided(model: ModelPatcher, vae: VAE) -> None:
    """ValueError with a sentence for a MODEL or VAE that StableSR cannot guide."""
    network, sampling = model.model.diffusion_model, model.get_model_object("model_sampling")
    channels = model.model.latent_format.latent_channels
    fits = isinstance(network, UNetModel) and network.num_classes is None and network.in_channels == channels
    if not fits or channels not in LATENT_CHANNELS:
        raise ValueError(
            f"The MODEL is a {type(network).__name__} of another kind: expected a text-to-image UNet of 4 channels without a label, as "
            "Stable Diffusion 2.1 is (512 or 768); load that checkpoint (no SDXL, no inpainting)."
        )
    if not isinstance(sampling, comfy.model_sampling.EPS):  # v prediction derives from it
        raise ValueError(
            "The MODEL predicts neither noise nor v: expected Stable Diffusion 2.1 (512: noise, 768: v), for which the loss is made."
        )
    if vae.latent_channels != channels or vae.latent_dim != 2:
        raise ValueError(
            f"The VAE has {vae.latent_channels} latent channels: expected the MODEL's {channels}; connect the checkpoint's own VAE."
        )
