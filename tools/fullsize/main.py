"""`python dev.py fullsize [METHOD ...]`: methods at published size on fake CUDA tensors, in a table."""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Sequence
from pathlib import Path

from ..env import environment as env
from . import control, gains, invsr, one_step, other_trainings, regions, stablesr, trainings
from .bench import Bench, Case, Result
from .device import HALF, enter, fake_gpu
from .recorder import DeviceFaultError

METHODS: dict[str, Sequence[Case]] = {
    "one_step": one_step.CASES,
    "regions": regions.CASES,
    "stablesr": stablesr.CASES,
    "invsr": invsr.CASES,
    "control": control.CASES,
    "gains": gains.CASES,
}
QUICK = (one_step.quick, regions.sd21, stablesr.quick, invsr.quick, control.quick)
"""The selection that the default tests run."""
CHOICES: dict[str, Sequence[Case]] = {
    **METHODS,
    "quick": QUICK,
    **{f"{name}.{case.__name__}": (case,) for name, cases in METHODS.items() for case in cases},
}
"""By name: a method, the quick selection, and single cases as METHOD.CASE."""
TRAININGS = "trainings"
"""Has a table of its own: a step of each training, forward and backward, which fake CUDA tensors cannot do."""
GIB = 2**30
TRACED = 8
"""Innermost calls that are shown of a failure."""


def main(argv: Sequence[str]) -> int:
    """Runs the chosen methods in the chosen dtypes; the exit code is 1 if any of them failed."""
    parser = argparse.ArgumentParser(prog="dev.py fullsize", description=__doc__)
    parser.add_argument(
        "methods",
        nargs="*",
        metavar="METHOD",
        help=f"{', '.join((*METHODS, 'quick', TRAININGS))}, or METHOD.CASE (default: {', '.join(METHODS)})",
    )
    parser.add_argument(
        "--dtype", nargs="*", choices=("auto", *HALF), default=["auto"], help="of networks and VAEs (auto)"
    )
    parser.add_argument(
        "--places",
        action="store_true",
        help="list the lines that wait for the device between calls, and every estimate",
    )
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
        for plan in (*trainings.plans(), *other_trainings.plans(base)):
            print(trainings.row(plan()), flush=True)
    return 1 if failed else 0


def _methods(base: Path, names: Sequence[str], dtypes: Sequence[str], *, places: bool) -> int:
    """Prints their table; how many of them failed."""
    failed = 0
    print("\n".join(HEADER))
    for dtype in dtypes:
        for name in names:
            with fake_gpu(dtype) as recorder:
                for case in CHOICES[name]:
                    bench = Bench(recorder, base, dtype)
                    failed += not _ran(bench, f"{name}, {case.__name__}, {dtype}", case)
                    for result in bench.results:
                        print(row(result), flush=True)
                        if places:
                            print("\n".join(places_of(result)), flush=True)
    return failed


def _ran(bench: Bench, name: str, case: Case) -> bool:
    """Runs a case; whether it went well. The list goes on, the exit code tells."""
    try:
        case(bench)
    except Exception as error:  # noqa: BLE001
        print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
        print("\n".join(_lines_of(bench, error)), flush=True)
        error.__traceback__ = None  # its frames hold tensors
        return False
    try:
        bench.clear()
    except DeviceFaultError as error:
        print(f"FAILED {name}: {error}", flush=True)
        return False
    return True


def _lines_of(bench: Bench, error: Exception) -> list[str]:
    """The innermost lines of pack and host that an error passed."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(bench.recorder.places)
    ]
    return [f"    {frame.filename}:{frame.lineno} {frame.name}: {frame.line}" for frame in frames[-TRACED:]]


HEADER = (
    "| run | dtype | parameters, M | weights, GB | TFLOP | activations, GB | waits a call, pack + host | estimate / counted |",
    "|---|---|---|---|---|---|---|---|",
)


def row(result: Result) -> str:
    """One line of the table."""
    waits = f"{result.per_call(own=True):.3g} + {result.per_call(own=False):.3g}" if result.calls else ""
    ratios = [ratio for _, ratio in result.estimates]
    off = f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else ""
    return (
        f"| {result.name} | {result.dtype} | {result.parameters / 1e6:.1f} | {result.weights / GIB:.2f} | {result.flop / 1e12:.1f} | "
        f"{result.peak / GIB:.2f} | {waits} | {off} |"
    )


def places_of(result: Result) -> list[str]:
    """Where the waits are, and every estimate."""
    waits = [
        f"    {count} in {result.calls} calls: {sync.kind} {sync.place}" for sync, count in result.waits.most_common()
    ]
    return [*waits, *(f"    estimate / counted {ratio:.2f} {name}" for name, ratio in result.estimates)]
