"""A CONTROL_NET whose influence follows the timestep: by trained gates (TASR, section 3.2), by a schedule, or by both.

It goes around any CONTROL_NET of the host. With a schedule the residuals are scaled row by row and handed to the host; with
adapters the host gets none, and patches of the one model call add alpha * residual where the host would have added the
residual: behind the middle block and on every skip. Where every factor of a call is zero the ControlNet is not called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, cast

import comfy.model_sampling
import torch
from comfy.controlnet import ControlBase, ControlNet, T2IAdapter
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_base import BaseModel
from comfy.sd import VAE
from torch import Tensor, nn

from ...imaging.transfer import upload
from ...sampling.control_schedule import CONSTANT, MIDDLE, PRESETS, ControlSchedule, level_of
from .choices import BOTH, TRAINING_FREE
from .parts import TimeAwarePart
from .record import Call, ControlRecord
from .sums import add_residuals, scale_rows

Residuals = dict[str, list[Any]]
HostControl = ControlNet | T2IAdapter
LEVEL_NAMES = {MIDDLE: "middle", 0: "full size", 1: "1/2", 2: "1/4", 3: "1/8"}


@dataclass(frozen=True)
class Influence:
    """How a control speaks over time. Without adapters and with a constant schedule it is the plain ControlNet."""

    schedule: ControlSchedule
    adapters: TimeAwarePart | None = None
    alpha_max: float | None = None
    """Upper end of the trained gates; None: as they were trained."""


class TimeAwareControl(ControlBase):
    """A CONTROL_NET around another one, which keeps hint, strength and network; this one holds range and chain."""

    def __init__(self, inner: HostControl, influence: Influence, record: ControlRecord) -> None:
        super().__init__()
        self.inner, self.influence, self.record = inner, influence, record
        self.concat_mask, self.extra_hooks = inner.concat_mask, inner.extra_hooks
        self._sampling: Any = None
        self._sigmas: Tensor | None = None

    def copy(self) -> TimeAwareControl:
        """What Apply ControlNet puts into a CONDITIONING; it writes the same record."""
        return TimeAwareControl(self.inner.copy(), self.influence, self.record)

    def around(self, link: HostControl, previous: ControlBase | None, sigmas: Sequence[float]) -> TimeAwareControl:
        """The same influence, inside of a run, on a link that sees another part of the hint, for rows at these noise levels."""
        made = TimeAwareControl(link, self.influence, self.record)
        made.timestep_range, made._sampling = self.timestep_range, self._sampling
        made.previous_controlnet, made._sigmas = previous, torch.tensor(sigmas)
        return made

    def set_cond_hint(self, cond_hint: Tensor, strength: float = 1.0, timestep_percent_range: tuple[float, float] = (0.0, 1.0), vae: VAE | None = None, extra_concat: Sequence[Tensor] = ()) -> TimeAwareControl:  # fmt: skip
        """What Apply ControlNet was given."""
        self.inner.set_cond_hint(cond_hint, strength, (0.0, 1.0), vae=vae, extra_concat=list(extra_concat))
        self.cond_hint_original, self.strength = cond_hint, strength
        self.timestep_percent_range = timestep_percent_range
        return self

    def set_extra_arg(self, argument: str, value: object = None) -> None:
        self.inner.set_extra_arg(argument, value)

    def get_models(self) -> list[Any]:
        """Everything that the host has to load for a run."""
        own = [] if self.influence.adapters is None else [self.influence.adapters.patcher]
        return [*super().get_models(), *self.inner.get_models(), *own]

    def inference_memory_requirements(self, dtype: torch.dtype) -> int:
        return super().inference_memory_requirements(dtype) + self.inner.inference_memory_requirements(dtype)

    def deepclone_multigpu(self, load_device: torch.device, autoregister: bool = False) -> Any:
        raise ValueError(
            "Time-Aware Adapter runs on one GPU: expected a MODEL without multi-GPU work units; remove that node, or this one."
        )

    def pre_run(self, model: BaseModel, percent_to_timestep_function: Callable[[float], float]) -> None:
        """Prepares a run; ValueError where the adapters cannot belong to the sampled model."""
        super().pre_run(model, percent_to_timestep_function)
        if self.influence.adapters is not None:
            check_adapters(self.influence.adapters, model)
        self.inner.pre_run(model, percent_to_timestep_function)
        self.inner.timestep_range = None  # judged here, row by row; the host looks at the first row only
        self.begin(model.model_sampling)

    def begin(self, sampling: nn.Module) -> None:
        """Takes the sampled model's noise levels, and begins a new record."""
        self._sampling = on_cpu(sampling)
        self.record.start()

    def cleanup(self) -> None:
        super().cleanup()
        self.inner.cleanup()
        self._sampling = None

    def get_control(
        self, x_noisy: Tensor, t: Tensor, cond: dict[str, Any], batched_number: int, transformer_options: dict[str, Any]
    ) -> Residuals | None:
        """Residuals of the links before, plus this one's where no adapter gates them. t is sigma per row, chunks included."""
        arguments = x_noisy, t, cond, batched_number, transformer_options
        previous = cast("HostControl | None", self.previous_controlnet)
        before = None if previous is None else previous.get_control(*arguments)
        sigmas = self._levels(t)
        inside = self._inside(sigmas)
        if not inside.any():
            return before
        timesteps, schedule = timesteps_of(self._sampling, sigmas), self.influence.schedule
        if schedule.silent(timesteps[inside]):
            self.record.call(timesteps[inside], skipped=True)
            return before
        own = self.inner.get_control(*arguments)
        if own is None:
            return before
        rows = _Rows(timesteps, inside, schedule, x_noisy.shape[-2])
        call = self.record.call(timesteps[inside])
        if self.influence.adapters is None:
            return add_residuals(rows.scaled(own, call), before)
        _check_places(own)
        Fusion(self.influence, rows, rows.scaled(own, None), call).install(transformer_options)
        return before

    def _levels(self, t: Tensor) -> Tensor:
        """The noise levels t (B,) on the CPU: known in the region sampler, whose rows repeat for every condition of a call."""
        if self._sigmas is not None and len(t) % len(self._sigmas) == 0:
            return self._sigmas.repeat(len(t) // len(self._sigmas))
        # A wait for the device, once a call: whether the ControlNet runs at all is decided by these numbers.
        return t.float().cpu()

    def _inside(self, sigmas: Tensor) -> Tensor:
        """Rows (B,) in the range of start and end percent."""
        start, end = self.timestep_range or (float("inf"), 0.0)
        return (sigmas <= start) & (sigmas >= end)


@dataclass(frozen=True)
class _Rows:
    """The rows of a call: timesteps (B,), whether they are in range (B,), and how factors follow from them."""

    timesteps: Tensor
    inside: Tensor
    schedule: ControlSchedule
    height: int

    def factors(self, level: int) -> Tensor:
        return self.schedule.factors(self.timesteps, level) * self.inside

    def noted(self, gates: Tensor, level: int) -> Tensor:
        """Effective gates of the rows in range; they stay on the device, so that nothing waits for them."""
        factors = self.factors(level)
        if not bool((factors == 1.0).all()):
            gates = gates * upload(factors, gates.device, gates.dtype)
        return gates if bool(self.inside.all()) else gates[upload(self.inside.nonzero().flatten(), gates.device)]

    def scaled(self, residuals: Residuals, call: Call | None) -> Residuals:
        """Residuals times the factors of their levels; factors are noted in call."""
        result: Residuals = {}
        for place, entries in residuals.items():
            result[place] = [None if entry is None else self._scaled(entry, place, call) for entry in entries]
        return result

    def _scaled(self, residual: Tensor, place: str, call: Call | None) -> Tensor | None:
        level = MIDDLE if place == "middle" else 0
        if residual.ndim == 4 and place != "middle":  # a transformer's tokens have no levels
            level = level_of(residual.shape[-2], self.height)
        factors = self.factors(level)
        if call is not None:
            name = LEVEL_NAMES[min(level, 3)] if self.schedule.per_site else "all sites"
            call.gates[name] = factors[self.inside]
        return scale_rows(residual, factors)


class Fusion:
    """The patches of one model call: each site adds alpha * residual (TASR gives it no number), behind other controls."""

    def __init__(self, influence: Influence, rows: _Rows, residuals: Residuals, call: Call) -> None:
        self._influence, self._rows, self._call = influence, rows, call
        self._middle = residuals.get("middle") or [None]
        self._output = residuals.get("output", [])
        self._emb: Tensor | None = None

    def install(self, transformer_options: dict[str, Any]) -> None:
        """Puts the patches into dictionaries of this call alone, before all others: FreeU and the like see the fused skip."""
        patches = dict(transformer_options.get("patches", {}))
        patches["emb_patch"] = [*patches.get("emb_patch", []), self.time]
        patches["output_block_patch"] = [self.output, *patches.get("output_block_patch", [])]
        transformer_options["patches"] = patches

    def time(self, emb: Tensor, channels: int, options: dict[str, Any]) -> Tensor:
        """The time embedding (B, emb) as the UNet is about to use it."""
        self._emb = emb
        return emb

    def output(self, h: Tensor, skip: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Before a decoder block, deepest first, whose residual is the last that is left.

        The first has the middle block right before it; the oldest host has no patch of its own for that place.
        """
        block = options["block"][1]
        if block == 0:
            h = self._added(0, h, h, None, self._middle[0])
        residual = self._output.pop() if self._output else None
        return h, self._added(block + 1, skip, h, skip, residual)

    def _added(self, site: int, target: Tensor, h: Tensor, skip: Tensor | None, residual: Tensor | None) -> Tensor:
        if residual is None or self._emb is None or self._influence.adapters is None:
            return target
        residual = residual.to(h)
        network = self._influence.adapters.network
        alpha = network.forward_site(site, h, skip, residual, self._emb, alpha_max=self._influence.alpha_max)
        name = "middle" if site == 0 else f"decoder {site - 1}"
        level = MIDDLE if site == 0 else level_of(h.shape[-2], self._rows.height)
        self._call.gates[name] = self._rows.noted(alpha.mean(dim=(1, 2, 3), dtype=torch.float32), level)
        return target + alpha * residual


def on_cpu(sampling: nn.Module) -> nn.Module:
    """A model's noise levels on the CPU: asked there in every call, for which nothing waits for the device."""
    twin = copy(sampling)
    levels = {name: level.cpu() for name, level in sampling.named_buffers(recurse=False)}
    vars(twin)["_buffers"] = levels
    return twin


def timesteps_of(sampling: nn.Module, sigmas: Tensor) -> Tensor:
    """Timesteps (B,) from 0 (clean) to 1000 (noise) of noise levels (B,): the model's own, 1000 sigma for flow models.

    Other parametrisations get the timestep at which Stable Diffusion has that noise level.
    """
    if isinstance(sampling, (comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.ModelSamplingFlux)):
        return sigmas * 1000.0
    if isinstance(sampling, comfy.model_sampling.ModelSamplingDiscrete):
        return sampling.timestep(sigmas.to(sampling.get_buffer("sigmas").device)).float().cpu()
    return comfy.model_sampling.ModelSamplingDiscrete().timestep(sigmas).float()


def check_adapters(part: TimeAwarePart, model: BaseModel) -> None:
    """ValueError with a sentence if the sampled model has other sites than the adapters."""
    unet, sites = model.diffusion_model, len(part.network.config.inputs)
    if not isinstance(unet, UNetModel):
        raise ValueError(
            f"The sampled MODEL is a {type(unet).__name__}, and time-aware adapters gate the skips of a UNet: use the schedule "
            "'training-free', or a Stable Diffusion checkpoint."
        )
    if len(unet.output_blocks) + 1 != sites:
        raise ValueError(
            f"The adapters have {sites} sites, and the sampled MODEL has {len(unet.output_blocks) + 1} (its middle block and "
            f"{len(unet.output_blocks)} decoder blocks): they belong to another base model; the published file is for SD 2.1."
        )


def _check_places(residuals: Residuals) -> None:
    if any(entry is not None for entry in residuals.get("input", [])):
        raise ValueError(
            "This CONTROL_NET adds to the encoder, as T2I-Adapters do, and time-aware adapters gate the skips of a ControlNet: use the "
            "schedule 'training-free' with it."
        )


def choose_influence(
    mode: str, schedule: ControlSchedule, adapters: TimeAwarePart | None, *, per_site: bool, alpha_max: float
) -> Influence:
    """The influence that the node's choices mean; alpha_max 0: as trained. ValueError for gates that are not there."""
    schedule = replace(schedule, per_site=per_site)
    if mode == TRAINING_FREE:
        return Influence(schedule)
    if adapters is None:
        raise ValueError(
            f"The schedule '{mode}' needs trained gates, and adapter is not connected or its file holds none: connect the adapter "
            "output of Load Time-Aware ControlNet with a TASR file, or choose 'training-free'."
        )
    return Influence(schedule if mode == BOTH else PRESETS[CONSTANT], adapters, alpha_max or None)


def summary_of(control: object) -> dict[str, Any]:
    """The record of a CONTROL_NET; ValueError for one that keeps none."""
    if not isinstance(control, TimeAwareControl):
        raise ValueError(
            f"Adapter Map got a {type(control).__name__}, which keeps no record: expected the CONTROL_NET of Time-Aware Adapter."
        )
    return control.record.summary()


def make_time_aware(control: HostControl | TimeAwareControl, influence: Influence) -> TimeAwareControl:
    """CONTROL_NET with this influence, and a new record. ValueError for a control that is time-aware already."""
    if isinstance(control, TimeAwareControl):
        raise ValueError(
            "This CONTROL_NET comes from a Time-Aware Adapter already: expected a plain one; use one node, with the schedule 'both' "
            "for gates and schedule together."
        )
    return TimeAwareControl(control.copy(), influence, ControlRecord())
