"""A training run under the host: its name, its progress bar, its Cancel button, its memory; the state is saved however it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import comfy.model_management as mm
import comfy.utils
from torch import Tensor

from ...training.atomic import sweep
from ...training.config import OWN_SETTINGS, START_ANEW, RunOptions
from ...training.loss_log import LossLog
from ...training.runs import AnyRun, TrainingRun, resume_run, save_run
from .files import RunFiles, check_disk, save_picture, writing

INPUT_IDS = {
    "batch": "batch_size",
    "lr": "learning_rate",
    "discriminator_lr": "discriminator_learning_rate",
    "distill": "distill_weight",
    "fidelity": "fidelity_weight",
    "energy": "energy_weight",
    "crop": "crop_size",
    "reduced": "whole_pictures",
    "design": "adapter_size",
    "pull_weight": "alpha_pull",
    "floor": "visibility_floor",
    "sampler": "sampler_name",
    "checkpointing": "gradient_checkpointing",
}
"""Fields of settings whose input on a node has another name."""

AnySettings = TypeVar("AnySettings")


def from_inputs(kind: type[AnySettings], inputs: Mapping[str, Any], **given: Any) -> AnySettings:
    """Settings whose fields are a node's inputs of the same name, or of that in `INPUT_IDS`; others have their defaults."""
    names = {field.name: INPUT_IDS.get(field.name, field.name) for field in fields(kind)}  # type: ignore[arg-type]
    found = {name: inputs[key] for name, key in names.items() if key in inputs}
    return kind(**{**found, **given})


def preset_inputs(
    kind: type[AnySettings],
    presets: Mapping[str, Mapping[str, Any]],
    name: str,
    inputs: Mapping[str, Any],
    **given: Any,
) -> AnySettings:
    """As `from_inputs`, under the settings of a preset by its name; OWN_SETTINGS has none."""
    if name != OWN_SETTINGS and name not in presets:
        raise ValueError(f"Got the settings {name!r}: expected {OWN_SETTINGS} or one of {', '.join(presets)}.")
    own = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    chosen = {key: value for key, value in presets.get(name, {}).items() if key in own}
    return from_inputs(kind, inputs, **{**given, **chosen})


class RunUnderHost(Generic[AnyRun]):
    """A run that the options resume or begin; inside of the `with` it holds the host's memory and is shown.

    A cancel or an error inside saves the state and goes on to the host.
    """

    def __init__(
        self,
        run: AnyRun,
        files: RunFiles,
        options: RunOptions,
        begun: str = "",
        sample: Callable[[], Tensor] | None = None,
    ) -> None:
        """begun says where step 0 comes from; sample makes the picture (1, 3, H, W) that is written every `samples_every` steps."""
        self.run, self.begun, self._options, self._sample = run, begun, options, sample
        if options.resume != START_ANEW:
            resume_run(run, files.saved_state(options.resume))
            self.begun = f"the run {options.resume}"
        check_disk(_bytes_of(run))
        self.name = files.claim(options.name)
        self.path: Path = files.state_path(self.name)
        self.first = run.state.step
        self.until = self.first + options.steps

    def __enter__(self) -> RunUnderHost[AnyRun]:
        mm.unload_all_models()  # the run has copies of its own
        self._bar = comfy.utils.ProgressBar(self._options.steps)
        mm.in_training = True
        return self

    def after_step(self, run: AnyRun) -> None:
        """Shows, saves, and stops where the user wants to."""
        step, options = run.state.step, self._options
        self._bar.update(1)
        if self._sample is not None and options.samples_every and step % options.samples_every == 0:
            save_picture(self.path.with_suffix(f".{step:07}.png"), self._sample())
        if options.save_every and step % options.save_every == 0:
            self._save()
        mm.throw_exception_if_processing_interrupted()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        mm.in_training = False
        if self.run.state.step > self.first:
            self._save()
        else:
            sweep(self.path)  # nothing was learnt: the name is free again

    def _save(self) -> None:
        with writing("The state of this run"):
            save_run(self.run, self.path)

    @property
    def weights_name(self) -> str:
        """The name of the run with the steps that its weights had."""
        return f"{self.name}_{self.run.state.step}_steps"

    def header(self) -> dict[str, str]:
        """What the file of the weights says of their making."""
        return {"recipe": self.run.recipe(), "steps": str(self.run.state.step)}

    def report(self, file: str, **more: Any) -> dict[str, Any]:
        """What the node says of the run and of the file that came of it."""
        losses, begun = ends_of(self.run.log), {"started_from": self.begun} if self.begun else {}
        steps = self.run.state.step
        return {"file": file, "resume": self.name, **begun, "steps": steps, "losses": losses, **more}


def _bytes_of(run: TrainingRun) -> int:
    """About what a run writes: its networks with the averages and two moments each, twice while a state is replaced, and the weights."""
    tensors = [*run.state.model.state_dict().values(), *run.state.ema.values.values()]
    return 8 * sum(value.numel() * value.element_size() for value in tensors)


def describe(report: Mapping[str, Any]) -> str:
    """A line for the user."""
    losses = ", ".join(f"{name} {first:.4g} to {last:.4g}" for name, (first, last) in report["losses"].items())
    return f"Step {report['steps']}, from {report['started_from']}: {losses}. Saved as {report['file']}."


def ends_of(log: LossLog) -> dict[str, list[float]]:
    """Mean of the first and of the last tenth of every loss."""
    ends: dict[str, list[float]] = {}
    for name in log.names:
        values = [value for _, value in log.series(name)]
        share = max(1, len(values) // 10)
        ends[name] = [round(sum(part) / len(part), 6) for part in (values[:share], values[-share:])]
    return ends
