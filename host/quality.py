"""Metrics of IMAGEs by pyiqa, as numbers and as a picture of bars."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import comfy.model_management as mm
import torch
from torch import Tensor

from ..imaging.metrics.named import named_metrics
from ..imaging.metrics.quality import OFFLINE, Score, names_in, needs_reference, options_for, score
from .runtime import HostRuntime


@dataclass(frozen=True)
class Choices:
    """What to measure: names with commas, pixels that are left out at the border, brightness alone, names of the images."""

    metrics: str
    crop_border: int = 4
    luma: bool = True
    labels: str = ""


@dataclass(frozen=True)
class Measured:
    """Scores in the order of the list, those of the other pictures, why metrics are missing, and a label for every picture."""

    scores: tuple[Score, ...]
    others: tuple[Score | None, ...]
    left_out: dict[str, str]
    labels: tuple[str, ...]

    @property
    def first(self) -> Score:
        """The first metric that gave a number."""
        return next(entry for entry in self.scores if entry.mean is not None)


def measure_images(
    rgb: Tensor, reference: Tensor | None, other: Tensor | None, choices: Choices
) -> tuple[Measured, dict[str, Any]]:
    """Scores of RGB (B, 3, H, W) in [0, 1], and of others of that size, against one reference or one for each; and a report.

    Metrics that cannot be had are left out and named. Raises ValueError if none is left, and for sizes that do not fit.
    """
    wanted = _names(choices.metrics)
    left_out: dict[str, str] = {}
    if reference is None:
        left_out |= dict.fromkeys(needs_reference(wanted), "compares with a reference, and none is connected")
    _check_sizes(rgb, reference, other, choices.crop_border)
    labels = _labels(choices.labels, len(rgb), 0 if other is None else len(other))
    names = [name for name in wanted if name not in left_out]
    made = named_metrics(names, _device(), options_for(names, luma=choices.luma))
    left_out |= dict.fromkeys(made.left_out, "its weights or packages could not be had (no network?)")
    scores: list[Score] = []
    others: list[Score | None] = []
    runtime = HostRuntime(len(made.found))
    for name, metric in made.found.items():
        runtime.step(0)
        truth = reference if needs_reference([name]) else None
        sets = [None if x is None else _pairs(x, truth, choices.crop_border) for x in (rgb, other)]
        try:
            own, beside = (None if pairs is None else score(metric, name, pairs) for pairs in sets)
        except (RuntimeError, AssertionError, ValueError, IndexError) as error:
            # Every metric has smallest sizes of its own, and says so in its own way.
            if runtime.is_out_of_memory(error):
                raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            left_out[name] = f"cannot measure this picture ({reason[:120]})"
        else:
            scores += [] if own is None else [own]
            others.append(beside)
        runtime.step(1)
    measured = Measured(tuple(scores), tuple(others), left_out, labels)
    _check_some(measured)
    return measured, _report(measured, rgb, reference, choices)


def _device() -> torch.device:
    """Where metrics are computed: many count in float64, which devices other than CUDA's may lack."""
    device = mm.get_torch_device()
    return device if device.type == "cuda" else torch.device("cpu")


def _names(text: str) -> tuple[str, ...]:
    try:
        return names_in(text)
    except ModuleNotFoundError as error:
        raise ValueError(
            "pyiqa, which computes the metrics, could not be imported: expected it in ComfyUI's environment; run 'pip install "
            f"pyiqa' there. ({error})"
        ) from error


def _check_sizes(rgb: Tensor, reference: Tensor | None, other: Tensor | None, border: int) -> None:
    height, width = rgb.shape[2:]
    if 2 * border >= min(height, width):
        raise ValueError(
            f"Got crop_border {border} for a picture of {width}x{height}: expected less than half of its shorter side; lower it."
        )
    for name, given in (("reference", reference), ("picture in 'compare'", other)):
        if given is not None and given.shape[2:] != rgb.shape[2:]:
            raise ValueError(
                f"The picture has {width}x{height} pixels, the {name} {given.shape[3]}x{given.shape[2]}: expected equal sizes; "
                "upscale to the reference's width and height, or resize one of them."
            )
    for given in (rgb, other):
        if reference is not None and given is not None and len(reference) not in (1, len(given)):
            raise ValueError(
                f"Got {len(given)} images and {len(reference)} references: expected one reference, or one for each image."
            )


def _pairs(rgb: Tensor, reference: Tensor | None, border: int) -> Iterator[tuple[Tensor, ...]]:
    """(picture,) or (picture, reference) for one image after another, without the border, on the device that measures."""
    height, width = rgb.shape[2:]
    inside = (..., slice(border, height - border), slice(border, width - border))
    device = _device()
    sets = [rgb] if reference is None else [rgb, reference.expand(len(rgb), -1, -1, -1)]
    for images in zip(*(part.split(1) for part in sets)):
        yield tuple(image[inside].clamp(0, 1).to(device) for image in images)


def _labels(text: str, images: int, others: int) -> tuple[str, ...]:
    given = [part.strip() for part in text.split(",") if part.strip()]
    groups = [count for count in (images, others) if count]
    if len(given) == len(groups) < images + others:  # animated pictures: a label names all that it came with
        return tuple(f"{label} {i + 1}" for label, count in zip(given, groups) for i in range(count))
    if given and len(given) != images + others:
        raise ValueError(
            f"Got {len(given)} labels for {images + others} images: expected one for each, with commas, one for image and one for compare, "
            "or none."
        )
    if given:
        return tuple(given)
    if images == 1 and others:
        own = ["image"]
    else:
        own = [str(i + 1) for i in range(images)]
    return (*own, *("compare" if others == 1 else f"compare {i + 1}" for i in range(others)))


def _check_some(measured: Measured) -> None:
    if any(entry.mean is not None for entry in measured.scores):
        return
    reasons = [f"{name} {reason}" for name, reason in measured.left_out.items()]
    reasons += [f"{entry.name} gave no finite number" for entry in measured.scores]
    raise ValueError(
        f"No metric could be computed: {'; '.join(reasons)}. Expected at least one; without weights there are {', '.join(OFFLINE)}, "
        "of which only piqe needs no reference."
    )


def _report(measured: Measured, rgb: Tensor, reference: Tensor | None, choices: Choices) -> dict[str, Any]:
    values = {
        entry.name: {
            "better": "lower" if entry.lower_is_better else "higher",
            "mean": _short(entry.mean),
            "values": [_short(value) for value in entry.values],
            **({} if other is None else {"compared": [_short(value) for value in other.values]}),
        }
        for entry, other in zip(measured.scores, measured.others)
    }
    return {
        "size": f"{len(rgb)} x {rgb.shape[3]}x{rgb.shape[2]}",
        "reference": reference is not None,
        "crop_border": choices.crop_border,
        "y_channel": choices.luma,
        "labels": list(measured.labels),
        "score": {"metric": measured.first.name, "mean": _short(measured.first.mean)},
        "metrics": values,
        "left_out": measured.left_out,
    }


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def describe(measured: Measured) -> str:
    """Means in a line, and what is missing."""
    means = ", ".join(
        f"{entry.name} {number(entry.mean)}" + ("" if other is None else f" (compared: {number(other.mean)})")
        for entry, other in zip(measured.scores, measured.others)
    )
    missing = f"; left out: {', '.join(measured.left_out)}" if measured.left_out else ""
    return means + missing


def number(value: float | None) -> str:
    """Four digits that count."""
    return "no number" if value is None else f"{value:.4g}"
