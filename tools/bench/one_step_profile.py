"""`dev.py bench one_step_profile`: where the one step of the embedded default spends its time, on one CPU thread.

The whole path from a picture to one four times as large, the network's forward, and a bare loop of its convolutions take turns;
ratios are of the quickest turns, which a busy machine disturbs least. Shares of operators are PyTorch's own profiler's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from time import process_time

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from .parts.report import write_report
from .parts.restorers import WEIGHTS, load_denoiser, network_restorer, sample_one_step

GOAL = 1.3
SHOWN = 8


def convolutions(network: nn.Module, forward: Callable[[], object]) -> list[tuple[nn.Conv2d, Tensor]]:
    """Every convolution that a forward calls, with its input."""
    found: list[tuple[nn.Conv2d, Tensor]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        found.append((layer, inputs[0].clone()))

    hooks = [layer.register_forward_hook(note) for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    forward()
    for hook in hooks:
        hook.remove()
    return found


def quickest(ways: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Least seconds of the processor of each way, in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, run in ways.items():
            start = process_time()
            run()
            seconds[name].append(process_time() - start)
    return {name: min(values) for name, values in seconds.items()}


def shares(run: Callable[[], object]) -> dict[str, float]:
    """Shares of the operators in the processor's time, largest first."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        run()
    rows = {row.key: float(row.self_cpu_time_total) for row in found.key_averages()}
    whole = sum(rows.values())
    return {name: time / whole for name, time in sorted(rows.items(), key=lambda item: -item[1])[:SHOWN]}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench one_step_profile", description=__doc__)
    parser.add_argument("--size", type=int, default=128, help="side of the small picture (128)")
    parser.add_argument("--turns", type=int, default=15, help="turns of every way (15)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    network = load_denoiser(WEIGHTS["one step"]).eval()
    restore = network_restorer(network, sample_one_step)
    picture = torch.rand(1, 3, options.size, options.size, generator=torch.Generator().manual_seed(0))
    calls: list[tuple[Tensor, ...]] = []
    with torch.inference_mode():
        hook = network.register_forward_pre_hook(lambda _, given: calls.append(given))
        parts = convolutions(network, lambda: restore(picture))
        hook.remove()

        def loop() -> None:
            for layer, x in parts:
                F.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding)

        ways = {"path": lambda: restore(picture), "network": lambda: network(*calls[0]), "convolutions": loop}
        seconds = quickest(ways, options.turns)
        operators = shares(ways["path"])
        with FlopCounterMode(display=False) as counter:
            loop()
    gflop = counter.get_total_flops() / 1e9
    ratios = {name: seconds[name] / seconds["convolutions"] for name in ways}
    lines = [
        f"{options.size} x {options.size} pixels to four times the side, one thread, quickest of {options.turns} turns.",
        "",
        "| | seconds | over the convolutions alone | GFLOP/s of the convolutions' arithmetic |",
        "|---|---|---|---|",
        *(f"| {name} | {seconds[name]:.3f} | {ratios[name]:.2f} | {gflop / seconds[name]:.0f} |" for name in ways),
        "",
        "Operators of the path: " + ", ".join(f"{name} {share:.0%}" for name, share in operators.items()) + ".",
    ]
    result = {"size": options.size, "gflop": gflop, "seconds": seconds, "ratios": ratios, "operators": operators}
    write_report("one_step_profile", result, lines)
    return 0 if ratios["path"] <= GOAL else 1
