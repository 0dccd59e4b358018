"""The host's own Stable Diffusion networks as plain modules, for golden vectors, benchmarks and training without a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.cldm.cldm
import comfy.model_base
import comfy.model_management as mm
import comfy.model_patcher
import comfy.model_sampling
import comfy.ops
import comfy.supported_models
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor


@dataclass(frozen=True)
class UNetShape:
    """Sizes of a Stable Diffusion UNet; the defaults are SD 2.1's."""

    model_channels: int = 320
    channel_mult: Sequence[int] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attention_factors: Sequence[int] = (1, 2, 4)
    """Downsampling factors at which residual blocks are followed by a transformer of depth 1."""
    num_head_channels: int = 64
    context_dim: int = 1024
    in_channels: int = 4
    middle_transformer: int = 1
    """Depth; -1: the middle block is a single residual block."""

    def arguments(self) -> dict[str, Any]:
        """What encoder and decoder of the host take in common."""
        levels = range(len(self.channel_mult))
        depth = [1 if 2**level in self.attention_factors else 0 for level in levels]
        return {
            "image_size": 32,
            "in_channels": self.in_channels,
            "model_channels": self.model_channels,
            "num_res_blocks": [self.num_res_blocks] * len(self.channel_mult),
            "channel_mult": list(self.channel_mult),
            "transformer_depth": [depth[level] for level in levels for _ in range(self.num_res_blocks)],
            "transformer_depth_middle": self.middle_transformer,
            "context_dim": self.context_dim,
            "use_linear_in_transformer": True,
            "num_head_channels": self.num_head_channels,
            "use_spatial_transformer": True,
            "legacy": False,
        }

    def depth_output(self) -> list[int]:
        """Transformer depth behind each residual block of the decoder, shallowest level first."""
        levels = range(len(self.channel_mult))
        depth = [1 if 2**level in self.attention_factors else 0 for level in levels]
        return [depth[level] for level in levels for _ in range(self.num_res_blocks + 1)]

    def whole(self) -> dict[str, Any]:
        """What the host's UNet takes, its decoder included."""
        return {
            **self.arguments(),
            "transformer_depth_output": self.depth_output(),
            "out_channels": self.in_channels,
        }


class EpsSampling(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS):
    """Noise levels and parametrisation of Stable Diffusion's eps models, as the host combines them."""


class VelocityUNet(UNetModel):
    """A UNet that answers noise and whose layers give v (Salimans and Ho 2022, appendix D): eps = sqrt(abar) v + sqrt(1 - abar) x.

    A narrow network need not carry the noise through its layers then. For Stable Diffusion's noise schedule.
    """

    alphas_cumprod: Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        abar = 1 / (1 + EpsSampling().get_buffer("sigmas").float().square())
        self.register_buffer("alphas_cumprod", abar, persistent=False)

    def _forward(self, x: Tensor, timesteps: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        velocity = super()._forward(x, timesteps, *args, **kwargs)
        # The host may leave the buffer on the CPU: the table goes to the device, and nothing waits for the timesteps.
        abar = self.alphas_cumprod.to(timesteps.device)[timesteps.long()].view(-1, 1, 1, 1)
        signal, noise = (share.sqrt().to(x) for share in (abar, 1 - abar))
        return signal * velocity + noise * x


def unet(
    shape: UNetShape,
    *,
    kind: type[UNetModel] = UNetModel,
    operations: Any = comfy.ops.disable_weight_init,
    **factory: Any,
) -> torch.nn.Module:
    """A denoising UNet of the host whose weights are still to be loaded: (x, timesteps, context) -> eps or v."""
    return kind(**shape.whole(), operations=operations, **factory).eval()


def autoencoder(
    channels: int = 128, channel_mult: Sequence[int] = (1, 2, 4, 4), num_res_blocks: int = 2
) -> AutoencoderKL:
    """A KL autoencoder of the host whose weights are still to be loaded; the defaults are Stable Diffusion's."""
    config = {
        "double_z": True,
        "z_channels": 4,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": channels,
        "ch_mult": list(channel_mult),
        "num_res_blocks": num_res_blocks,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    return AutoencoderKL(embed_dim=4, ddconfig=config).eval()


def base_model(shape: UNetShape, **changes: Any) -> Any:
    """A MODEL of the Stable Diffusion 2 family that predicts eps, on the host's device; its weights are still to be set."""
    device = mm.get_torch_device()
    config = comfy.supported_models.SD20({**shape.whole(), "adm_in_channels": None, **changes})
    model = comfy.model_base.BaseModel(config, device=device)
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=device)


class _NoHintEncoder(torch.nn.Module):
    """In the place of the hint encoder: nothing is added behind the first convolution."""

    def forward(self, hint: Tensor, emb: Tensor, context: Tensor) -> None:
        return None


class LatentControlNetwork(comfy.cldm.cldm.ControlNet):
    """The host's ControlNet that reads [z_t, z_lr] in its first convolution (DiffBIR, section 3.3)."""

    def __init__(self, arguments: Mapping[str, Any], *, operations: Any, **factory: Any) -> None:
        super().__init__(**arguments, hint_channels=3, operations=operations, **factory)
        self.input_hint_block = _NoHintEncoder()

    def forward(
        self, x: Tensor, hint: Tensor, timesteps: Tensor, context: Tensor, y: Tensor | None = None, **kwargs: Any
    ) -> dict[str, list[Tensor]]:
        """Residuals for x (B, 4, h, w) and the LR latent (B or 1, 4, h, w), shallow to deep, and the middle block's."""
        both = torch.cat([x, hint.to(x).expand(x.shape[0], -1, -1, -1)], dim=1)
        return super().forward(both, hint, timesteps, context, y=y, **kwargs)


def controlnet(
    shape: UNetShape | Mapping[str, Any], *, operations: Any = comfy.ops.disable_weight_init, **factory: Any
) -> LatentControlNetwork:
    """A DiffBIR-type ControlNet for that UNet (or from the host's arguments), whose weights are still to be loaded."""
    arguments = {**shape.arguments(), "in_channels": 2 * shape.in_channels} if isinstance(shape, UNetShape) else shape
    return LatentControlNetwork(arguments, operations=operations, **factory).eval()
