"""MODEL and VAE of the host as `training.gains.base.GainBase`: frozen copies, called at cfg 1 without the sampler's loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

import comfy.conds
import comfy.model_management as mm
import comfy.patcher_extension
import comfy.sampler_helpers
import comfy.samplers
import torch
import torch.nn.functional as F
from comfy.model_base import BaseModel
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor, nn

from ...imaging.resize import bicubic_upsample
from ...sampling.adaptive.types import NoiseSpace
from ...training.gains.base import Seen
from ..conditioning import empty_prompt
from ..gains.plan import timesteps
from ..regions.sampler import noise_space
from ..resshift.patchers import LR_CONDITION, ResidualShiftModel
from ..stablesr.patch import LR_LATENT
from ..stablesr.patch import PARTS as STABLESR_PARTS
from .networks import FrozenAutoencoder, copied, copied_model, weights_digest

UNET_SCALE = 4
"""Target pixels per low-resolution pixel for models that read a latent of the enlarged picture, as the papers have it."""


class Reads(str, Enum):
    """How a base is given the low-resolution picture."""

    FOLDED = "the folded picture beside its latents (ResShift)"
    STABLESR = "its latent through StableSR's encoder"
    START = "nothing but the start of the chain (image to image)"


@dataclass(frozen=True)
class ChainSettings:
    """The fixed-step chain: calls at evenly spaced timesteps, over a share of the schedule."""

    calls: int = 40
    denoise: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.denoise <= 1:
            raise ValueError(f"Got denoise {self.denoise}: expected a share above 0 and up to 1.")


def reads_of(model: ModelPatcher) -> Reads:
    """How MODEL reads the picture. Raises ValueError with a sentence for models that are not supported."""
    if noise_space(model.get_model_object("model_sampling")) is not NoiseSpace.VARIANCE_EXPLODING:
        raise ValueError(
            "The MODEL is a flow model: expected eps, v or x0 prediction (SD 1.x, 2.x, SDXL, ResShift), whose chains the gain models "
            "are trained on; use back ends without weights for this one."
        )
    if isinstance(model.model, ResidualShiftModel):
        return Reads.FOLDED
    if model.get_additional_models_with_key(STABLESR_PARTS):
        return Reads.STABLESR
    channels = model.model.model_config.unet_config.get("in_channels")
    if channels is not None and channels != model.model.latent_format.latent_channels:
        raise ValueError(
            f"The MODEL takes {channels} channels for latents of {model.model.latent_format.latent_channels}: expected a ResShift-type "
            "MODEL, one from StableSR Apply, or a plain text-to-image MODEL; inpainting and instruction models are not supported."
        )
    return Reads.START


def check_vae(model: ModelPatcher, vae: VAE) -> None:
    """ValueError where the VAE's latents are not the MODEL's."""
    expected = model.model.latent_format.latent_channels
    if vae.latent_channels != expected or vae.latent_dim != 2:
        raise ValueError(
            f"The VAE has {vae.latent_channels} latent channels and the MODEL {expected}: expected equal ones; connect the MODEL's "
            "own VAE."
        )


class HostGainBase:
    """See `GainBase`. Copies are made outside of inference mode, so that gradients can pass through them."""

    def __init__(
        self, model: ModelPatcher, vae: VAE, positive: list[Any] | None, chain: ChainSettings, precision: torch.dtype
    ) -> None:
        """positive None: an empty prompt. Raises ValueError for what is not supported."""
        self.reads = reads_of(model)
        check_vae(model, vae)
        self.device = mm.get_torch_device()
        self._model = _frozen(copied_model(model), self.device, precision)
        self._autoencoder = FrozenAutoencoder(
            copied(vae.patcher), vae.process_input, vae.process_output, self._model.latent_format
        ).to(self.device, precision)
        self._options, self._parts = _options(model, self.reads, self.device, precision)
        self._positive = _converted(empty_prompt(model) if positive is None else positive)
        self.sigmas = even_sigmas(self._model.model_sampling, chain).float().cpu()
        self.timesteps = tuple(timesteps(self._model.model_sampling, self.sigmas))
        self._full = chain.denoise == 1.0
        self.pixels_per_cell = cast("int", vae.downscale_ratio)
        self._fold = self._model.diffusion_model.network.config.lq_factor if self.reads is Reads.FOLDED else 0
        self.scale = self.pixels_per_cell // self._fold if self._fold else UNET_SCALE

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return int(self._model.latent_format.latent_channels)

    @property
    def condition_channels(self) -> int:
        """Channels of the map that the injection network acts on."""
        return 3 * self._fold**2 if self._fold else self.latent_channels

    def digest(self) -> str:
        """Changes with the weights; for the key of a cache."""
        networks = [self._model.diffusion_model, *([] if self._parts is None else [self._parts])]
        return weights_digest(*networks)

    @torch.no_grad()
    def see(self, lr: Tensor) -> Seen:
        """The enlarged picture's latent, and what the base reads."""
        lr = lr.to(self.device)
        reference = self.encode(bicubic_upsample(lr, self.scale))
        if not self._fold:
            return Seen(reference, reference)
        return Seen(reference, F.pixel_unshuffle(lr * 2 - 1, self._fold))

    @torch.no_grad()
    def encode(self, picture: Tensor) -> Tensor:
        return self._autoencoder.encode(picture.to(self.device))

    def decode(self, latent: Tensor) -> Tensor:
        return self._autoencoder.decode(latent)

    def start(self, seen: Seen, noise: Tensor) -> Tensor:
        """As the host's samplers begin."""
        sigma = self.sigmas[:1].to(noise)
        return self._model.model_sampling.noise_scaling(sigma, noise, seen.reference, self._full)

    def predict(self, x: Tensor, sigma: Tensor, seen: Seen) -> Tensor:
        """One call of the network; every row at its own level."""
        options = self._options
        if self.reads is Reads.FOLDED:
            both = torch.cat([seen.reference, seen.condition.to(seen.reference)], dim=1)
            return self._model.apply_model(x, sigma, c_concat=both, transformer_options=options)
        conds = _conditions(self._model, self._positive, x, self.device)
        if self.reads is Reads.STABLESR:
            conds[LR_LATENT] = seen.condition
        return self._model.apply_model(x, sigma, transformer_options=options, **conds)


def even_sigmas(sampling: Any, chain: ChainSettings) -> Tensor:
    """(calls + 1,) levels at evenly spaced timesteps, both ends of the schedule included, and 0: the host's 'normal' scheduler."""
    top, bottom = (float(sampling.timestep(sampling.sigmas[place].float())) for place in (-1, 0))
    total = max(chain.calls, math.floor(chain.calls / chain.denoise))
    times = torch.linspace(top, bottom, total, device=sampling.sigmas.device)[total - chain.calls :]
    return torch.cat([sampling.sigma(times).float(), times.new_zeros(1)])


def _frozen(model: BaseModel, device: torch.device, precision: torch.dtype) -> Any:
    """A model whose network computes in precision. Buffers, which hold schedules, stay as they are."""
    model.requires_grad_(False).to(device)
    _cast(model.diffusion_model, precision)
    model.manual_cast_dtype = precision
    return model


def _cast(network: nn.Module, precision: torch.dtype) -> None:
    for parameter in network.parameters():
        parameter.data = parameter.data.to(precision)


def _options(
    model: ModelPatcher, reads: Reads, device: torch.device, precision: torch.dtype
) -> tuple[dict[str, Any], nn.Module | None]:
    """Transformer options of every call: the MODEL's patches, and for StableSR a copy of its parts."""
    given = model.model_options.get("transformer_options", {})
    options = {key: value for key, value in given.items() if key != "wrappers"}
    if reads is not Reads.STABLESR:
        return options, None
    parts = copied(model.get_additional_models_with_key(STABLESR_PARTS)[0]).requires_grad_(False).to(device)
    _cast(parts, precision)
    kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    for wrapper in model.get_wrappers(kind, STABLESR_PARTS):
        comfy.patcher_extension.add_wrapper_with_key(kind, STABLESR_PARTS, wrapper, options)
    return {**options, STABLESR_PARTS: parts}, parts


def _converted(positive: Sequence[Any]) -> dict[str, Any]:
    """The first entry of a CONDITIONING, in copies outside of inference mode."""
    if not positive:
        raise ValueError("positive is empty: expected a prompt; connect CLIP Text Encode or Empty Prompt, or nothing.")
    text, values = positive[0]
    if values.get("control") is not None:
        raise ValueError(
            "positive carries a ControlNet: expected text alone, since the regressor and the injection are trained for the MODEL alone, and "
            "a file made beside a ControlNet would be taken for one of the MODEL; disconnect Apply ControlNet."
        )
    kept = {key: value.clone() if isinstance(value, Tensor) else value for key, value in values.items()}
    for key in ("model_conds", LR_CONDITION):
        kept.pop(key, None)
    return comfy.sampler_helpers.convert_cond([[text.clone(), kept]])[0]


def _conditions(model: BaseModel, entry: dict[str, Any], x: Tensor, device: torch.device) -> dict[str, Tensor]:
    """What the network is given beside latents, for as many rows as x has."""
    conds = comfy.samplers.encode_model_conds(model.extra_conds, [entry], x, device, "positive")[0]["model_conds"]
    rows = {name: cond.process_cond(batch_size=len(x), area=None).cond for name, cond in conds.items()}
    return {
        name: value.to(device) if isinstance(value, Tensor) else value
        for name, value in rows.items()
        if not isinstance(conds[name], comfy.conds.CONDConstant) or value is not None
    }
