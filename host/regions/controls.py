"""ControlNets of a canvas, link by link, with the hints cropped to the rows of a call."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import comfy.model_management as mm
import comfy.utils
import torch
from comfy.controlnet import ControlBase
from comfy.sd import VAE
from torch import Tensor

from ...imaging.tiles import Region
from ...imaging.transfer import upload
from ...models.memory import activation_bytes
from ...sampling.adaptive.types import Row, crop_rows
from ..control.adapter import HostControl, TimeAwareControl
from ..control.controlnet import LatentControl
from ..control.sums import add_residuals, scale_rows
from ..gains.feature_injection import InjectionCall
from ..vae import encode


def adapter_bytes(conds: Mapping[str, Sequence[dict[str, Any]] | None], region: Region, dtype_size: int) -> float:
    """What the dearest time-aware adapters among a guider's conditions need beside the UNet for one region in a call.

    Positive and negative together, as in `sampler.row_bytes`. The host's estimate of a model's memory knows nothing of them.
    """
    links = [link for some in conds.values() for entry in some or () for link in links_of(entry.get("control"))]
    adapters = [link.influence.adapters for link in links if isinstance(link, TimeAwareControl)]
    sizes = region.height, region.width, dtype_size
    return max((2.0 * activation_bytes(part.network, *sizes) for part in adapters if part is not None), default=0.0)


def links_of(control: ControlBase | None) -> Iterator[ControlBase]:
    """A control and those before it in its chain."""
    while control is not None:
        yield control
        control = control.previous_controlnet


class ControlChains:
    """All ControlNets of a run; hints are brought to the canvas's size once."""

    def __init__(self, size: Sequence[int], device: torch.device) -> None:
        self._size, self._device = size, device
        self._links: dict[int, CanvasLink] = {}

    def for_call(
        self, rows: Sequence[Row], sigmas: Sequence[float], injection: InjectionCall | None = None
    ) -> Callable[[HostControl], ControlBase | None]:
        """Returns a function from a control of the conditions to the one for these rows, or None where all links are silent.

        The same control gives the same object, since the host only shares a call between conditions whose control is one.
        """
        made: dict[int, ControlBase | None] = {}

        def regional(control: HostControl) -> ControlBase | None:
            if id(control) not in made:
                made[id(control)] = self._regional(control, rows, sigmas, regional, injection)
            return made[id(control)]

        return regional

    def _regional(
        self,
        control: HostControl,
        rows: Sequence[Row],
        sigmas: Sequence[float],
        regional: Callable[[HostControl], ControlBase | None],
        injection: InjectionCall | None,
    ) -> ControlBase | None:
        before = cast("HostControl | None", control.previous_controlnet)
        previous = None if before is None else regional(before)
        start, end = control.timestep_range or (float("inf"), 0.0)
        active = [end <= sigma <= start for sigma in sigmas]
        if not any(active):
            return previous
        # A time-aware control judges its range row by row itself; hint and network are those of the control inside.
        plain = control.inner if isinstance(control, TimeAwareControl) else control
        if id(control) not in self._links:
            self._links[id(control)] = CanvasLink(plain, self._size, self._device)
        link = self._links[id(control)].crop(rows, injection)
        if isinstance(control, TimeAwareControl):
            return control.around(link, previous, sigmas)
        return RegionControl(link, active, previous)


class CanvasLink:
    """One ControlNet of a chain with its hint at the canvas's size, prepared as the host does at full frame; large ones are encoded in tiles."""

    def __init__(self, control: HostControl, size: Sequence[int], device: torch.device) -> None:
        self._control, self._device = control, device
        self._factor = control.compression_ratio
        height, width = size[0] * self._factor, size[1] * self._factor
        pixels = 1 if control.vae is None else control.vae.spacial_compression_encode()
        self._hint = _fit(cast("Tensor", control.cond_hint_original), height * pixels, width * pixels, control)
        if control.vae is not None:
            self._hint = _encode(self._hint, control, control.vae)
        self._extra = [_fit(extra, height, width, control) for extra in control.extra_concat_orig]
        self._encoded = control.vae is not None
        if self._encoded:  # a latent is small; pictures stay where they are, and go to the device crop by crop
            self._hint, self._extra = self._hint.to(device), [extra.to(device) for extra in self._extra]

    def crop(self, rows: Sequence[Row], injection: InjectionCall | None = None) -> HostControl:
        """Returns a copy of the control that sees its rows' parts of the hint; its range of sigma is the caller's matter."""
        # A shallow copy and not .copy(): that one drops what the host has prepared for this run.
        link = cast("Any", copy.copy(self._control))
        link.previous_controlnet, link.timestep_range, link.multigpu_clones = None, None, {}
        link.cond_hint = None
        if hasattr(link, "control_input"):  # what a T2I-Adapter computed from another hint
            link.control_input = None
        hint = upload(crop_rows(self._hint, rows, self._factor), self._device)
        if injection is not None and isinstance(self._control, LatentControl):
            hint = injection.hint(hint)
        extra = [upload(crop_rows(extra, rows, self._factor), hint.device, hint.dtype) for extra in self._extra]
        if self._encoded:
            dtype = link.manual_cast_dtype or link.control_model.dtype
            link.cond_hint = torch.cat([hint, *extra], dim=1).to(self._device, dtype)
        else:
            link.cond_hint_original, link.extra_concat_orig = hint, extra
        return link


def _fit(hint: Tensor, height: int, width: int, control: HostControl) -> Tensor:
    """Returns the hint at the canvas's size, cut to its aspect at the centre as the host does."""
    if hint.ndim != 4:
        raise ValueError(
            f"A ControlNet has a hint of shape {tuple(hint.shape)}: expected a picture (batch, channels, height, width), which "
            "can be cropped to regions; use a ControlNet for images."
        )
    return comfy.utils.common_upscale(hint, width, height, control.upscale_algorithm, "center")


def _encode(hint: Tensor, control: HostControl, vae: VAE) -> Tensor:
    # Encoding may move the models of the run away; entries whose owner has gone are None.
    loaded = [patcher for patcher in mm.loaded_models(only_currently_used=True) if patcher is not None]
    latent = encode(vae, control.preprocess_image(hint))
    mm.load_models_gpu(loaded)
    return latent if control.latent_format is None else control.latent_format.process_in(latent)


class RegionControl(ControlBase):
    """One link for the rows of one call, behind the links before it."""

    def __init__(self, link: HostControl, active: Sequence[bool], previous: ControlBase | None) -> None:
        super().__init__()
        self.previous_controlnet = previous
        self._link, self._active = link, torch.tensor(active, dtype=torch.float32)

    def get_control(
        self,
        x_noisy: Tensor,
        t: Tensor,
        cond: dict[str, Any],
        batched_number: int,
        transformer_options: dict[str, Any],
    ) -> dict[str, list[Tensor | None]] | None:
        """Returns the residuals by place of the network, as every control of the host gives them."""
        arguments = x_noisy, t, cond, batched_number, transformer_options
        previous = cast("HostControl | None", self.previous_controlnet)
        before = None if previous is None else previous.get_control(*arguments)
        own = self._link.get_control(*arguments)
        if own is None:
            return before
        return add_residuals({place: [self._gated(residual) for residual in own[place]] for place in own}, before)

    def _gated(self, residual: Tensor | None) -> Tensor | None:
        """Returns a residual (chunks * N, ...) without the rows that are out of the link's range."""
        if residual is None:
            return None
        return scale_rows(residual, self._active.repeat(max(1, residual.shape[0] // len(self._active))))
