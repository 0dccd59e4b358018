"""Copies of the host's networks that stay frozen while something beside them is trained."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Callable
from typing import Any

import comfy.model_management as mm
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor, nn

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Of frozen networks, by name."""


def precision_of(name: str) -> torch.dtype:
    """The dtype of a precision's name: float32 where the host finds no use for bfloat16 on its device, as on any CPU.

    PyTorch convolves in bfloat16 by a plain loop on CPUs without AVX-512, about a hundred times slower than in float32.
    """
    precision, device = PRECISIONS[name], mm.get_torch_device()
    # Asked as for networks that are cast to save memory: cards that only emulate it keep what the user chose.
    usable = mm.should_use_bf16(device, prioritize_performance=False, manual_cast=True)
    if precision is torch.bfloat16 and not usable:
        logging.warning("The training computes in float32: ComfyUI has no use for bfloat16 on the device %s.", device)
        return torch.float32
    return precision


def copied(patcher: ModelPatcher, part: str = "") -> nn.Module:
    """A copy of a patcher's network, or of a part of it, with real weights and with its weight patches applied.

    To be called outside of inference mode: weights loaded by a graph cannot take part in gradients, their copies can.
    """
    return copy.deepcopy(_loaded(patcher).get_submodule(part)).eval()


def copied_model(patcher: ModelPatcher) -> Any:
    """As `copied`, a MODEL's whole model: the network and the model sampling in copies, which no patcher runs."""
    model = copy.copy(_loaded(patcher))
    # The host's configuration cannot be copied deeply, and need not be: nothing writes to it.
    model.__dict__["_modules"] = {name: copy.deepcopy(module) for name, module in model.named_children()}
    model.current_patcher = None
    return model.eval()


def _loaded(patcher: ModelPatcher) -> Any:
    """The patcher's model with its weights in place."""
    source = patcher
    if patcher.is_dynamic() and getattr(patcher, "cached_patcher_init", None) is not None:
        source = patcher.clone(disable_dynamic=True)  # weights that are paged in at use cannot be copied
    mm.load_models_gpu([source], force_full_load=True)
    return source.model


def moved(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The network with its weights in dtype, those of normalisations in float32, as autocast wants them."""
    for module in network.modules():
        own = torch.float32 if isinstance(module, (nn.GroupNorm, nn.LayerNorm)) else dtype
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            tensor.data = tensor.data.to(device, own if tensor.is_floating_point() else tensor.dtype)
    return network


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """The arithmetic in which networks run beside frozen ones of a precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision is torch.bfloat16)


def weights_digest(*networks: nn.Module) -> str:
    """Changes with the weights; for the key of a cache."""
    sums = [float(value.float().sum()) for network in networks for value in network.state_dict().values()]
    return hashlib.blake2b(repr(sums).encode(), digest_size=8).hexdigest()


class FrozenAutoencoder:
    """A frozen first stage with its pixel range and its latents' scale."""

    def __init__(
        self,
        network: nn.Module,
        into: Callable[[Tensor], Tensor],
        out_of: Callable[[Tensor], Tensor],
        latent_format: Any,
    ) -> None:
        """into and out_of turn pictures in [0, 1] into the network's range and back."""
        self.network: Any = network.requires_grad_(False)  # its encode and decode are the host's
        self._into, self._out_of = into, out_of
        self._format = latent_format
        self._dtype = torch.float32

    def to(self, device: torch.device, dtype: torch.dtype) -> FrozenAutoencoder:
        moved(self.network, device, dtype)
        self._dtype = dtype
        return self

    def encode(self, picture: Tensor) -> Tensor:
        """Latents in the model's scale of pictures (B, 3, H, W) in [0, 1]."""
        return self._format.process_in(self.network.encode(self._into(picture).to(self._dtype)).float())

    def decode(self, latent: Tensor) -> Tensor:
        """Pictures of latents in the model's scale."""
        decoded = self.network.decode(self._format.process_out(latent).to(self._dtype))
        return self._out_of(decoded.float().clone())  # the host writes in place


class FrozenNetworks:
    """A frozen UNet and autoencoder of the host on one device, for trainings of what stands beside them."""

    def __init__(
        self,
        unet: nn.Module,
        sigmas: Tensor,
        autoencoder: FrozenAutoencoder,
        device: torch.device,
        precision: torch.dtype = torch.float32,
        pixels_per_cell: int = 8,
    ) -> None:
        """sigmas (T,) are the host's noise levels, sigma^2 = (1 - abar) / abar."""
        self.device, self.precision, self.pixels_per_cell = device, precision, pixels_per_cell
        self.alphas_cumprod = 1 / (1 + sigmas.float().to(device).square())
        self._unet = moved(unet, device, precision).requires_grad_(False)
        self._autoencoder = autoencoder.to(device, precision)

    def encode(self, picture: Tensor) -> Tensor:
        """Scaled latents, the mean of the posterior (the public code samples the target's, whose deviation is tiny)."""
        with torch.no_grad(), self.cast():
            return self._autoencoder.encode(picture.to(self.device)).float()

    def decode(self, latent: Tensor) -> Tensor:
        """The picture (B, 3, H, W) of scaled latents."""
        with self.cast():
            return self._autoencoder.decode(latent).float()

    def cast(self) -> torch.autocast:
        """The arithmetic in which networks run."""
        return autocast(self.device, self.precision)

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """UNet and autoencoder."""
        return self._unet, self._autoencoder.network


def frozen_parts(model: ModelPatcher, vae: VAE) -> tuple[nn.Module, Tensor, FrozenAutoencoder, torch.device]:
    """What `FrozenNetworks` are made of: copies of MODEL (with its patches) and VAE, and the host's device.

    To be called outside of inference mode: weights loaded by a graph cannot take part in gradients, their copies can.
    """
    unet = copied(model, "diffusion_model")
    autoencoder = FrozenAutoencoder(
        copied(vae.patcher), vae.process_input, vae.process_output, model.model.latent_format
    )
    sampling: Any = model.get_model_object("model_sampling")
    return unet, sampling.sigmas.clone(), autoencoder, mm.get_torch_device()
