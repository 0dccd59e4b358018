"""pyiqa's metrics by name, made on demand: importing pyiqa takes seconds, and most of its metrics fetch weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class NamedMetrics:
    """What could be made: functions of pictures in [0, 1] (and references); names whose weights or packages could not."""

    found: dict[str, Callable[..., Tensor]] = field(default_factory=dict[str, Callable[..., Tensor]])
    left_out: tuple[str, ...] = ()


def named_metrics(
    names: Sequence[str], device: torch.device, options: Mapping[str, Mapping[str, bool | str]] | None = None
) -> NamedMetrics:
    """pyiqa's metrics of these names on a device, with options by name. pyiqa is imported, and its downloads happen, only if
    there are names.
    """
    if not names:
        return NamedMetrics()
    create = importlib.import_module("pyiqa").create_metric
    found: dict[str, Callable[..., Tensor]] = {}
    for name in names:
        try:
            found[name] = create(name, device=device, **(options or {}).get(name, {}))
        except (OSError, ImportError):
            # no network and no file: urllib's, huggingface_hub's and requests' errors are OSErrors; or a package of that metric
            continue
    return NamedMetrics(found, tuple(name for name in names if name not in found))


def check_names(names: Sequence[str]) -> None:
    """ValueError for names that pyiqa has no metric of."""
    if not names:
        return
    known = set(importlib.import_module("pyiqa").list_models())
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"Got the metrics {', '.join(unknown)}: expected names of pyiqa, separated by spaces, such as psnr ssim nlpd gmsd lpips."
        )
