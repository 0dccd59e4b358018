"""What a node is given, checked against its schema when it runs: the host checks widgets when a graph is queued, and NaN and
values that come through links not at all."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from .progress import rising

SHOWN = 80
"""Characters of a refused value in the sentence."""
MOST_OPTIONS = 12
"""Options that a sentence lists."""


def checks_values(execute: Callable[..., Any]) -> Callable[..., Any]:
    """Makes an `execute(cls, ...)` check what it is given first, as if every value came from a widget, and show one bar."""
    signature = inspect.signature(execute)
    rest = next((name for name, p in signature.parameters.items() if p.kind is p.VAR_KEYWORD), None)

    @functools.wraps(execute)
    def checked(cls: type[io.ComfyNode], *args: object, **given: object) -> object:
        bound = signature.bind(cls, *args, **given)
        schema = cls.define_schema()
        inputs = {entry.id: entry for entry in schema.inputs}
        for values in (bound.arguments, bound.arguments.get(rest, {}) if rest else {}):
            for name in values.keys() & inputs.keys():
                try:
                    values[name] = checked_value(inputs[name], values[name])
                except ValueError as error:
                    raise ValueError(f"{schema.display_name} got {name} = {error}") from None
        with rising():
            return execute(*bound.args, **bound.kwargs)

    return checked


def checked_value(entry: Any, value: Any) -> Any:
    """The value for an input, numbers in the input's type; ValueError says what it is and what was expected."""
    kind = entry.get_io_type()
    if value is None:
        if entry.optional:  # nothing came by a link: as where there is none
            return entry.default if kind in _WIDGETS else None
        raise ValueError("nothing: expected a value; look at the node that it is linked to.")
    if kind in _WIDGETS:
        return _WIDGETS[kind](entry, value)
    problem = _socket_problem(kind, value)
    if problem:
        raise ValueError(f"{problem}; connect an output of that type.")
    return value


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, (str, int, float, bool)) else f"({type(value).__name__})"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _whole(entry: io.Int.Input, value: Any) -> int:
    expected = f"{_shown(value)}: expected a whole number from {entry.min} to {entry.max}."
    try:
        number = int(value)
        whole = isinstance(value, str) or number == value
    except (TypeError, ValueError, ArithmeticError, RuntimeError):
        raise ValueError(expected) from None
    if not whole or not _within(entry, number):
        raise ValueError(expected)
    return number


def _number(entry: io.Float.Input, value: Any) -> float:
    expected = f"{_shown(value)}: expected a number from {entry.min} to {entry.max}."
    try:
        number = float(value)
    except (TypeError, ValueError, ArithmeticError, RuntimeError):
        raise ValueError(expected) from None
    if not math.isfinite(number) or not _within(entry, number):
        raise ValueError(expected)
    return number


def _within(entry: io.Int.Input | io.Float.Input, number: float) -> bool:
    return (entry.min is None or number >= entry.min) and (entry.max is None or number <= entry.max)


def _switch(_entry: io.Input, value: object) -> bool:
    if isinstance(value, (bool, int)) and value in (0, 1):
        return bool(value)
    raise ValueError(f"{_shown(value)}: expected true or false.")


def _text(_entry: io.Input, value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"{_shown(value)}: expected text.")


def _option(entry: io.Combo.Input, value: object) -> object:
    options: Sequence[Any] = entry.options or ()
    if isinstance(value, (str, int)) and value in options:
        return value
    named = [str(option) for option in options[:MOST_OPTIONS]]
    more = f" and {len(options) - MOST_OPTIONS} more" if len(options) > MOST_OPTIONS else ""
    raise ValueError(f"{_shown(value)}: expected one of the list ({', '.join(named) or 'which is empty'}{more}).")


_WIDGETS: Mapping[str, Callable[[Any, Any], Any]] = {
    "INT": _whole,
    "FLOAT": _number,
    "BOOLEAN": _switch,
    "STRING": _text,
    "COMBO": _option,
}

_SOCKETS: Mapping[str, tuple[str, ...]] = {
    "MODEL": ("model", "clone", "model_options"),
    "VAE": ("encode", "decode"),
    "CLIP": ("tokenize",),
    "CONTROL_NET": ("copy", "get_control"),
    "NOISE": ("generate_noise",),
    "SAMPLER": ("sample",),
    "GUIDER": ("sample",),
    "UPSCALE_MODEL": ("to", "scale"),
}
"""By type of a socket, what anything on it can do, whichever pack has made it."""

_OWN: Mapping[str, str] = {
    "ADAPTIVESR_GAIN": "GainPlan",
    "ADAPTIVESR_GAIN_MODELS": "LoadedGainModels",
    "ADAPTIVESR_ONE_STEP_SR": "OneStepSR",
    "ADAPTIVESR_NOISE_PREDICTOR": "NoisePredictorModel",
    "ADAPTIVESR_STABLESR": "LoadedStableSR",
    "ADAPTIVESR_CFW": "LoadedCFW",
    "ADAPTIVESR_TIME_AWARE_ADAPTER": "TimeAwarePart",
}
"""Classes of our own sockets, by name: importing them here would be importing everything."""


def _socket_problem(kind: str, value: object) -> str:
    """Says why a value cannot be on a socket of that type, or nothing; shapes are looked at by who reads them."""
    if kind in ("IMAGE", "MASK"):
        return _tensor_problem(value)
    if kind == "LATENT":
        if not isinstance(value, Mapping) or "samples" not in value:
            return f"{_shown(value)} without samples: expected a latent"
        if isinstance(value["samples"], Tensor) and 0 in value["samples"].shape:
            return f"a latent of shape {tuple(value['samples'].shape)}: expected at least one picture and one cell"
        return _tensor_problem(value["samples"])
    if kind == "SIGMAS":
        if isinstance(value, Tensor) and value.ndim != 1:
            return f"a tensor of {value.ndim} axes: expected one"
        return _tensor_problem(value)
    if kind == "CONDITIONING":
        return _conditioning_problem(value)
    missing = [name for name in _SOCKETS.get(kind, ()) if not hasattr(value, name)]
    known = {parent.__name__ for parent in type(value).__mro__}
    wanted = _OWN.get(kind)
    return f"{_shown(value)}: expected {kind}" if missing or (wanted and wanted not in known) else ""


def _tensor_problem(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"{_shown(value)}: expected a tensor"
    if value.is_meta or value.layout is not torch.strided or value.is_complex():
        return "a tensor without plain values: expected numbers in memory"
    if not value.is_floating_point():
        return f"a tensor of {str(value.dtype).removeprefix('torch.')}: expected floating-point numbers"
    return ""


def _conditioning_problem(value: object) -> str:
    """Entries are [tensor, dict]; no entry at all is for the node to judge."""
    if not isinstance(value, (list, tuple)):
        return f"{_shown(value)}: expected a list of prompts"
    for entry in value:
        if not isinstance(entry, (list, tuple)) or len(entry) != 2 or not isinstance(entry[1], Mapping):
            return "a list of something else: expected prompts"
        if _tensor_problem(entry[0]) or 0 in entry[0].shape:
            return "a prompt without tokens: expected at least one"
    return ""
