"""The ResShift family as host objects: one MODEL patcher, one VAE, and ONE_STEP_SR which holds both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management as mm
import comfy.model_patcher
import comfy.model_sampling
import comfy.patcher_extension
import comfy.sd
import comfy.supported_models_base
import comfy.utils
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...imaging.resize import reflect_to
from ...models.compact_denoiser import CompactDenoiser
from ...models.memory import activation_bytes, decode_bytes, encode_bytes
from ...models.pixel_autoencoder import PixelAutoencoder
from ...models.pixel_denoiser import PixelDenoiser
from ...models.residual_unet import ResidualUNet
from ...models.state_dict import StateDict
from ...models.vq_autoencoder import VQAutoencoder
from ...sampling.schedules import ResidualShiftSchedule
from ...sampling.ve_coordinates import entry_at, fractional_index, sigma_of_sqrt_eta, sqrt_eta_of_sigma

LR_CONDITION = "adaptivesr_lr"
"""Key in CONDITIONING of the LR image, folded to latent size by pixel-unshuffle so that the host crops it like a latent."""


DenoiserNetwork = ResidualUNet | PixelDenoiser | CompactDenoiser

LINEAR_RATE = 0.08
"""Gains of a linear picture whose pixels are means of rearranged ones, against that of other latents: means follow the LR image,
so they change little (measured on the embedded teacher, 40 steps).
"""


class ResidualShiftLatents(comfy.latent_formats.LatentFormat):
    """Latents that are neither scaled nor shifted (ResShift: scale factor 1)."""

    scale_factor = 1.0
    half_range = 1.0
    """Greatest magnitude of usual latents, for measures of them."""

    def __init__(self, channels: int = 3, downscale: int = 4) -> None:
        self.latent_channels = channels
        self.spacial_downscale_ratio = downscale
        if channels == 3 * downscale**2:  # rearranged pixels: a preview is their mean, red then green then blue
            share = 0.5 / downscale**2
            rows = [[share if c // downscale**2 == rgb else 0.0 for rgb in range(3)] for c in range(channels)]
            self.latent_rgb_factors = rows
            self.linear_rate = LINEAR_RATE


class ResidualShiftSampling(comfy.model_sampling.X0, comfy.model_sampling.ModelSamplingDiscrete):
    """sigma = kappa sqrt(eta) / (1 - eta) in the coordinates of `sampling.ve_coordinates`; timesteps may be fractional."""

    sqrt_etas: Tensor

    def __init__(self, schedule: ResidualShiftSchedule) -> None:
        nn.Module.__init__(self)
        self.sigma_data = 1.0
        self.kappa = schedule.kappa
        self.num_timesteps = schedule.num_steps
        self.set_sigmas(torch.tensor(schedule.sigmas))
        self.register_buffer("sqrt_etas", torch.tensor(schedule.sqrt_etas, dtype=torch.float32))

    def timestep(self, sigma: Tensor) -> Tensor:
        """Network time (fractional) of noise levels of any shape."""
        place = fractional_index(sqrt_eta_of_sigma(sigma.to(self.sqrt_etas), self.kappa).flatten(), self.sqrt_etas)
        return place.view(sigma.shape).to(sigma.device)

    def sigma(self, timestep: Tensor) -> Tensor:
        """Noise level of (fractional) network times."""
        level = entry_at(timestep.to(self.sqrt_etas).flatten(), self.sqrt_etas)
        return sigma_of_sqrt_eta(level, self.kappa).view(timestep.shape).to(timestep.device)

    def percent_to_sigma(self, percent: float) -> float:
        """Noise level after a share of the schedule, as the host's other models answer it."""
        if percent <= 0.0:
            return 999999999.9
        if percent >= 1.0:
            return 0.0
        return self.sigma(torch.tensor([(1.0 - percent) * (self.num_timesteps - 1)])).item()

    def calculate_input(self, sigma: Tensor, noise: Tensor) -> Tensor:
        """(1 - eta) u, with 1 - eta written as kappa sqrt(eta) / sigma: the difference would lose digits near eta = 1."""
        share = (self.kappa * sqrt_eta_of_sigma(sigma, self.kappa) / sigma).view(-1, *[1] * (noise.ndim - 1))
        return noise * share

    def noise_scaling(self, sigma: Tensor, noise: Tensor, latent_image: Tensor, max_denoise: bool = False) -> Tensor:
        """x0 + sigma n at every level (no variance-preserving factor at the largest one)."""
        return noise * sigma.view(-1, *[1] * (noise.ndim - 1)) + latent_image


class ResidualShiftDiffusion(nn.Module):
    """`diffusion_model` of the MODEL: adds eta y to (1 - eta) u, scales, pads to the network's sizes and calls it."""

    network: DenoiserNetwork
    sqrt_etas: Tensor

    def __init__(self, network: DenoiserNetwork, schedule: ResidualShiftSchedule, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        self.kappa = schedule.kappa
        self.register_buffer("sqrt_etas", torch.tensor(schedule.sqrt_etas, dtype=torch.float32), persistent=False)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | None = None,
        control: dict[str, Any] | None = None,
        transformer_options: dict[str, Any] | None = None,
        **conditions: object,
    ) -> Tensor:
        options = transformer_options or {}
        wrappers = comfy.patcher_extension.get_all_wrappers(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, options)
        executor = comfy.patcher_extension.WrapperExecutor.new_class_executor(self._forward, self, wrappers)
        return executor.execute(x, timesteps, context, control, options, **conditions)

    def _forward(self, x: Tensor, timesteps: Tensor, *_: object, **_conditions: object) -> Tensor:
        """x holds (1 - eta) u, y and the folded LR image: (B, C + C + 3 f^2, h, w)."""
        config = self.network.config
        channels, height, width = config.latent_channels, *x.shape[-2:]
        eta = entry_at(timesteps, self.sqrt_etas.to(timesteps)).square().view(-1, 1, 1, 1)
        shifted, y, folded = x.split([channels, channels, x.shape[1] - 2 * channels], dim=1)
        scaled = (shifted + eta * y) / torch.sqrt(self.kappa**2 * eta + 1)
        multiple = config.size_multiple
        padded = height + -height % multiple, width + -width % multiple
        lq = F.pixel_shuffle(reflect_to(folded, *padded), config.lq_factor)
        x0 = self.network(reflect_to(scaled.to(x.dtype), *padded), timesteps, lq)
        return x0[..., :height, :width]


class ResidualShiftModel(comfy.model_base.BaseModel):
    """ResShift-family denoiser that runs in the host's samplers."""

    def __init__(
        self, network: DenoiserNetwork, schedule: ResidualShiftSchedule, dtype: torch.dtype, downscale: int
    ) -> None:
        config = comfy.supported_models_base.BASE({"disable_unet_model_creation": True})
        config.latent_format = ResidualShiftLatents(network.config.latent_channels, downscale)
        config.manual_cast_dtype = mm.unet_manual_cast(dtype, mm.get_torch_device())
        super().__init__(config)
        self.diffusion_model = ResidualShiftDiffusion(network, schedule, dtype).requires_grad_(False).eval()
        mm.archive_model_dtypes(self.diffusion_model)
        self.model_sampling = ResidualShiftSampling(schedule)

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        """y and the LR image ride as one noise-shaped concat condition, which the host crops with its areas and tiles."""
        y, folded = kwargs.get("concat_latent_image"), kwargs.get(LR_CONDITION)
        if y is None or folded is None:
            raise ValueError(
                "This MODEL needs the LR image in its conditioning, and the positive or negative input has none: connect "
                "both through 'ResShift Conditioning'."
            )
        noise = kwargs["noise"]
        if y.shape[-2:] != noise.shape[-2:]:
            raise ValueError(
                f"The LR image in the conditioning is for a latent of {tuple(y.shape[-2:])} cells, the sampled latent has "
                f"{tuple(noise.shape[-2:])}: sample the latent that 'ResShift Conditioning' gives."
            )
        concat = comfy.utils.resize_to_batch_size(torch.cat([y, folded.to(y)], dim=1), noise.shape[0])
        return {"c_concat": comfy.conds.CONDNoiseShape(concat.to(kwargs["device"]))}

    def memory_required(self, input_shape: Sequence[int], cond_shapes: object = None) -> float:
        """Bytes of activations for latents of input_shape (B, C, h, w), by the network's own estimate."""
        rows, _, height, width = input_shape
        network = self.diffusion_model.network
        multiple = network.config.size_multiple
        size = height + -height % multiple, width + -width % multiple
        return rows * activation_bytes(network, *size, mm.dtype_size(self.get_dtype_inference()))


class ResidualShiftVAE(comfy.sd.VAE):
    """A ResShift-family autoencoder behind the host's VAE methods (memory, batches, tiles)."""

    def __init__(self, autoencoder: VQAutoencoder | PixelAutoencoder, weights: StateDict) -> None:
        # The host's constructor tells its own file formats apart; ours is known, so only what its methods read is set.
        self.first_stage_model = autoencoder.requires_grad_(False).eval()
        self.device, self.output_device = mm.vae_device(), mm.intermediate_device()
        # Float16 first, as the papers' code: bfloat16 rounds latents so that 1.5 % of the nearest codes are others.
        self.working_dtypes = [torch.float16, torch.bfloat16, torch.float32]
        self.vae_dtype = mm.vae_dtype(self.device, self.working_dtypes)
        self.downscale_ratio = self.upscale_ratio = autoencoder.downscale
        self.latent_channels, self.latent_dim, self.output_channels = autoencoder.latent_channels, 2, 3
        self.process_input = lambda image: image * 2.0 - 1.0
        self.process_output = lambda image: image.add_(1.0).div_(2.0).clamp_(0.0, 1.0)
        self.memory_used_encode = lambda shape, dtype: self._bytes(
            encode_bytes, shape[2] // self.downscale_ratio, shape[3] // self.downscale_ratio, dtype
        )
        self.memory_used_decode = lambda shape, dtype: self._bytes(decode_bytes, shape[2], shape[3], dtype)
        self.pad_channel_value = self.size = self.downscale_index_formula = self.upscale_index_formula = None
        self.extra_1d_channel = self.format_encoded = self.audio_sample_rate = None
        self.disable_offload = self.not_video = self.handles_tiling = False
        self.crop_input = True
        self.first_stage_model.to(self.vae_dtype)
        if isinstance(autoencoder, VQAutoencoder):
            autoencoder.quantize.float()  # rounded codes have other neighbours
        mm.archive_model_dtypes(self.first_stage_model)
        self.patcher = comfy.model_patcher.CoreModelPatcher(
            self.first_stage_model, load_device=self.device, offload_device=mm.vae_offload_device()
        )
        self.first_stage_model.load_state_dict(weights, strict=True, assign=self.patcher.is_dynamic())

    def _bytes(self, estimate: Callable[..., int], height: int, width: int, dtype: torch.dtype) -> float:
        """Estimates the activations for one latent of (height, width)."""
        return max(1, estimate(self.first_stage_model, height, width, mm.dtype_size(dtype)))
