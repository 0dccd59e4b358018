"""A small ResShift network and its VQ autoencoder with the published keys, weights made here: for tests and trials."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ...models.residual_unet import ResidualUNet, ResidualUNetConfig
from ...models.swin import SwinConfig
from ...models.vq_autoencoder import VQAutoencoder, VQConfig

SMALL_TEACHER, SMALL_VQ = "small_resshift_s4.safetensors", "small_vq_f4.safetensors"
UNET = ResidualUNetConfig(3, 32, (32, 32), (1, 1), (True, True), SwinConfig(32, 2, 2, 4, 64), 0, False)
VQ = VQConfig(32, (32, 32, 32), (1, 1, 1), 3, 3, 3, 64)


def put_small_resshift(base: Path) -> None:
    """Writes both into a host's model folders."""
    for folder, name, weights in (("one_step", SMALL_TEACHER, small_teacher()), ("autoencoder", SMALL_VQ, small_vq())):
        path = base / "models" / "adaptivesr" / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(weights, path)


def small_teacher(seed: int = 0) -> dict[str, Tensor]:
    """A denoiser on latents that are multiples of 8 cells."""
    return _random(ResidualUNet(UNET), seed, 0.05)


def small_vq(seed: int = 1) -> dict[str, Tensor]:
    """An autoencoder of four pixels per cell and 64 codes of deviation 1."""
    weights = _random(VQAutoencoder(VQ), seed, 0.1)
    codes = torch.randn(VQ.codes, VQ.latent_channels, generator=torch.Generator().manual_seed(seed))
    return {**weights, "quantize.embedding.weight": codes}


def _random(network: nn.Module, seed: int, spread: float) -> dict[str, Tensor]:
    """Kernels N(0, spread^2), norms 1, biases 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.ndim > 1:
                    parameter.normal_(0, spread, generator=generator)
                else:
                    parameter.fill_(1.0 if isinstance(module, nn.GroupNorm) and name == "weight" else 0.0)
    return {key: value.contiguous() for key, value in network.state_dict().items()}
