"""The gain regressor and the injection network as one file: tensors under `mmle.` and `pfj.`, meaning in the metadata.

Either part may be missing. The metadata entry says which metrics the gains are of, with their ranges, weights and scales, and
which base network the parts were trained on; they are refused for another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import nn

from .feature_injection import Pfj, PfjConfig
from .gain_regressor import Mmle, MmleConfig
from .state_dict import StateDict, UnsupportedModelError

METADATA_KEY = "adaptivesr_gain_models"
FORMAT = 1
LONGEST_NAME = 300
"""Characters of a name in the metadata."""
PARTS = ("mmle.", "pfj.")


@dataclass(frozen=True)
class GainModelsConfig:
    """Sizes of both parts; None where a file has none."""

    mmle: MmleConfig | None
    pfj: PfjConfig | None

    def __post_init__(self) -> None:
        sizes = {part.metrics for part in (self.mmle, self.pfj) if part is not None}
        if len(sizes) != 1:
            raise UnsupportedModelError(
                "Expected a gain regressor, an injection network, or both with the same number of metrics, got numbers of "
                f"{sorted(sizes) or 'neither'}."
            )

    @property
    def metrics(self) -> int:
        """Gains that the parts give or take."""
        return cast("MmleConfig | PfjConfig", self.mmle or self.pfj).metrics

    @property
    def label(self) -> str:
        """What the file holds, for users. The injection network's channels are those of the input as the base is given it."""
        names = {"MMLE for latents of": self.mmle, "PFJ for an LR condition of": self.pfj}
        parts = [f"{name} {part.latent_channels} channels" for name, part in names.items() if part is not None]
        return f"{', '.join(parts)}; {self.metrics} metrics"

    @classmethod
    def from_state_dict(cls, sd: StateDict) -> GainModelsConfig:
        """From a canonical state dict with the keys of at least one part."""
        mmle, pfj = (_below(sd, prefix) for prefix in PARTS)
        return cls(
            MmleConfig.from_state_dict(mmle) if mmle else None,
            PfjConfig.from_state_dict(pfj) if pfj else None,
        )


def _below(sd: StateDict, prefix: str) -> StateDict:
    return {key.removeprefix(prefix): value for key, value in sd.items() if key.startswith(prefix)}


class GainModels(nn.Module):
    """Both networks; a part that the file lacks is None."""

    def __init__(
        self,
        config: GainModelsConfig,
        operations: Any = torch.nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.mmle = None if config.mmle is None else Mmle(config.mmle, operations, device, dtype)
        self.pfj = None if config.pfj is None else Pfj(config.pfj, operations, device, dtype)


@dataclass(frozen=True)
class MetricInfo:
    """One of the gains' metrics: raw values low and high are 0 and 1, weight is omega in its group, scale the target's deviation."""

    name: str
    low: float
    high: float
    lower_better: bool
    full_reference: bool
    weight: float
    scale: float = 1.0


@dataclass(frozen=True)
class GainModelsInfo:
    """What the metadata of a file says: the base's identity and name, the timestep below which quality counts, the metrics.

    tau: the gain per step of a chain of 200 from which a region changes, for the gains of this file; None is the paper's 5e-3.
    """

    base: str
    base_label: str
    metrics: tuple[MetricInfo, ...]
    t_half: float = 500.0
    tau: float | None = None

    def to_metadata(self) -> dict[str, str]:
        """The metadata entries of a safetensors file."""
        return {METADATA_KEY: json.dumps({"format": FORMAT, **asdict(self)})}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str] | None) -> GainModelsInfo:
        """Reads what `to_metadata` wrote. UnsupportedModelError says what is missing or cannot be."""
        text = (metadata or {}).get(METADATA_KEY)
        if text is None:
            raise UnsupportedModelError(
                f"The file has no metadata entry '{METADATA_KEY}', so the metrics of its gains and its base are unknown: expected a "
                ".safetensors file as Train MMLE and Train PFJ write it."
            )
        try:
            content: dict[str, Any] = json.loads(text)
            version = content.pop("format")
            metrics = tuple(MetricInfo(**row) for row in content.pop("metrics"))
            info = cls(metrics=metrics, **content)
            numbers = _finite(info.t_half) and (info.tau is None or (_finite(info.tau) and info.tau > 0))
            broken = not (_named(info) and metrics and all(map(_makes_sense, metrics)) and numbers)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise UnsupportedModelError(
                f"The metadata entry '{METADATA_KEY}' cannot be read ({str(error)[:100]}): expected JSON as Train MMLE writes it; the "
                "file is damaged or of a newer version of this pack."
            ) from error
        if version != FORMAT or broken:
            raise UnsupportedModelError(
                f"The metadata entry '{METADATA_KEY}' is of format {str(version)[:20]} with {len(metrics)} metrics: expected format {FORMAT}, a "
                "base, metrics with finite rising ranges and a positive tau; the file is damaged or of a newer version of this pack."
            )
        return info

    def check_parts(self, config: GainModelsConfig) -> None:
        """UnsupportedModelError where the networks have another number of gains than the metadata names."""
        if config.metrics != len(self.metrics):
            raise UnsupportedModelError(
                f"The networks have {config.metrics} gains, the metadata names {len(self.metrics)} metrics: expected as many; the file "
                "is damaged."
            )

    def check_base(self, base: str, label: str) -> None:
        """Refuses a base network other than the one that the parts were trained on."""
        if base != self.base:
            raise UnsupportedModelError(
                f"These MMLE and PFJ parts were trained on {self.base_label} ({self.base}), the MODEL is {label} ({base}): expected "
                "the same network; choose the file for this MODEL, train one with Train MMLE, or use a back end without weights."
            )


def _finite(number: object) -> bool:
    """Whether it is a number, by its type too: JSON may hold anything, and whole numbers beyond every float."""
    return isinstance(number, (int, float)) and not isinstance(number, bool) and abs(number) < 1e30


def _named(info: GainModelsInfo) -> bool:
    """Whether all names are texts that a line can show, and those of metrics differ."""
    names = [metric.name for metric in info.metrics]
    return all(map(_is_name, (info.base, info.base_label, *names))) and len(set(names)) == len(names)


def _is_name(text: object) -> bool:
    """Whether it is a text, which JSON does not promise, of a length that a line can show."""
    return isinstance(text, str) and 0 < len(text) <= LONGEST_NAME


def _makes_sense(metric: MetricInfo) -> bool:
    numbers = (metric.low, metric.high, metric.weight, metric.scale)
    return all(map(_finite, numbers)) and metric.low < metric.high and metric.weight >= 0 and metric.scale > 0


def base_identity(shapes: Mapping[str, Sequence[int]]) -> str:
    """Identity of a network by the names and shapes of its tensors: the same for every storage type and every fine-tune of it."""
    lines = [f"{key}:{'x'.join(map(str, shape))}" for key, shape in sorted(shapes.items())]
    return hashlib.blake2b("\n".join(lines).encode("utf-8"), digest_size=8).hexdigest()
