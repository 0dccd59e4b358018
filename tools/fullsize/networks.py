"""What one forward of a network costs: counted at its first call of a shape, remembered for the next ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_flatten, tree_map

from .recorder import HALVES, DeviceFaultError, Recorder, Sync

WIDE_SHARE = 0.02
"""Of a half-precision network's arithmetic, what may be float32: embeddings of times, searches of codes."""

Made = tuple[tuple[int, ...], tuple[int, ...], torch.dtype, torch.device]


@dataclass
class Forward:
    """One shape of inputs: rows, arithmetic, bytes of activations above what was alive before, and the waits inside."""

    rows: int
    size: tuple[int, ...]
    dtype: torch.dtype
    flop: int
    peak: int
    timeline: list[Sync | str]
    out: Any
    calls: int = 1


@dataclass
class Watched:
    """A network whose forwards are counted."""

    name: str
    module: nn.Module
    estimate: Callable[[Forward], float] | None = None
    """Bytes that the host plans for such a call."""
    marks: bool = True
    """Whether its calls part the steps of a run."""
    forwards: dict[Any, Forward] = field(default_factory=dict[Any, Forward])

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.module.parameters())


def watch(
    recorder: Recorder,
    name: str,
    module: nn.Module,
    method: str = "forward",
    *,
    estimate: Callable[[Forward], float] | None = None,
    marks: bool = True,
) -> Watched:
    """Counts the calls of one method of a network; a call of known shapes is not computed again."""
    watched = Watched(name, module, estimate, marks)
    inner: Callable[..., Any] = getattr(module, method)

    def call(*args: Any, **kwargs: Any) -> Any:
        leaves = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        if torch.is_grad_enabled() and any(leaf.requires_grad for leaf in (*leaves, *module.parameters())):
            return inner(*args, **kwargs)  # a graph is needed, not numbers only
        if watched.marks:
            recorder.counts.timeline.append(name)
        key = tuple((tuple(leaf.shape), leaf.dtype, str(leaf.device)) for leaf in leaves)
        known = watched.forwards.get(key)
        if known is not None:
            return _repeat(recorder, known)
        first = leaves[0]
        live, before = recorder.live, recorder.counts
        recorder.start()
        try:
            out = inner(*args, **kwargs)
        finally:
            inside, recorder.counts = recorder.counts, before
        if first.dtype in HALVES and inside.wide > WIDE_SHARE * inside.flop:
            raise DeviceFaultError(
                f"{name} got {first.dtype} and computes {inside.wide / inside.flop:.0%} of its products in float32: a constant or a "
                "normalisation has widened what flows through it."
            )
        made = tree_map(lambda leaf: _spec(leaf) if isinstance(leaf, FakeTensor) else leaf, out)
        known = Forward(
            len(first), tuple(first.shape[1:]), first.dtype, inside.flop, inside.peak - live, inside.timeline, made, 0
        )
        watched.forwards[key] = known
        _add(recorder, known, live)
        return out

    object.__setattr__(module, method, call)
    return watched


class _Spec:
    """Shape, dtype and device of a result."""

    def __init__(self, tensor: Tensor) -> None:
        self.shape, self.dtype, self.device = tensor.shape, tensor.dtype, tensor.device


def _spec(tensor: Tensor) -> _Spec:
    return _Spec(tensor)


def _repeat(recorder: Recorder, known: Forward) -> Any:
    _add(recorder, known, recorder.live)
    return tree_map(
        lambda leaf: torch.empty(leaf.shape, dtype=leaf.dtype, device=leaf.device) if isinstance(leaf, _Spec) else leaf,
        known.out,
    )


def _add(recorder: Recorder, known: Forward, live: int) -> None:
    known.calls += 1
    counts = recorder.counts
    counts.flop += known.flop
    counts.peak = max(counts.peak, live + known.peak)
    counts.timeline += known.timeline
