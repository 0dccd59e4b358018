"""How a case of a fuzz run ended, counted, and the command that repeats those that ended badly."""

from __future__ import annotations

import collections
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

SLOWEST = 20.0
"""Seconds; what takes longer is as bad as a crash to whoever waits."""


@dataclass
class Outcomes:
    """Counts of a part's cases by how they ended."""

    part: str
    seed: int
    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    bad: list[str] = field(default_factory=list)
    longest: float = 0.0

    def add(self, case: int, what: str, outcome: str, seconds: float) -> None:
        """Counts a case; outcomes that begin with BAD, and slow ones, are printed with what repeats them."""
        self.longest = max(self.longest, seconds)
        if seconds > SLOWEST and not outcome.startswith("BAD"):
            outcome = f"BAD slow: {outcome}"
        self.counts[outcome.partition(":")[0]] += 1
        if outcome.startswith("BAD"):
            self.bad.append(f"{what}: {outcome}")
            print(
                f"{what}: {outcome} ({seconds:.1f} s)\n  python dev.py fuzz {self.part} --seed {self.seed} --case {case}",
                flush=True,
            )

    def report(self) -> int:
        """Prints the figures; returns the exit code."""
        total = sum(self.counts.values())
        ends = ", ".join(f"{count} {outcome}" for outcome, count in self.counts.most_common())
        print(
            f"fuzz {self.part}, seed {self.seed}: {total} cases, {len(self.bad)} bad, longest {self.longest:.1f} s ({ends})",
            flush=True,
        )
        return int(bool(self.bad))


class HostWork:
    """Seconds that a process has worked for a case, which a busy machine does not lengthen; those that went by where it does not tell."""

    def __init__(self, pid: int) -> None:
        self._stat = Path(f"/proc/{pid}/stat")
        self.restart()

    def restart(self) -> None:
        """Counts from now on."""
        self._clock, self._work = time.monotonic(), self._worked()

    def seconds(self) -> float:
        """Since the start; work of several threads at once counts as what went by."""
        clock, work = time.monotonic() - self._clock, self._worked()
        return clock if work is None or self._work is None else min(clock, work - self._work)

    def _worked(self) -> float | None:
        if not self._stat.is_file():
            return None
        after_name = self._stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
