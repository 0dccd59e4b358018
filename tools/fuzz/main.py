"""`dev.py fuzz`: damaged files, odd values, odd sizes, kills."""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

PARTS = {"files": 2000, "values": 1000, "sizes": 1365, "kills": 100}
"""Parts, and how many cases they have unless told."""


def main(source: Path, argv: Sequence[str]) -> int:
    """Runs the parts that are named; returns 1 if a case ended badly."""
    parser = argparse.ArgumentParser(prog="dev.py fuzz", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (all)")
    parser.add_argument("--seed", type=int, default=0, help="another one gives other cases (0)")
    parser.add_argument("--count", type=int, help="cases of each part (%(default)s: " + str(PARTS) + ")")
    parser.add_argument("--case", type=int, help="this case alone")
    options = parser.parse_args(argv)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    return max(
        run_part(source, part, options.count or PARTS[part], options.seed, options.case)
        for part in options.parts or PARTS
    )


def run_part(source: Path, part: str, count: int, seed: int, case: int | None) -> int:
    """One part, with its figures."""
    warnings.simplefilter("ignore")
    if part == "values":
        from .values import run  # noqa: PLC0415  each part needs other things

        return run(source, count, seed, case).report()
    if part == "sizes":
        from .sizes import run as run_sizes  # noqa: PLC0415

        return run_sizes(source, count, case).report()
    if part == "kills":
        from .kills import run as run_kills  # noqa: PLC0415

        return run_kills(count, seed, case).report()
    from ..env.in_process import enter_host  # noqa: PLC0415

    enter_host(source, cpu=True)
    logging.disable(logging.CRITICAL)
    from .files import run as run_files  # noqa: PLC0415

    return run_files(count, seed, case).report()
