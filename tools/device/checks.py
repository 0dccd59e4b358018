"""Single checks: half precision against float32 on the CPU, mixed noise levels in one call, halving when memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ...imaging.tiles import grid
from ...sampling.adaptive.choices import MergeMode
from ...sampling.adaptive.policy import FixedSchedule
from ...sampling.adaptive.sampler import canvas_noise, sample_regions
from ...sampling.adaptive.steppers import stepper_for
from ...sampling.adaptive.types import NoiseSpace, RegionObserver, Row
from ...sampling.batching import BatchSize
from ..bench.mixed import ratio, turns
from .subjects import Subject
from .tolerance import TOLERANCE, error_in_range

MIXED_GOAL, BATCH_GOAL = 1.02, 3.0
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
Outcome = dict[str, Any]


@torch.no_grad()
def precision(subject: Subject, device: torch.device, dtype: torch.dtype) -> Outcome:
    """One call in dtype on the device against float32 on the CPU, with seconds, memory and arithmetic."""
    network, inputs = subject.on("cpu", torch.float32)
    with FlopCounterMode(display=False) as counter:
        expected = subject.call(network, inputs)
    parameters = sum(p.numel() for p in network.parameters())
    network, inputs = subject.on(device, dtype)
    _start(device)
    found = subject.call(network, inputs)
    peak = _peak(device)
    seconds = _timed(lambda: subject.call(network, inputs), device)
    error = error_in_range(found, expected)
    subject.on("cpu", torch.float32)
    return {
        "check": "precision",
        "name": subject.name,
        "dtype": str(dtype).removeprefix("torch."),
        "parameters": parameters,
        "tflop": counter.get_total_flops() / 1e12,
        "error": error,
        "seconds": seconds,
        "peak_gb": peak,
        "ok": error <= TOLERANCE[dtype],
    }


def _start(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: torch.device) -> float | None:
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


def _timed(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, behind a first one."""
    _start(device)
    began = perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter() - began


Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x (N, 4, h, w), timesteps (N,)) -> a map of that shape."""


@torch.no_grad()
def mixed_levels(name: str, denoiser: Denoiser, device: torch.device, dtype: torch.dtype, *, rows: int, cells: int, repeats: int) -> Outcome:  # fmt: skip
    """One call of rows at timesteps of their own against equal ones, and against a call for each row."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 4, cells, cells, generator=draw).to(device, dtype)
    mixed = torch.linspace(0, 999, rows, device=device)
    equal = torch.full_like(mixed, 500.0)

    def one_by_one() -> Tensor:
        return torch.cat([denoiser(x[i : i + 1], mixed[i : i + 1]) for i in range(rows)])

    error = error_in_range(denoiser(x, mixed), one_by_one())
    calls = {"equal": lambda: denoiser(x, equal), "mixed": lambda: denoiser(x, mixed), "one_by_one": one_by_one}
    seconds = turns(repeats, calls)
    over, gain = ratio(seconds["mixed"], seconds["equal"]), ratio(seconds["one_by_one"], seconds["mixed"])
    on_gpu = device.type == "cuda"  # a CPU, shared and without idle units to fill, has neither goal
    return {
        "check": "mixed levels",
        "name": name,
        "dtype": str(dtype).removeprefix("torch."),
        "rows": rows,
        "mixed_over_equal": over,
        "one_by_one_over_mixed": gain,
        "error": error,
        "ok": error <= TOLERANCE[dtype] and (not on_gpu or (over <= MIXED_GOAL and gain >= BATCH_GOAL)),
    }


class _Watching(RegionObserver):
    def is_out_of_memory(self, error: Exception) -> bool:
        found = isinstance(error, torch.OutOfMemoryError)
        if found and torch.cuda.is_available():
            torch.cuda.empty_cache()
        return found


@torch.no_grad()
def halving(name: str, denoiser: Denoiser, device: torch.device, dtype: torch.dtype, *, cells: int) -> Outcome:
    """The region loop where memory suffices for a part of the planned rows: it halves them, and the result is the same.

    On a CUDA device the allocator is capped; elsewhere calls of more than a quarter of the rows are refused.
    """
    regions = grid(3 * cells, 3 * cells, cells, cells // 4)
    x = torch.randn(1, 4, 3 * cells, 3 * cells, generator=torch.Generator().manual_seed(2)).to(device)
    most = max(1, len(regions) // 4)

    def run(planned: int, refused_above: int | None = None) -> Any:
        def model(x: Tensor, sigma: Tensor, rows: list[Row]) -> Tensor:
            if refused_above is not None and len(x) > refused_above:
                raise torch.OutOfMemoryError(f"{len(x)} rows")
            return denoiser(x.to(dtype), sigma.to(device)).float()

        return sample_regions(
            model,  # pyright: ignore[reportArgumentType]
            x.clone(),
            [4.0, 2.0, 0.0],
            regions=regions,
            stepper=stepper_for("euler", NoiseSpace.VARIANCE_EXPLODING),
            merge=MergeMode.CONSENSUS,
            policy=FixedSchedule(),
            noise=canvas_noise(x, 0),
            rows_per_call=BatchSize(planned),
            observer=_Watching(),
        )

    expected = run(1)
    _start(device)
    run(most)
    with _capped(device):
        found = run(len(regions), None if device.type == "cuda" else most)
    error = error_in_range(found.samples, expected.samples)
    return {
        "check": "out of memory",
        "name": name,
        "dtype": str(dtype).removeprefix("torch."),
        "planned_rows": len(regions),
        "halvings": found.work.halvings,
        "simulated": device.type != "cuda",
        "error": error,
        "ok": found.work.halvings > 0 and error <= TOLERANCE[dtype],
    }


@contextmanager
def _capped(device: torch.device) -> Any:
    """While open, the allocator of a CUDA device gives no more than it has needed at most so far."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(1.1 * torch.cuda.max_memory_allocated(device) / total, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
