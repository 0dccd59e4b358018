"""Peak activations of one forward, per image: what a host needs to plan how many tiles enter a call."""

from __future__ import annotations

from torch import nn

from . import noise_predictor, residual_unet_config, time_aware_adapter_config, vq_autoencoder
from .noise_predictor import NoisePredictor
from .pixel_denoiser import PixelDenoiser, PixelDenoiserConfig
from .residual_unet import ResidualUNet
from .time_aware_adapter import TimeAwareAdapters
from .vq_autoencoder import VQAutoencoder


def activation_bytes(network: nn.Module, height: int, width: int, dtype_size: int) -> int:
    """Upper estimate for one latent of (height, width) cells, without gradients; the dearer direction of an autoencoder.

    Networks without an estimate of their own (the parameter-free pixel autoencoder) count as nothing.
    """
    match network:
        case ResidualUNet():
            return residual_unet_config.activation_bytes(network.config, height, width, dtype_size)
        case VQAutoencoder():
            return max(
                vq_autoencoder.encode_bytes(network.config, height, width, dtype_size),
                vq_autoencoder.decode_bytes(network.config, height, width, dtype_size),
            )
        case NoisePredictor():
            return noise_predictor.activation_bytes(network.config, height, width, dtype_size)
        case PixelDenoiser():
            return _pixel_denoiser_bytes(network.config, height, width, dtype_size)
        case TimeAwareAdapters():
            return time_aware_adapter_config.activation_bytes(network.config, height, width, dtype_size)
        case _:
            return 0


def _pixel_denoiser_bytes(config: PixelDenoiserConfig, height: int, width: int, dtype_size: int) -> int:
    """Trunk (first, state, one block's two maps), five latents, and the refinement's input and two maps at twice the size."""
    trunk = 4 * config.channels
    latents = 5 * config.latent_channels
    refine = 4 * (config.feature_channels + 24 + 2 * config.refine_channels)
    return (trunk + latents + refine) * height * width * dtype_size
