"""Peak activations of one forward, per image: what a host needs to plan how many tiles enter a call."""

from __future__ import annotations

from torch import nn

from . import feature_injection as pfj
from . import gain_regressor as mmle
from . import noise_predictor, residual_unet_config, time_aware_adapter_config, vq_autoencoder
from .compact_denoiser import CompactDenoiser, CompactDenoiserConfig
from .gain_models import GainModels
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
        case GainModels():
            return _gain_models_bytes(network, height, width, dtype_size)
        case PixelDenoiser():
            return _pixel_denoiser_bytes(network.config, height, width, dtype_size)
        case CompactDenoiser():
            return _compact_denoiser_bytes(network.config, height, width, dtype_size)
        case TimeAwareAdapters():
            return time_aware_adapter_config.activation_bytes(network.config, height, width, dtype_size)
        case _:
            return 0


def encode_bytes(network: nn.Module, height: int, width: int, dtype_size: int) -> int:
    """As `activation_bytes`, for encoding to one latent of (height, width) cells."""
    if isinstance(network, VQAutoencoder):
        return vq_autoencoder.encode_bytes(network.config, height, width, dtype_size)
    return activation_bytes(network, height, width, dtype_size)


def decode_bytes(network: nn.Module, height: int, width: int, dtype_size: int) -> int:
    """As `activation_bytes`, for decoding one latent of (height, width) cells."""
    if isinstance(network, VQAutoencoder):
        return vq_autoencoder.decode_bytes(network.config, height, width, dtype_size)
    return activation_bytes(network, height, width, dtype_size)


def _gain_models_bytes(network: GainModels, height: int, width: int, dtype_size: int) -> int:
    """The dearer of the two parts; they never run at once."""
    config, size = network.config, (height, width, dtype_size)
    regressor = 0 if config.mmle is None else mmle.activation_bytes(config.mmle, *size)
    return max(regressor, 0 if config.pfj is None else pfj.activation_bytes(config.pfj, *size))


def _pixel_denoiser_bytes(config: PixelDenoiserConfig, height: int, width: int, dtype_size: int) -> int:
    """Trunk (first, state, one block's two maps), five latents, and the refinement's input and two maps at twice the size."""
    trunk = 4 * config.channels
    latents = 5 * config.latent_channels
    refine = 4 * (config.feature_channels + 24 + 2 * config.refine_channels)
    return (trunk + latents + refine) * height * width * dtype_size


def _compact_denoiser_bytes(config: CompactDenoiserConfig, height: int, width: int, dtype_size: int) -> int:
    """The body (input, output, and the output behind its slopes) and three latents."""
    return (3 * config.channels + 3 * config.latent_channels + 1) * height * width * dtype_size
