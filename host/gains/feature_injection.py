"""PFJ Inject: the LR condition of a region's next call follows what its last call gained (AdaDiffSR, section 3.4).

The networks ride on the MODEL as an additional model, and conditionings carry a mark. The region samplers take the mark out
and put o_hat = alpha o + beta in the place of the LR condition o of every row, by the gains of that row's region; every other
sampler stops at the mark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

import comfy.conds
import node_helpers
import torch
from comfy.controlnet import ControlBase
from comfy.model_base import BaseModel
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from comfy.samplers import CFGGuider
from torch import Tensor

from ...imaging.transfer import upload
from ...models.feature_injection import Pfj, inject
from ...sampling.adaptive.types import Row
from ..control.adapter import TimeAwareControl
from ..control.controlnet import LatentControl
from ..resshift.patchers import LR_CONDITION, ResidualShiftModel
from ..stablesr.patch import LR_LATENT
from .models import LoadedGainModels
from .plan import GainPlan, GainRun

PFJ = "adaptivesr_pfj"
"""Key of the mark in CONDITIONING, and of the wrapper and the additional model of MODEL."""
CONCAT = "c_concat"
CONCAT_VALUES = (LR_CONDITION, "concat_latent_image", "concat_image")
"""What conditionings hold of pictures that the network is given beside its latents."""


class Route(str, Enum):
    """Where the LR condition enters: StableSR's encoder, a DiffBIR-type ControlNet's hint, or channels beside the latents."""

    STABLESR = "StableSR's LR latent"
    CONTROL = "the ControlNet's latent hint"
    CONCAT = "the LR channels beside the latents"


class PfjMark(comfy.conds.CONDConstant):
    """Says in a conditioning that its LR condition is to be injected into; refuses samplers that do not know it."""

    def __init__(self, plan: GainPlan, names: tuple[str, ...], strength: float, route: Route) -> None:
        """names are those of the gains that the network takes."""
        super().__init__(None)
        self.plan, self.names, self.strength, self.route = plan, names, strength, route

    def same(self, other: PfjMark) -> bool:
        """Tells whether both ask for the same injection."""
        return (self.names, self.strength, self.route) == (other.names, other.strength, other.route)

    def process_cond(self, batch_size: int, **kwargs: Any) -> Any:
        """Refuses every sampler that asks this condition for its values before it calls the model."""
        raise ValueError(
            "The conditioning comes from PFJ Inject, whose injection follows the gains of regions: expected Tiled Region Sampler or "
            "Region Sampler with the same GAIN; use one of them, or take PFJ Inject out of the graph."
        )


def inject_pfj(
    model: ModelPatcher,
    positive: list[Any],
    negative: list[Any],
    plan: GainPlan,
    models: LoadedGainModels | None,
    strength: float,
) -> tuple[ModelPatcher, list[Any], list[Any], str]:
    """Returns MODEL with the networks, both conditionings with the mark, and a line for the node.

    Model and conditionings are the given ones themselves at strength 0 and without trained weights. Raises ValueError with a
    sentence for another base and for a conditioning without an LR condition.
    """
    if models is None or models.config.pfj is None:
        got = "no GAIN_MODELS" if models is None else "no PFJ in the file"
        return model, positive, negative, f"{got}: everything is passed on unchanged"
    if strength == 0.0:
        return model, positive, negative, "strength 0: everything is passed on unchanged"
    models.check_base(model)
    routes = [route_of(entry[1]) for entry in positive]
    if not any(routes):
        raise ValueError(
            "PFJ Inject found no LR condition in the positive conditioning: expected one that comes from StableSR Apply, from Apply "
            "ControlNet with a DiffBIR or TASR ControlNet, from ResShift Conditioning, or with a latent for a model that takes it "
            "beside its own; put PFJ Inject behind that node."
        )
    clone = model.clone()
    clone.set_additional_models(PFJ, [models.patcher])
    clone.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, PFJ)
    clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, PFJ, check_marked)
    line = f"into {next(route for route in routes if route).value}; gains of {_shared(plan, models.metrics)}"
    marked = [with_mark(some, plan, models.metrics, strength) for some in (positive, negative)]
    return clone, marked[0], marked[1], line


def _shared(plan: GainPlan, names: Sequence[str]) -> str:
    """Returns the file's metrics that GAIN measures, and those that it does not."""
    measured = {metric.name for metric in plan.metrics}
    known = ", ".join(name for name in names if name in measured) or "nothing"
    missing = ", ".join(name for name in names if name not in measured)
    return f"{known}; 0 for {missing}, which GAIN does not measure" if missing else known


def route_of(values: dict[str, Any]) -> Route | None:
    """Tells where the LR condition of one conditioning's values enters; None where there is none."""
    if LR_LATENT in values.get("model_conds", {}):
        return Route.STABLESR
    if any(isinstance(link, LatentControl) for link in _links(values.get("control"))):
        return Route.CONTROL
    return Route.CONCAT if any(values.get(key) is not None for key in CONCAT_VALUES) else None


def _links(control: ControlBase | None) -> Iterator[ControlBase]:
    while control is not None:
        yield control.inner if isinstance(control, TimeAwareControl) else control
        control = control.previous_controlnet


def with_mark(conditioning: list[Any], plan: GainPlan, names: tuple[str, ...], strength: float) -> list[Any]:
    """Copies a conditioning with a mark in every part that has an LR condition."""
    marked: list[Any] = []
    for entry in conditioning:
        if (route := route_of(entry[1])) is None:
            marked.append(entry)
            continue
        values = {**entry[1].get("model_conds", {}), PFJ: PfjMark(plan, names, strength, route)}
        marked += node_helpers.conditioning_set_values([entry], {"model_conds": values})
    return marked


def marks_of(conds: dict[str, list[dict[str, Any]] | None]) -> list[PfjMark]:
    """Returns the marks in a guider's conditions."""
    entries = [entry for some in conds.values() for entry in some or ()]
    return [entry["model_conds"][PFJ] for entry in entries if PFJ in entry.get("model_conds", {})]


def check_marked(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Any:
    """Refuses, around a whole run of the MODEL of PFJ Inject, conditionings that do not come from it."""
    if not marks_of(cast("CFGGuider", executor.class_obj).conds):
        raise ValueError(
            "The MODEL comes from PFJ Inject and no conditioning does: expected all three outputs of PFJ Inject; connect its positive "
            "and negative to the sampler."
        )
    return executor(*args, **kwargs)


@dataclass(frozen=True)
class InjectionRun:
    """Injection in one run."""

    network: Pfj
    names: tuple[str, ...]
    gains: GainRun
    strength: float
    route: Route
    channels: slice
    """Those of the condition that are the LR picture."""
    device: torch.device

    @classmethod
    def start(cls, guider: CFGGuider, gains: GainRun | None, device: torch.device) -> InjectionRun | None:
        """Prepares the injection, None where no conditioning is marked. Raises ValueError for nodes of PFJ Inject and sampler that do not go together."""
        marks = marks_of(guider.conds)
        if not marks:
            return None
        mark, models = marks[0], guider.model_patcher.get_additional_models_with_key(PFJ)
        if not models:
            raise ValueError(
                "The conditioning comes from PFJ Inject and the MODEL does not: expected all three outputs of PFJ Inject; connect its "
                "model to the sampler."
            )
        if not all(mark.same(other) for other in marks):
            raise ValueError(
                "The conditionings come from several PFJ Inject nodes: expected one for positive and negative together; remove the "
                "others."
            )
        if gains is None or any(other.plan is not gains.plan for other in marks):
            got = "no GAIN" if gains is None else "another GAIN than PFJ Inject"
            raise ValueError(
                f"The sampler has {got}: expected that of PFJ Inject, since the gains of a run decide what is injected in it; connect "
                "one MMLE Gain Estimator to both."
            )
        network = models[0].model.pfj
        entries = [entry for some in guider.conds.values() for entry in some or () if PFJ in entry["model_conds"]]
        spans = {_span(entry["model_conds"], mark.route, guider.inner_model, network) for entry in entries}
        return cls(network, mark.names, gains, mark.strength, mark.route, slice(*spans.pop()), device)

    def for_call(self, rows: Sequence[Row]) -> InjectionCall:
        """Returns the injection for the rows of a model call."""
        return InjectionCall(self, upload(self.gains.vector(rows, self.names), self.device))


class InjectionCall:
    """Injection for the rows of one model call; a condition that positive and negative share is computed once."""

    def __init__(self, run: InjectionRun, gains: Tensor) -> None:
        self._run, self._gains = run, gains
        self._done: list[tuple[Tensor, Tensor]] = []

    def model_conds(self, conds: dict[str, Any]) -> dict[str, Any]:
        """Returns the conditions of the rows with o_hat in the place of o."""
        key = {Route.STABLESR: LR_LATENT, Route.CONCAT: CONCAT}.get(self._run.route)
        return conds if key is None else {**conds, key: conds[key]._copy_with(self._condition(conds[key].cond))}

    def hint(self, hint: Tensor) -> Tensor:
        """Returns a ControlNet's latent hint (N, C, h, w) for the rows, if that is where the LR condition enters."""
        return self._condition(hint) if self._run.route is Route.CONTROL else hint

    def _condition(self, condition: Tensor) -> Tensor:
        run = self._run
        # Told by the tensor itself: to compare values, the host would wait for the device.
        for known, result in self._done:
            if known is condition:
                return result
        lr = upload(condition.expand(len(self._gains), -1, -1, -1), run.device)
        part = lr[:, run.channels].float()
        alpha, beta = run.network(part, self._gains)
        result = lr.clone()
        result[:, run.channels] = inject(part, alpha, beta, run.strength).to(lr)
        self._done.append((condition, result))
        return result


def _span(conds: dict[str, Any], route: Route, model: BaseModel, network: Pfj) -> tuple[int, int]:
    """Returns the first and last + 1 of the channels that are the LR picture in the condition of a route."""
    wanted = network.config.latent_channels
    match route:
        case Route.STABLESR:
            first, channels = 0, conds[LR_LATENT].cond.shape[1]
        case Route.CONTROL:
            first, channels = 0, 4
        case Route.CONCAT:
            first, channels = _concat_span(conds.get(CONCAT), model)
    if channels != wanted:
        raise ValueError(
            f"PFJ is for an LR condition of {wanted} channels and got {channels} ({route.value}): expected equal ones; choose the file that "
            "was trained for this MODEL."
        )
    return first, first + channels


def _concat_span(concat: comfy.conds.CONDRegular | None, model: BaseModel) -> tuple[int, int]:
    """Returns the first channel and the number of channels of the picture that the model is given beside its latents, masks apart."""
    total = 0 if concat is None else concat.cond.shape[1]
    if isinstance(model, ResidualShiftModel):
        first = model.diffusion_model.network.config.latent_channels
        return first, total - first
    keys = tuple(getattr(model, "concat_keys", ()))
    masks: list[bool] = [key.startswith("mask") and key != "masked_image" for key in keys]
    if len(keys) - sum(masks) > 1:
        raise ValueError(
            f"The MODEL is given several pictures beside its latents ({', '.join(keys)}), and PFJ Inject cannot tell which is the LR "
            "one: expected a model with one; take PFJ Inject out of the graph."
        )
    before = masks.index(False) if False in masks else 0
    return before, total - sum(masks)
