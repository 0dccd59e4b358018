"""pyiqa's metrics of results, one picture at a time, and those of whole folders; means with their intervals."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..env.steps import StepError

if TYPE_CHECKING:
    from torch import Tensor

OF_FOLDERS = ("fid",)
"""Metrics of all results against all references."""
NO_WEIGHTS = "its weights or packages could not be had here (no network?); psnr, ssim, ms_ssim, nlpd, gmsd, fsim, vif, vsi and piqe need none"


def _metrics() -> tuple[Any, Any]:
    """The pack's modules: torch and pyiqa are imported for those who measure."""
    from ...imaging.metrics import named, quality  # noqa: PLC0415

    return quality, named


def _single(names: Sequence[str]) -> list[str]:
    return [name for name in names if name not in OF_FOLDERS]


def read_names(text: str) -> tuple[str, ...]:
    """Metrics of a list with commas; a StepError for names that pyiqa does not know. An empty list asks for none."""
    wanted = [part.strip().lower() for part in text.split(",") if part.strip()]
    of_folders = [name for name in OF_FOLDERS if name in wanted]
    single = _single(wanted)
    try:
        return (*(_metrics()[0].names_in(",".join(single)) if single else ()), *of_folders)
    except ValueError as error:
        raise StepError(str(error)) from error
    except ModuleNotFoundError as error:
        raise StepError(
            f"pyiqa, which computes the metrics, could not be imported ({error}): pip install pyiqa."
        ) from error


@dataclass
class Judges:
    """The metrics that could be made, and why others could not."""

    made: Mapping[str, Any] = field(default_factory=dict[str, Any])
    compared: frozenset[str] = frozenset()
    left_out: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, names: Sequence[str]) -> Judges:
        """Makes the metrics of single pictures, on the CPU: equal numbers on every machine, and the GPU is the workflow's."""
        single = _single(names)
        if not single:
            return cls()
        quality, named = _metrics()
        made = named.named_metrics(single, _cpu(), quality.options_for(single, luma=True))
        return cls(made.found, frozenset(quality.needs_reference(single)), dict.fromkeys(made.left_out, NO_WEIGHTS))

    def measure(self, picture: Tensor, reference: Tensor | None) -> tuple[dict[str, float | None], list[str]]:
        """Values of a picture (1, 3, H, W) in [0, 1] by metric, None where there is none, and why."""
        values: dict[str, float | None] = {}
        notes: list[str] = []
        for name, metric in self.made.items():
            values[name] = None
            if name in self.compared and reference is None:
                continue
            try:
                pair = (picture,) if name not in self.compared or reference is None else (picture, reference)
                values[name] = _metrics()[0].score(metric, name, [pair]).values[0]
            except (RuntimeError, AssertionError, ValueError, IndexError) as error:
                # Each has smallest sizes of its own.
                reason = (str(error) or type(error).__name__).splitlines()[0]
                notes.append(f"no {name} ({reason[:80]})")
        return values, notes


def compared(names: Sequence[str]) -> tuple[str, ...]:
    """Those of the metrics of single pictures that need a reference."""
    single = _single(names)
    return _metrics()[0].needs_reference(single) if single else ()


def _cpu() -> Any:
    return importlib.import_module("torch").device("cpu")


def lower_is_better(name: str) -> bool:
    """By pyiqa's list of its metrics."""
    settings = importlib.import_module("pyiqa.default_model_configs").DEFAULT_CONFIGS
    return bool(settings.get(name, {}).get("lower_better", False))


def of_folders(name: str, results: Path, references: Path) -> tuple[float | None, str]:
    """A metric of all results against all references, or why there is none."""
    made = _metrics()[1].named_metrics([name], _cpu())
    if name not in made.found:
        return None, NO_WEIGHTS
    return float(made.found[name](str(results), str(references))), ""


@dataclass(frozen=True)
class Summary:
    """Mean of the finite values of `count` pictures and half of the width of its 95 % interval, None below two pictures."""

    mean: float
    half_width: float | None
    count: int


def summary(values: Sequence[float | None]) -> Summary | None:
    """By Student's t: what other pictures of the same kind would be expected to give on the average; None without a value."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return None
    count, mean = len(finite), math.fsum(finite) / len(finite)
    if count < 2:
        return Summary(mean, None, count)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in finite) / (count - 1))
    quantile = float(importlib.import_module("scipy.stats").t.ppf(0.975, count - 1))
    return Summary(mean, quantile * deviation / math.sqrt(count), count)
