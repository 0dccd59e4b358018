"""DiffBIR-type ControlNets as CONTROL_NET of the host: its Apply ControlNet, strength, ranges, chains and memory serve them.

The host cannot read these files: they have no hint encoder. The hint is the VAE's latent of the enlarged LR picture.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.controlnet
import comfy.model_management as mm
import comfy.model_sampling
import comfy.ops
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_base import BaseModel
from torch import Tensor

from ...models.latent_control import ControlFile, LatentControlConfig, split_control_file
from ...models.state_dict import StateDict, UnsupportedModelError, check_fit
from .. import files
from ..files import AUTO
from ..latent_base import latents_of
from ..loading import identify_file, network_dtype
from ..networks import controlnet
from .choices import EPS, FROM_THE_CONTROLNET_FILE, V
from .parts import TimeAwarePart, adapter_part

TERMINAL_SIGMA = 1000.0
"""Zero-terminal-SNR schedules of the host end above this noise level, others below 200."""


@dataclass(frozen=True)
class LoadedControl:
    """What the loader node gives: CONTROL_NET, adapters if there are any, and words for the user."""

    control: LatentControl
    adapters: TimeAwarePart | None
    info: str


class LatentControl(comfy.controlnet.ControlNet):
    """A DiffBIR-type ControlNet; `prediction` is what its base model predicts, None where the file cannot tell."""

    def __init__(self, config: LatentControlConfig, prediction: str | None, **settings: Any) -> None:
        super().__init__(
            compression_ratio=1, latent_format=latents_of(config.latent_channels), preprocess_image=_colours, **settings
        )
        self.config, self.prediction = config, prediction
        self.upscale_algorithm = "bicubic"  # a small LR picture is enlarged as DiffBIR does

    def copy(self) -> LatentControl:
        """A control of the same network without what belongs to a run."""
        made = LatentControl(
            self.config, self.prediction, load_device=self.load_device, manual_cast_dtype=self.manual_cast_dtype
        )
        made.control_model, made.control_model_wrapped = self.control_model, self.control_model_wrapped
        self.copy_to(made)
        return made

    def pre_run(self, model: BaseModel, percent_to_timestep_function: Callable[[float], float]) -> None:
        """Prepares a run, as the host's do; ValueError for a base model or a wiring that cannot work."""
        check_base(self.config, self.prediction, model)
        if self.vae is None:
            raise ValueError(
                "This DiffBIR-type ControlNet reads the latent of its picture, and got no VAE: connect the checkpoint's VAE to "
                "the vae input of Apply ControlNet."
            )
        if self.vae.latent_channels != self.config.latent_channels:
            raise ValueError(
                f"Apply ControlNet got a VAE of {self.vae.latent_channels} latent channels: this DiffBIR-type ControlNet expects the "
                f"{self.config.latent_channels} of {self.config.base}; connect that checkpoint's VAE."
            )
        super().pre_run(model, percent_to_timestep_function)


def _colours(image: Tensor) -> Tensor:
    """RGB of (B, C, H, W) in [0, 1]: transparency is no condition."""
    return image[:, :3] if image.shape[1] >= 3 else image[:, :1].expand(-1, 3, -1, -1)


def check_base(config: LatentControlConfig, prediction: str | None, model: BaseModel) -> None:
    """ValueError with a sentence if the sampled model is not of the ControlNet's kind."""
    found = getattr(model.model_config, "unet_config", {})
    if not isinstance(model.diffusion_model, UNetModel):
        raise ValueError(
            f"The sampled MODEL is a {type(model.diffusion_model).__name__}: a DiffBIR-type ControlNet works on the UNet of "
            f"{config.base} only; choose such a checkpoint."
        )
    sizes = {
        "text width": (config.context_dim, found.get("context_dim")),
        "latent channels": (config.latent_channels, model.latent_format.latent_channels),
        "channels": (config.model_channels, found.get("model_channels")),
        "channel factors": (list(config.channel_mult), list(found.get("channel_mult", ()))),
        "blocks": (list(config.num_res_blocks), list(found.get("num_res_blocks", ()))),
    }
    for name, (expected, got) in sizes.items():
        if expected != got:
            raise ValueError(
                f"The sampled MODEL has {name} {got}, and the ControlNet was made for {config.base} with {expected}: choose a "
                f"{config.base} checkpoint (SD 2.1-base for DiffBIR and TASR)."
            )
    _check_prediction(prediction, model)


def _check_prediction(prediction: str | None, model: BaseModel) -> None:
    if prediction is None:
        return
    found = V if isinstance(model.model_sampling, comfy.model_sampling.V_PREDICTION) else EPS
    if found != prediction:
        raise ValueError(
            f"The sampled MODEL predicts {found}, and the ControlNet belongs to a base that predicts {prediction}: pictures would be "
            "silently bad. Use SD 2.1-base (eps) for DiffBIR v1, v2 and TASR, its zero-SNR v version for DiffBIR v2.1; if the "
            "file is of the other lineage, set prediction in Load Time-Aware ControlNet."
        )
    if prediction == V and float(model.model_sampling.sigma_max) < TERMINAL_SIGMA:
        raise ValueError(
            "DiffBIR v2.1 needs a MODEL with zero terminal SNR, and this one's schedule ends above it: put ModelSamplingDiscrete "
            "with v_prediction and zsnr on before sampling."
        )


def guess_prediction(name: str) -> str | None:
    """eps or v by the names of the published files, which share one list of keys; None for others."""
    if name in files.EMBEDDED[files.CONTROLNET]:
        return EPS
    stem = os.path.basename(name).lower()
    if re.search(r"v2[._-]?1(?!\d)", stem):
        return V
    return EPS if re.search(r"tasr|diffbir|^v1_(general|face)|^v2\.", stem) else None


def load_time_aware_control(name: str, adapter_name: str, prediction: str = AUTO) -> LoadedControl:
    """A ControlNet file of the `controlnet` folder, with adapters out of it or out of a second file.

    Raises UnsupportedModelError with a sentence when a file is damaged, of another kind or does not hold the part.
    """
    parts = _parts(files.CONTROLNET, name)
    if parts.control is None:
        raise UnsupportedModelError(
            f"'{name}' holds time-aware adapters only: expected a DiffBIR or TASR ControlNet; choose that file here, and this one "
            "as adapter_name."
        )
    identified = identify_file(parts.control, name, {LatentControlConfig: "a DiffBIR or TASR ControlNet"})
    chosen = guess_prediction(name) if prediction == AUTO else prediction
    control = control_from_weights(parts.control, identified.config, chosen)
    adapters, source = parts.adapters, name
    if adapter_name != FROM_THE_CONTROLNET_FILE:
        adapters, source = _parts(files.CONTROLNET, adapter_name).adapters, adapter_name
        if adapters is None:
            raise UnsupportedModelError(
                f"'{adapter_name}' holds no time-aware adapters: expected a TASR file or one that Train Time-Aware Adapter has written; "
                f"choose '{FROM_THE_CONTROLNET_FILE}' to go without a second file."
            )
    made = None if adapters is None else adapter_part(adapters, source)
    return LoadedControl(control, made, _words(identified.label, chosen, made))


def _parts(folder: str, name: str) -> ControlFile:
    try:
        return split_control_file(files.read_file(files.find_file(folder, name)))
    except UnsupportedModelError as error:
        raise UnsupportedModelError(str(error) if name in str(error) else f"'{name}': {error}") from error


def _words(label: str, prediction: str | None, adapters: TimeAwarePart | None) -> str:
    lineage = {
        EPS: "For an eps model (SD 2.1-base).",
        V: "DiffBIR v2.1: needs the v model with zero terminal SNR.",
        None: "Lineage unknown: eps (DiffBIR v1, v2, TASR) and v (v2.1) files have the same keys. Set prediction to have it checked.",
    }[prediction]
    return f"{label}. {lineage} {'No adapters.' if adapters is None else f'With {adapters.label}.'}"


def control_from_weights(weights: StateDict, config: LatentControlConfig, prediction: str | None) -> LatentControl:
    """CONTROL_NET of a canonical state dict, loaded strictly; stored and computed in the types that the host chooses."""
    fitting = check_fit(controlnet(config.arguments(), device="meta"), weights)
    device = mm.get_torch_device()
    dtype = network_dtype(fitting)
    cast = mm.unet_manual_cast(dtype, device)
    network = controlnet(
        config.arguments(),
        operations=comfy.ops.pick_operations(dtype, cast),
        dtype=dtype,
        device=mm.unet_offload_device(),
    )
    control = LatentControl(config, prediction, control_model=network, load_device=device, manual_cast_dtype=cast)
    network.load_state_dict(fitting, strict=True, assign=control.control_model_wrapped.is_dynamic())
    return control


def paths_of(name: str, adapter_name: str) -> list[str]:
    """Files that the loader's choices read, for its cache key."""
    names = [name] if adapter_name == FROM_THE_CONTROLNET_FILE else [name, adapter_name]
    return [files.find_file(files.CONTROLNET, chosen) for chosen in names]
