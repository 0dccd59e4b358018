"""`python dev.py fullsize [METHOD ...]`: methods at published size on fake CUDA tensors, in a table."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from ..env import environment as env
from . import one_step, regions, trainings
from .bench import Bench, Result
from .device import HALF, enter, fake_gpu

METHODS: dict[str, Callable[[Bench], None]] = {"one_step": one_step.run, "regions": regions.run}


def _quick(bench: Bench) -> None:
    """The selection that the default tests run."""
    one_step.quick(bench)
    regions.sd21(bench)


CHOICES = {**METHODS, "quick": _quick}
TRAININGS = "trainings"
"""Has a table of its own: a step of each training, forward and backward, which fake CUDA tensors cannot do."""
GIB = 2**30


def main(argv: Sequence[str]) -> int:
    """Runs the chosen methods in the chosen dtypes; the exit code is 1 if any of them failed."""
    parser = argparse.ArgumentParser(prog="dev.py fullsize", description=__doc__)
    parser.add_argument(
        "methods",
        nargs="*",
        metavar="METHOD",
        help=f"{', '.join((*CHOICES, TRAININGS))} (default: {', '.join(METHODS)})",
    )
    parser.add_argument(
        "--dtype", nargs="*", choices=("auto", *HALF), default=["auto"], help="of networks and VAEs (auto)"
    )
    parser.add_argument("--places", action="store_true", help="list the lines that wait for the device in every step")
    options = parser.parse_args(argv)
    known = (*CHOICES, TRAININGS)
    unknown = sorted(set(options.methods) - set(known))
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are: {', '.join(known)}")
    base = enter(env.host_source(env.ensure_environment()))
    named = [name for name in options.methods or METHODS if name != TRAININGS]
    failed = _methods(base, named, options.dtype, places=options.places) if named else 0
    if TRAININGS in options.methods:
        print("\n".join(trainings.HEADER), flush=True)
        for plan in trainings.plans():
            print(trainings.row(plan()), flush=True)
    return 1 if failed else 0


def _methods(base: Path, names: Sequence[str], dtypes: Sequence[str], *, places: bool) -> int:
    """Prints their table; how many of them failed."""
    failed = 0
    print("\n".join(HEADER))
    for dtype in dtypes:
        for name in names:
            with fake_gpu(dtype) as recorder:
                bench = Bench(recorder, base, dtype)
                try:
                    CHOICES[name](bench)
                except Exception as error:  # noqa: BLE001  the list goes on, the exit code tells
                    failed += 1
                    print(f"FAILED {name}, {dtype}: {type(error).__name__}: {error}", flush=True)
                for result in bench.results:
                    print(row(result), flush=True)
                    if places:
                        print("\n".join(places_of(result)), flush=True)
    return failed


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


def places_of(result: Result) -> list[str]:
    """Where the waits are, and every estimate."""
    waits = [f"    {count} x {sync.kind} {sync.place}" for sync, count in result.per_step.most_common()]
    return [*waits, *(f"    estimate / counted {ratio:.2f} {name}" for name, ratio in result.estimates)]
