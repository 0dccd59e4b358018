"""What a time-aware control did in a run: gates by site and timestep, calls made and skipped.

A record belongs to the CONTROL_NET that one execution of the node Time-Aware Adapter gives. The copies that Apply
ControlNet makes of it share the record, and the start of a sampling run empties it: it always tells of the last run, never
enters the sampling, and goes with the CONTROL_NET.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

SKIPPED = "skipped"


@dataclass
class Call:
    """One call of the ControlNet that was made or skipped: timesteps (B,) and the mean gate of each row, by site."""

    timesteps: Tensor
    gates: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    skipped: bool = False


@dataclass
class ControlRecord:
    """Calls of the last run, in order."""

    calls: list[Call] = field(default_factory=list[Call])

    def start(self) -> None:
        """Forgets the run before."""
        self.calls.clear()

    def call(self, timesteps: Tensor, *, skipped: bool = False) -> Call:
        """A new entry, whose gates its maker fills in."""
        self.calls.append(Call(timesteps, skipped=skipped))
        return self.calls[-1]

    def summary(self) -> dict[str, Any]:
        """Counts, and the mean gate of every site at every timestep of the run, noisiest first."""
        sums: dict[str, dict[int, list[float]]] = {}
        silent: set[int] = set()
        spoken: set[int] = set()
        for call in self.calls:
            times = [round(float(t)) for t in call.timesteps]
            (silent if call.skipped else spoken).update(times)
            for site, gates in call.gates.items():
                for time, gate in zip(times, gates.float().tolist()):
                    sums.setdefault(site, {}).setdefault(time, []).append(gate)
        timesteps = sorted(silent | spoken, reverse=True)
        made = sum(not call.skipped for call in self.calls)
        return {
            "calls": made,
            "skipped": len(self.calls) - made,
            "saved": round(1 - made / len(self.calls), 4) if self.calls else 0.0,
            "timesteps": timesteps,
            "silent": sorted(silent - spoken, reverse=True),
            "sites": {site: [_mean(found.get(t, [])) for t in timesteps] for site, found in sums.items()},
        }


def _mean(values: list[float]) -> float:
    """Rounded mean; 0 where nothing was added."""
    return round(sum(values) / len(values), 4) if values else 0.0
