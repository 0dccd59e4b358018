"""The list of `dev.py fullsize` for real: nodes from their inputs to their results, with random weights of published size."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..env.in_process import enter_host
from ..fullsize.bench import Bench, Case
from ..fullsize.recorder import Recorder
from ..small_models.random_tensors import random_tensor
from .checks import Outcome

POOL = 2**20


class LiveRecorder(Recorder):
    """In the place of the fake one: tensors are real, nothing is intercepted."""

    def __init__(self) -> None:
        super().__init__(0)
        self._pool = torch.randn(POOL, generator=torch.Generator().manual_seed(0))

    def tensor(self, key: str, shape: Iterable[int], dtype: torch.dtype) -> Tensor:
        """A random tensor out of one pool of numbers for all, since billions take minutes to draw."""
        return random_tensor(key, shape, self._drawn).to(dtype)

    def _drawn(self, size: torch.Size) -> Tensor:
        return self._pool.repeat(-(-size.numel() // POOL))[: size.numel()].reshape(size)


@dataclass
class LiveBench(Bench):
    """Runs for real: seconds and peak memory of a second run, arithmetic of the first."""

    outcomes: list[Outcome] = field(default_factory=list[Outcome])

    def watch(self, name: str, module: nn.Module, method: str = "forward", **options: Any) -> None:
        """Calls are not counted one by one here."""

    def run(self, name: str, call: Callable[[], Any]) -> Any:
        """Runs it twice, writes down what it took and returns what it gave."""
        on_gpu = torch.cuda.is_available()
        with self.files.readable():
            with FlopCounterMode(display=False) as counter:
                call()
            if on_gpu:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            began = perf_counter()
            given = call()
            if on_gpu:
                torch.cuda.synchronize()
        self.outcomes.append(
            {
                "check": "published",
                "name": name,
                "dtype": self.dtype,
                "tflop": counter.get_total_flops() / 1e12,
                "seconds": perf_counter() - began,
                "peak_gb": torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None,
                "ok": True,
            }
        )
        return given


def enter(source: Path, *, cpu: bool) -> Path:
    """Imports the host with a models folder of its own; returns its base folder."""
    enter_host(source, cpu=cpu)
    args = importlib.import_module("comfy.cli_args").args
    base = Path(tempfile.mkdtemp(prefix="adaptivesr-device-"))
    for folder in ("models", "input", "output", "temp", "user"):
        (base / folder).mkdir()
    args.base_directory, args.database_url, args.disable_api_nodes = str(base), "sqlite:///:memory:", True
    importlib.import_module("adaptivesr.host.files").register_folders()
    return base


def run(base: Path, cases: Iterable[Case], is_late: Callable[[], bool]) -> Iterator[Outcome]:
    """Outcomes of all cases; those that come too late are named and not run."""
    for case in cases:
        if is_late():
            yield {"check": "published", "name": case.__name__, "ok": True, "skipped": "no time was left"}
            continue
        bench = LiveBench(LiveRecorder(), base, "auto")
        try:
            case(bench)
        except Exception as error:  # noqa: BLE001  the list goes on, the exit code tells
            bench.outcomes.append(
                {"check": "published", "name": case.__name__, "ok": False, "reason": f"{type(error).__name__}: {error}"}
            )
        yield from bench.outcomes
        bench.clear()
