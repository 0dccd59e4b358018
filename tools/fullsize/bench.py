"""One run of the product on fake tensors, and what was found out about it."""

from __future__ import annotations

import gc
import importlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from ...models.memory import activation_bytes
from .device import run_node
from .networks import Forward, Watched, watch
from .recorder import DeviceFaultError, Recorder, Sync
from .weights import Files

Case = Callable[["Bench"], None]
"""Some runs that share a loaded model."""
OURS = ("host/", "nodes/", "sampling/", "models/", "imaging/", "training/")


@dataclass(frozen=True)
class Result:
    """What a run needed; bytes of the device, `estimates` as (network, estimate / counted peak of a call)."""

    name: str
    dtype: str
    parameters: int
    weights: int
    flop: int
    peak: int
    calls: int
    """Of the sampled network, the last one not counted: waits are told a call."""
    waits: Counter[Sync]
    estimates: Sequence[tuple[str, float]]
    seconds: float

    def per_call(self, *, own: bool) -> float:
        """Waits for each call of the sampled network, on lines of this pack or of the host."""
        found = sum(count for sync, count in self.waits.items() if sync.place.startswith(OURS) is own)
        return found / max(1, self.calls)


@dataclass
class Bench:
    """The fake GPU with model files, and the results so far."""

    recorder: Recorder
    base: Path
    dtype: str
    results: list[Result] = field(default_factory=list[Result])
    watched: list[Watched] = field(default_factory=list[Watched])

    def __post_init__(self) -> None:
        self.files = Files(self.recorder, self.base)

    @property
    def half(self) -> torch.dtype:
        """What checkpoints are stored in."""
        return {"bf16": torch.bfloat16, "fp32": torch.float32}.get(self.dtype, torch.float16)

    def watch(
        self,
        name: str,
        module: nn.Module,
        method: str = "forward",
        *,
        estimate: Callable[[Forward], float] | None = None,
        marks: bool = True,
    ) -> None:
        """Counts a network's calls in the next run."""
        self.watched.append(watch(self.recorder, name, module, method, estimate=estimate, marks=marks))

    def watch_model(self, name: str, model: Any, beside: nn.Module | None = None) -> None:
        """Counts the calls of a MODEL's network, against the host's estimate of them and our own of what runs inside of them."""
        channels = model.get_model_object("latent_format").latent_channels

        def estimate(call: Forward) -> float:
            host = model.model.memory_required([call.rows, channels, *call.size[1:]])
            if beside is None:
                return host
            return max(host, call.rows * activation_bytes(beside, *call.size[1:], call.dtype.itemsize))

        self.watch(name, model.model.diffusion_model, estimate=estimate)

    def watch_vae(self, vae: Any) -> None:
        """Counts a VAE's calls against what the host plans for them."""
        first = vae.first_stage_model

        def encode(call: Forward) -> float:
            return call.rows * vae.memory_used_encode((1, *call.size), call.dtype)

        def decode(call: Forward) -> float:
            return call.rows * vae.memory_used_decode((1, *call.size), call.dtype)

        self.watch("VAE encode", first, "encode", estimate=encode, marks=False)
        self.watch("VAE decode", first, "decode", estimate=decode, marks=False)

    def watch_own(self, name: str, module: nn.Module, *, factor: int = 1, marks: bool = True) -> None:
        """Counts the calls of a network of this pack, against its row of `models.memory`; factor: pixels of its input along a cell."""

        def estimate(call: Forward) -> float:
            height, width = call.size[-2] // factor, call.size[-1] // factor
            return call.rows * activation_bytes(module, height, width, call.dtype.itemsize)

        self.watch(name, module, estimate=estimate, marks=marks)

    def run(self, name: str, call: Callable[[], Any]) -> Any:
        """Runs it, writes the result down and returns what it gave."""
        start = perf_counter()
        self.recorder.start()
        with self.files.readable():
            given = call()
        modules = {id(entry.module): entry for entry in self.watched}
        ratios = [
            (f"{entry.name} {'x'.join(map(str, (f.rows, *f.size)))}", entry.estimate(f) / max(1, f.peak))
            for entry in self.watched
            if entry.estimate is not None
            for f in entry.forwards.values()
        ]
        waits, calls = self.recorder.counts.syncs_between_calls()
        self.results.append(
            Result(
                name,
                self.dtype,
                sum(entry.parameters for entry in modules.values()),
                self.recorder.weights,
                self.recorder.counts.flop,
                self.recorder.activations,
                calls,
                waits,
                ratios,
                perf_counter() - start,
            )
        )
        return given

    def load(self, node_id: str, **inputs: Any) -> tuple[Any, ...]:
        """What a loader gives; not measured."""
        with self.files.readable():
            return run_node(node_id, **inputs)

    def clear(self) -> None:
        """Between two cases, when their own names are gone: nothing is loaded, nothing is watched, nothing is left on the device."""
        self.watched.clear()
        importlib.import_module("comfy.model_management").current_loaded_models.clear()
        gc.collect()
        if self.recorder.live:
            raise DeviceFaultError(
                f"{self.recorder.live} bytes are still on the device when a run and its models are gone."
            )
