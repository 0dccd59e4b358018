"""What a frozen base predicts along its fixed-step chain, with the metrics of every prediction, cached on disk.

Labels of the gain regressor are differences between the metrics of two cached predictions, so each is measured once
(AdaDiffSR, section 3.2). Shards are files of a folder that is named by a hash of everything that decides them; what an
interrupted run has left is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...imaging.metrics.gain_measures import Measure
from ...sampling.adaptive.steppers import Last, Step, stepper_for
from ...sampling.adaptive.types import NoiseSpace
from ...sampling.noise import generator_for
from ..atomic import replace_file
from ..data import PairSource
from .base import GainBase, Seen

SHARD = 8
"""Trajectories in one file."""


@dataclass(frozen=True)
class Trajectories:
    """Metrics of all trajectories in memory, their predictions in shards on disk."""

    shards: Sequence[Path]
    metrics: tuple[str, ...]
    scores: Tensor
    """(N, n, M) raw values of the metrics; NaN where one is not defined."""
    contrast: Tensor
    """(N,) standard deviation of the low-resolution picture's luma, by which flat regions are known."""

    def __len__(self) -> int:
        return len(self.scores)

    def latents(self, trajectory: Sequence[int], index: Sequence[int]) -> Tensor:
        """Predictions (B, C, h, w) at places of the chain, 0 the first."""
        return torch.stack([self._slice("x0", t, i) for t, i in zip(trajectory, index)]).float()

    def references(self, trajectory: Sequence[int]) -> Tensor:
        """The originals (B, C, h, w) of trajectories."""
        return torch.stack([self._slice("reference", t) for t in trajectory]).float()

    def _slice(self, name: str, trajectory: int, index: int | None = None) -> Tensor:
        part = self._files[trajectory // SHARD].get_slice(name)
        row = trajectory % SHARD
        return part[row] if index is None else part[row, index]

    @cached_property
    def _files(self) -> list[safe_open]:
        return [safe_open(path, framework="pt") for path in self.shards]


@dataclass(frozen=True)
class Caching:
    """What decides a cache: how many trajectories (rounded up to whole shards), the samplers, the seed, and words on the rest."""

    count: int
    samplers: tuple[str, ...]
    """Shards take turns with them."""
    seed: int
    about: Mapping[str, str]
    """Base, pictures, degradation and metrics: whatever would change the files."""

    def path(self, base: Path, index: int) -> Path:
        """Where a shard lies; a greater count, or more samplers, find those of a smaller cache there."""
        key = {"sampler": self.sampler(index), "seed": self.seed, **self.about}
        digest = hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=8).hexdigest()
        return base / f"trajectories_{digest}" / f"{index:05}.safetensors"

    def sampler(self, index: int) -> str:
        """The sampler of a shard."""
        return self.samplers[index % len(self.samplers)]

    @property
    def shards(self) -> int:
        """Number of files."""
        return -(-self.count // SHARD)


def run_chain(base: GainBase, seen: Seen, sampler: str, generator: torch.Generator) -> Tensor:
    """All predictions (B, n, C, h, w) of the fixed-step chain over `base.sigmas`, each row with noise of its own."""
    stepper = stepper_for(sampler, NoiseSpace.VARIANCE_EXPLODING)

    def noise() -> Tensor:
        return torch.randn(seen.reference.shape, generator=generator).to(seen.reference)

    x = base.start(seen, noise())
    column = (-1, 1, 1, 1)
    predictions: list[Tensor] = []
    last: Last | None = None
    for sigma, sigma_next in zip(base.sigmas[:-1], base.sigmas[1:]):
        level, after = (s.to(x).expand(len(x)) for s in (sigma, sigma_next))
        x0 = base.predict(x, level, seen)
        predictions.append(x0.cpu())
        drawn = noise() if stepper.needs_noise and float(sigma_next) > 0 else None
        x = stepper.step(Step(x, x0, level.view(column), after.view(column), drawn, last))
        last = Last(x0, level.view(column)) if stepper.needs_last else None
    return torch.stack(predictions, dim=1)


def measured(
    base: GainBase, predictions: Tensor, reference: Tensor, measures: Mapping[str, Measure], rows: int = 16
) -> Tensor:
    """Raw metrics (B, n, M) of decoded predictions (B, n, C, h, w) against the decoded original (B, C, h, w)."""
    result: list[Tensor] = []
    for chain, original in zip(predictions, reference):
        target = base.decode(original[None].to(base.device)).float().clamp(0, 1)
        parts: list[Tensor] = []
        for part in chain.split(rows):
            pictures = base.decode(part.to(base.device)).float().clamp(0, 1)
            against = target.expand_as(pictures)
            values = [measure(pictures, against).flatten().float().cpu() for measure in measures.values()]
            parts.append(torch.stack(values, dim=1))  # (rows, M)
        result.append(torch.cat(parts))
    return torch.stack(result)


@torch.no_grad()
def build(
    folder: Path,
    caching: Caching,
    base: GainBase,
    source: PairSource,
    measures: Mapping[str, Measure],
    after_shard: Callable[[int], None] | None = None,
) -> Trajectories:
    """Makes the shards that are missing and opens all; after_shard(shards done) may show and raise."""
    paths = [caching.path(folder, index) for index in range(caching.shards)]
    for index, path in enumerate(paths):
        if not is_whole(path, len(measures)):
            _make_shard(path, caching, index, base, source, measures)
        if after_shard is not None:
            after_shard(index + 1)
    return opened(paths, tuple(measures))


def is_whole(path: Path, metrics: int) -> bool:
    """Whether a shard is there and can be read, with scores of so many metrics; others are made again."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in ("x0", "reference", "contrast")}
            scores = file.get_tensor("scores")
    except Exception:  # noqa: BLE001  whatever its reader raises, the shard is of no use
        return False
    rows, calls = shapes["x0"][:2]
    alike = shapes["reference"][:1] == shapes["contrast"] == [rows]
    return alike and tuple(scores.shape) == (rows, calls, metrics)


def _make_shard(
    path: Path,
    caching: Caching,
    index: int,
    base: GainBase,
    source: PairSource,
    measures: Mapping[str, Measure],
) -> None:
    """One file; written beside and moved, so that a shard is whole or missing."""
    generator = generator_for(caching.seed, index)
    _, lr = source.batch(generator, SHARD)
    seen = base.see(lr)
    predictions = run_chain(base, seen, caching.sampler(index), generator)
    if not bool(torch.isfinite(predictions).all()):
        raise ValueError(
            "The base predicted values that are not finite: expected finite ones; use the MODEL in float32 or bfloat16, and look at "
            "its pictures first."
        )
    reference = seen.reference.cpu()
    tensors = {
        "x0": predictions.half(),
        "reference": reference.half(),
        "scores": measured(base, predictions, reference, measures),
        "contrast": lr.mean(1).flatten(1).std(1),
    }
    whole = {name: value.contiguous() for name, value in tensors.items()}
    replace_file(path, lambda place: save_file(whole, place))


def opened(paths: Sequence[Path], metrics: tuple[str, ...]) -> Trajectories:
    """Trajectories of whole shards."""
    scores, contrast = [], []
    for path in paths:
        with safe_open(path, framework="pt") as file:
            scores.append(file.get_tensor("scores"))
            contrast.append(file.get_tensor("contrast"))
    return Trajectories(paths, metrics, torch.cat(scores), torch.cat(contrast))
