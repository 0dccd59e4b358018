"""The host's KL autoencoder as `training.cfw.run.FusedBase`: a frozen copy, with the product's own fusing for the layers that learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import comfy.latent_formats
import comfy.model_management as mm
import torch
from comfy.ldm.models.autoencoder import AutoencodingEngine
from comfy.ldm.modules.diffusionmodules.model import ResnetBlock
from comfy.sd import VAE
from torch import Tensor, nn

from ...models.cfw import CFW
from ...training.cfw.run import FusedBase
from ...training.checkpointing import recompute
from ..stablesr.cfw import fused_widths, fusing
from .networks import autocast, copied, moved

STRENGTH = 1.0
"""w while training (StableSR, section 4.1)."""


class FusedAutoencoder(FusedBase):
    """A frozen KL autoencoder of Stable Diffusion, in whose decoder layers that may learn fuse the encoder's features."""

    def __init__(
        self, network: nn.Module, into: Callable[[Tensor], Tensor], device: torch.device, precision: torch.dtype
    ) -> None:
        """into turns pictures in [0, 1] into the network's range."""
        self.device, self.precision = device, precision
        self._network = cast("AutoencodingEngine", moved(network, device, precision).requires_grad_(False))
        self._into, self._format = into, comfy.latent_formats.SD15()

    def save_memory(self) -> None:
        """Gradient checkpointing of the decoder's blocks."""
        recompute(block for block in self._network.decoder.modules() if isinstance(block, ResnetBlock))

    def widths(self) -> list[tuple[int, int]]:
        """(Encoder, decoder) channels where features are fused."""
        return fused_widths(self._network)

    def decode_fused(self, cfw: CFW | None, latent: Tensor, low: Tensor) -> Tensor:
        z = self._format.process_out(latent).to(self.device, self.precision)
        with autocast(self.device, self.precision):
            if cfw is None:
                return self._network.decode(z).float()
            with fusing(self._network, cfw, STRENGTH):
                with torch.no_grad():
                    self._network.encoder(self._into(low).to(self.device, self.precision))
                return self._network.decode(z).float()


def fused_autoencoder(vae: VAE, precision: torch.dtype, *, checkpointing: bool) -> FusedAutoencoder:
    """A frozen copy of a VAE that passed `check_vae`; to be called outside of inference mode."""
    base = FusedAutoencoder(copied(vae.patcher), vae.process_input, mm.get_torch_device(), precision)
    if checkpointing:
        base.save_memory()
    return base
