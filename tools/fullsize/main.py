"""`python dev.py fullsize [METHOD ...]`: methods at published size on fake CUDA tensors, in a table."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from ..env import environment as env
from . import one_step, regions
from .bench import Bench, Result
from .device import HALF, enter, fake_gpu

METHODS: dict[str, Callable[[Bench], None]] = {"one_step": one_step.run, "regions": regions.run}


def _quick(bench: Bench) -> None:
    """The selection that the default tests run."""
    one_step.quick(bench)
    regions.sd21(bench)


CHOICES = {**METHODS, "quick": _quick}
GIB = 2**30


def main(argv: Sequence[str]) -> int:
    """Runs the chosen methods in the chosen dtypes; the exit code is 1 if any of them failed."""
    parser = argparse.ArgumentParser(prog="dev.py fullsize", description=__doc__)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"{', '.join(CHOICES)} (all but quick)")
    parser.add_argument(
        "--dtype", nargs="*", choices=("auto", *HALF), default=["auto"], help="of networks and VAEs (auto)"
    )
    parser.add_argument("--places", action="store_true", help="list the lines that wait for the device in every step")
    options = parser.parse_args(argv)
    unknown = sorted(set(options.methods) - set(CHOICES))
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are: {', '.join(CHOICES)}")
    base = enter(env.host_source(env.ensure_environment()))
    failed = 0
    print("\n".join(HEADER))
    for dtype in options.dtype:
        for name in options.methods or METHODS:
            with fake_gpu(dtype) as recorder:
                bench = Bench(recorder, base, dtype)
                try:
                    CHOICES[name](bench)
                except Exception as error:  # noqa: BLE001  the list goes on, the exit code tells
                    failed += 1
                    print(f"FAILED {name}, {dtype}: {type(error).__name__}: {error}", flush=True)
                for result in bench.results:
                    print(row(result), flush=True)
                    if options.places:
                        print("\n".join(places(result)), flush=True)
    return 1 if failed else 0


HEADER = (
    "| run | dtype | parameters, M | weights, GB | TFLOP | activations, GB | waits per step, pack + host | estimate / counted |",
    "|---|---|---|---|---|---|---|---|",
)


def row(result: Result) -> str:
    """One line of the table."""
    waits = "" if result.steps < 2 else f"{result.own_syncs} + {result.host_syncs}"
    ratios = [ratio for _, ratio in result.estimates]
    off = f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else ""
    return (
        f"| {result.name} | {result.dtype} | {result.parameters / 1e6:.1f} | {result.weights / GIB:.2f} | {result.flop / 1e12:.1f} | "
        f"{result.peak / GIB:.2f} | {waits} | {off} |"
    )


def places(result: Result) -> list[str]:
    """Where the waits are, and every estimate."""
    waits = [f"    {count} x {sync.kind} {sync.place}" for sync, count in result.per_step.most_common()]
    return [*waits, *(f"    estimate / counted {ratio:.2f} {name}" for name, ratio in result.estimates)]
