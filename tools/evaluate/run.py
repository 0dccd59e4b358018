"""Hands pictures to workers as they finish, writes what comes back, and says how far it is."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..env.steps import StepError, say
from .blocks import worker_for
from .pictures import Picture, seed_of
from .worker import DONE, FAILED, HOST_DIED, NO_HOST, REFUSED, PictureJob, PictureOutcome, WorkerSpec

MOST_FAILURES = 2
"""Of a picture, before it is set aside."""
MOST_DEATHS = 3
"""Of a worker in a row, without a picture done between them, before it is given up."""


class Slots(Protocol):
    """Workers that each do a picture at a time, by number."""

    @property
    def work_elsewhere(self) -> bool:
        """Whether `submit` comes back before the picture is done."""
        ...

    def free(self) -> list[int]:
        """Those that wait for a picture."""
        ...

    def submit(self, slot: int, job: PictureJob) -> None:
        """Gives a picture to one."""
        ...

    def any_left(self) -> bool:
        """Whether a worker is there, or may still come up."""
        ...

    def next(self) -> tuple[int, PictureOutcome] | None:
        """Waits until one has ended, and how; None: there may be other free ones than before."""
        ...

    def retire(self, slot: int) -> None:
        """Lets one go for good."""
        ...

    def label(self, slot: int) -> str:
        """What the records call it."""
        ...


@dataclass
class LocalSlot:
    """The one worker of a run without Ray: in this process."""

    worker: Any
    work_elsewhere: bool = False
    _outcome: PictureOutcome | None = None
    _retired: bool = False

    def free(self) -> list[int]:
        return [] if self._retired or self._outcome is not None else [0]

    def submit(self, slot: int, job: PictureJob) -> None:
        self._outcome = self.worker.process(job)

    def any_left(self) -> bool:
        return not self._retired

    def next(self) -> tuple[int, PictureOutcome] | None:
        assert self._outcome is not None
        found, self._outcome = self._outcome, None
        return 0, found

    def retire(self, slot: int) -> None:
        self._retired = True

    def label(self, slot: int) -> str:
        return self.worker.spec.url or "1"


class Keeper(Protocol):
    """What is done, by things with a name: pictures, or blocks of one."""

    def record(self, picture: Any) -> dict[str, Any] | None:
        """What was written of one; None if it is still to be done."""
        ...

    def save(self, picture: Any, outcome: PictureOutcome, worker: str) -> dict[str, Any]:
        """Writes a result and returns its record."""
        ...


@dataclass
class Dispatcher:
    """State of a run: what is to be done, what is out, who failed how often. `job_for` says what a worker needs for a picture or a block."""

    store: Keeper
    slots: Slots
    job_for: Callable[[Any], PictureJob]
    clock: Callable[[], float] = time.monotonic
    records: dict[str, dict[str, Any]] = field(default_factory=dict[str, "dict[str, Any]"])
    _waiting: deque[Any] = field(default_factory=deque[Any])
    _out: dict[int, Any] = field(default_factory=dict[int, Any])
    _failures: dict[str, int] = field(default_factory=dict[str, int])
    _failed_on: dict[str, int] = field(default_factory=dict[str, int])
    _deaths: dict[int, int] = field(default_factory=dict[int, int])
    _last_error: str = ""
    _started: float = 0.0
    _total: int = 0
    _before: int = 0

    def run(self, pictures: Sequence[Any]) -> None:
        """Does what no record has; raises StepError when no worker is left."""
        self._total = len(pictures)
        for picture in pictures:
            record = self.store.record(picture)
            if record is None:
                self._waiting.append(picture)
            else:
                self.records[picture.name] = record
        self._before = len(self.records)
        if self._before:
            say(f"{self._before} of {self._total} pictures are done already; {len(self._waiting)} are left")
        while self._waiting or self._out:
            self._hand_out()
            if not self._out and not self._waiting:
                break  # the last ones could not be read
            if not self.slots.any_left():
                raise StepError(
                    f"No worker is left ({self._last_error}); {len(self.records)} of {self._total} pictures are done. The same command goes on."
                )
            found = self.slots.next()
            if found is not None:
                self._take_in(*found)
        done, seconds = len(self.records) - self._before, self.clock() - self._started
        if self._started and seconds > 0:
            say(
                f"{done} in {_duration(seconds)}, {60 * done / seconds:.3g} a minute, from the first that was handed out"
            )

    def _hand_out(self) -> None:
        for slot in self.slots.free():
            picture = self._next_for(slot)
            if picture is None:
                continue
            try:
                job = self.job_for(picture)
            except OSError as error:
                self._finish(picture, PictureOutcome(picture.name, REFUSED, f"cannot be read ({error})"), "-")
                continue
            self._out[slot] = picture
            self._started = self._started or self.clock()
            self.slots.submit(slot, job)

    def _next_for(self, slot: int) -> Any | None:
        """The first picture that has not failed on this worker; any, if there is no other worker to wait for."""
        is_alone = not {*self.slots.free(), *self._out} - {slot}
        for index, picture in enumerate(self._waiting):
            if is_alone or self._failed_on.get(picture.name) != slot:
                del self._waiting[index]
                return picture
        return None

    def _take_in(self, slot: int, outcome: PictureOutcome) -> None:
        picture = self._out.pop(slot)
        if outcome.status == DONE and self.slots.work_elsewhere:
            self._hand_out()  # a worker does not wait until its last result is on the disk
        if outcome.status in (HOST_DIED, NO_HOST):
            self._last_error = outcome.error
            self._deaths[slot] = self._deaths.get(slot, 0) + 1
            if self._deaths[slot] >= MOST_DEATHS:
                say(
                    f"worker {self.slots.label(slot)} is given up after {MOST_DEATHS} failures in a row: {outcome.error}"
                )
                self.slots.retire(slot)
        else:
            self._deaths[slot] = 0
        if outcome.status == NO_HOST:
            self._waiting.appendleft(picture)
            return
        if outcome.status in (FAILED, HOST_DIED):
            self._failures[picture.name] = self._failures.get(picture.name, 0) + 1
            self._failed_on[picture.name] = slot
            if self._failures[picture.name] < MOST_FAILURES:
                say(f"  {picture.name}: {outcome.error}; tried once more")
                self._waiting.appendleft(picture)
                return
        self._finish(picture, outcome, self.slots.label(slot))

    def _finish(self, picture: Any, outcome: PictureOutcome, label: str) -> None:
        self.records[picture.name] = self.store.save(picture, outcome, label)
        say(f"[{len(self.records)}/{self._total}] {picture.name}: {_words(outcome)}{self._pace()}")

    def _pace(self) -> str:
        """Pictures a minute since the first worker was there, and how long the others take at that."""
        done, seconds = len(self.records) - self._before, self.clock() - self._started
        left = self._total - len(self.records)
        if not left or seconds <= 0:
            return ""
        return f" ({60 * done / seconds:.3g} a minute, {_duration(left * seconds / done)} left)"


def _words(outcome: PictureOutcome) -> str:
    if outcome.status != DONE:
        return f"set aside: {outcome.error}"
    sizes = [f"{width}x{height}" for width, height in (outcome.size, outcome.result_size)]
    notes = f"; {'; '.join(outcome.notes)}" if outcome.notes else ""
    return f"{sizes[0]} to {sizes[1]} in {outcome.seconds:.1f} s{notes}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def picture_jobs(seed: int, *, with_references: bool) -> Callable[[Picture], PictureJob]:
    """Reads a picture, and what it is compared with."""

    def job_for(picture: Picture) -> PictureJob:
        compared = picture.reference if with_references else None
        content = None if compared is None else compared.read_bytes()
        return PictureJob(picture.name, seed_of(seed, picture.name), picture.path.read_bytes(), content)

    return job_for


@contextlib.contextmanager
def one_slot(spec: WorkerSpec) -> Iterator[tuple[Slots, dict[str, str]]]:
    """A worker in this process, and the metrics that it cannot have."""
    with worker_for(spec) as worker:
        if spec.recipe is None:
            say("starting ComfyUI ..." if spec.url is None else f"attaching to {spec.url} ...")
        left_out = worker.ready()["left_out"]
        yield LocalSlot(worker), left_out
