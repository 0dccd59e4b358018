"""What is counted while the product runs on fake CUDA tensors: arithmetic, memory, and where the host waits for the device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

READS = "read"
COPIES = "asynchronous read"
"""Not ready when it is looked at, unless an event is waited for."""
UPLOADS = "upload"


@dataclass(frozen=True, order=True)
class Sync:
    """A line at which the host waits for the device: a value read, or a copy to it that is not asynchronous."""

    kind: str
    place: str


@dataclass
class Counts:
    """What was counted since the last `start`."""

    flop: int = 0
    wide: int = 0
    """Of these, those in float32."""
    peak: int = 0
    ops: int = 0
    timeline: list[Sync | str] = field(default_factory=list[Any])
    """Synchronisation points in their order, and the names of watched networks where they were called."""

    @property
    def syncs(self) -> Counter[Sync]:
        """All synchronisation points."""
        return Counter(event for event in self.timeline if isinstance(event, Sync))

    @property
    def calls(self) -> int:
        """Of watched networks, until now."""
        return sum(isinstance(event, str) for event in self.timeline)

    def syncs_between_calls(self) -> tuple[Counter[Sync], int]:
        """Those between the first and the last call of a watched network, and how many times one followed the other."""
        calls = [place for place, event in enumerate(self.timeline) if isinstance(event, str)]
        if len(calls) < 2:
            return Counter(), 0
        found = self.timeline[calls[0] : calls[-1]]
        return Counter(event for event in found if isinstance(event, Sync)), len(calls) - 1


@dataclass
class DeviceEvent:
    """An event of the device: to wait for it is to wait for the device, unless a watched network has been called since.

    Then the device has that call to work on meanwhile. Asynchronous copies right before the record are there when it has come.
    """

    counts: Counts
    place: Callable[[], str]
    """Tells the line that waits now."""
    calls: int = 0

    def record(self, stream: None = None) -> None:
        """Everything until now comes before the event."""
        timeline = self.counts.timeline
        while timeline and isinstance(timeline[-1], Sync) and timeline[-1].kind == COPIES:
            timeline.pop()
        self.calls = self.counts.calls

    def synchronize(self) -> None:
        """Waits until the event has come."""
        if self.counts.calls == self.calls:
            self.counts.timeline.append(Sync(READS, self.place()))
