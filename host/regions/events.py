"""Tells the page that queued a run what happens to its regions: seldom, in small messages, and nothing where nobody looks.

One message at the start names the regions, a few per second say how far each has come, one at the end carries the report.
What the page makes of them stands in `web/`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from ...imaging.tiles import Region
from ...sampling.adaptive.dtss import BUDGET, SATURATED
from ...sampling.adaptive.regions import Row
from ..runtime import has_client, send_event

EVENT, OUTPUT = "adaptivesr.regions", "adaptivesr_regions"
"""Names of the message and of the node's entry in the executed output, which the page restores the map from."""

INTERVAL = 0.2
"""Least seconds between two messages of a run, the first and the last one aside."""

MOST_DRAWN = 2048
"""Regions that a page is told about: images beyond are left out, and a canvas of more regions has totals only."""

WAITING, ACTIVE, COMPLETED = ".", "a", "c"
ENDED_EARLY = {SATURATED: "x", BUDGET: "b"}
"""A letter for the state of a region; with gains, small letters of `host.gains.estimators.LETTERS` stand for active ones."""

PER_REGION = frozenset({"regions", "steps_per_region", "classes", "exits_per_region", "gains"})
"""Entries of a report that the message has in a form of its own, or leaves out."""


@dataclass(frozen=True)
class Layout:
    """What is sampled: a canvas (height, width) in the units of its regions, for a number of images.

    A region makes at most `steps` calls; a run that saves nothing makes `fixed_steps`, if there is one to compare with.
    """

    canvas: tuple[int, int]
    regions: Sequence[Region]
    images: int
    steps: int
    fixed_steps: int | None = None


def workflow_id_of(pnginfo: Any) -> str | None:
    """The id of the workflow in a prompt's `extra_pnginfo`, which programs may fill with anything."""
    workflow = pnginfo.get("workflow") if isinstance(pnginfo, dict) else None
    found = workflow.get("id") if isinstance(workflow, dict) else None
    return found if isinstance(found, str) else None


class RegionDisplay:
    """The state of one node's run, as its observer reports calls and moves; `start` and `finish` frame a run.

    Without a node's id nothing is sent. The workflow's id tells a page with several open ones whose node it is.
    """

    def __init__(
        self, node_id: str | None, workflow_id: str | None = None, clock: Callable[[], float] = perf_counter
    ) -> None:
        self._node_id, self._workflow_id, self._clock = node_id, workflow_id, clock
        self._final: dict[str, Any] | None = None

    def start(self, layout: Layout, class_of: Callable[[Row], str] | None = None) -> None:
        """Forgets the last run. `class_of` gives the letter of a region's last call, where gains decide."""
        self._layout, self._class_of, self._final = layout, class_of, None
        count = len(layout.regions)
        self._calls = 0
        self._counts = [[0] * count for _ in range(layout.images)]
        self._levels = [[0.0] * count for _ in range(layout.images)]
        self._states = [[WAITING] * count for _ in range(layout.images)]
        self._next = float("-inf")
        self._send("start", self._geometry)
        self._next = self._clock() + INTERVAL

    def called(self, rows: Sequence[Row], calls: int = 1) -> None:
        """After so many network calls on these rows."""
        self._calls += calls
        layout = self._layout
        share = (layout.fixed_steps or layout.steps) / layout.steps
        for row in rows:
            self._counts[row.image][row.region_id] += calls
            self._levels[row.image][row.region_id] += calls * share
            if self._counts[row.image][row.region_id] >= layout.steps:
                self._states[row.image][row.region_id] = COMPLETED
            elif self._states[row.image][row.region_id] == WAITING:
                self._states[row.image][row.region_id] = ACTIVE
        self._send("step", self._progress)

    def moved(self, row: Row, level: int, reason: str) -> None:
        """A region arrived at a level of the grid of steps; with a reason, it has ended."""
        self._levels[row.image][row.region_id] = level
        if reason:
            self._states[row.image][row.region_id] = ENDED_EARLY.get(reason, COMPLETED)
        elif self._class_of is not None:
            self._states[row.image][row.region_id] = self._class_of(row).lower()

    def finish(self, report: Mapping[str, Any]) -> None:
        """The run is over: sends the last message, which the node's output keeps as well."""
        shown = self._shown
        lists = {"classes": report.get("classes"), "exits": report.get("exits_per_region")}
        self._final = {
            **self._geometry(),
            **self._progress(),
            **{name: values[:shown] for name, values in lists.items() if values and shown},
            "report": {name: value for name, value in report.items() if name not in PER_REGION},
        }
        self._next = float("-inf")
        self._send("end", lambda: self._final or {})

    @property
    def ui(self) -> dict[str, list[str]] | None:
        """The last message as a node's output. As text: the host counts entries that are objects as files."""
        return None if self._final is None else {OUTPUT: [json.dumps(self._final)]}

    @property
    def _shown(self) -> int:
        """Images that the page is told about."""
        count = len(self._layout.regions)
        return 0 if count > MOST_DRAWN else min(self._layout.images, max(1, MOST_DRAWN // count))

    def _geometry(self) -> dict[str, Any]:
        layout = self._layout
        return {
            "canvas": list(layout.canvas),
            "regions": [[r.y, r.x, r.height, r.width] for r in layout.regions] if self._shown else [],
            "tiles": len(layout.regions),
            "images": layout.images,
            "steps": layout.steps,
            "fixed_steps": layout.fixed_steps,
        }

    def _progress(self) -> dict[str, Any]:
        """Counts so far; `saved` is the share of calls that the steps passed until now did not need."""
        layout, shown = self._layout, self._shown
        rows, passed = sum(map(sum, self._counts)), sum(map(sum, self._levels))
        whole = len(layout.regions) * layout.images * (layout.fixed_steps or layout.steps)
        return {
            "calls": self._calls,
            "region_calls": rows,
            "passed": round(passed / whole, 4),
            "saved": None if layout.fixed_steps is None else round(1 - rows / passed, 4) if passed else 0.0,
            "counts": [list(image) for image in self._counts[:shown]],
            "states": ["".join(image) for image in self._states[:shown]],
        }

    def _send(self, phase: str, content: Callable[[], dict[str, Any]]) -> None:
        """Sends unless the last message is too fresh; content is made only for somebody who listens."""
        if self._node_id is None or self._clock() < self._next or not has_client():
            return
        send_event(EVENT, {"node": self._node_id, "workflow": self._workflow_id, "phase": phase, **content()})
        self._next = self._clock() + INTERVAL
