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

from .device import run_node
from .networks import Forward, Watched, watch
from .recorder import Recorder, Sync
from .weights import Files

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
    steps: int
    per_step: Counter[Sync]
    estimates: Sequence[tuple[str, float]]
    seconds: float

    @property
    def own_syncs(self) -> int:
        """Waits per step on lines of this pack."""
        return sum(count for sync, count in self.per_step.items() if sync.place.startswith(OURS))

    @property
    def host_syncs(self) -> int:
        """Waits per step on lines of the host."""
        return sum(self.per_step.values()) - self.own_syncs


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

    def watch_model(self, name: str, model: Any) -> None:
        """Counts the calls of a MODEL's network, against the host's estimate of them."""
        channels = model.get_model_object("latent_format").latent_channels

        def estimate(call: Forward) -> float:
            return model.model.memory_required([call.rows, channels, *call.size[1:]])

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

    def run(self, name: str, call: Callable[[], Any], *, steps: int = 1) -> Any:
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
        self.results.append(
            Result(
                name,
                self.dtype,
                sum(entry.parameters for entry in modules.values()),
                self.recorder.weights,
                self.recorder.counts.flop,
                self.recorder.activations,
                steps,
                self.recorder.counts.syncs_per_step(steps),
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
        """Between two methods: nothing is loaded, nothing is watched."""
        self.watched.clear()
        importlib.import_module("comfy.model_management").current_loaded_models.clear()
        gc.collect()
