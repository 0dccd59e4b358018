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
from ...sampling.adaptive.dynamic import BUDGET, SATURATED
from ...sampling.adaptive.types import RegionWork, Row
from ..runtime import has_client, send_event

EVENT, OUTPUT = "adaptivesr.regions", "adaptivesr_regions"
"""Names of the message and of the node's entry in the executed output, which the page restores the map from."""

INTERVAL = 0.2
"""Least seconds between two messages of a run, the first and the last one aside."""

MOST_DRAWN = 2048
"""Regions that a page is shown: images beyond are left out, and a canvas of more regions has totals only."""

WAITING, ACTIVE, COMPLETED = ".", "a", "c"
ENDED_EARLY = {SATURATED: "x", BUDGET: "b"}
"""A letter for the state of a region; with gains, active ones have small letters of `host.gains.plan.LETTERS`."""

PER_REGION = frozenset({"regions", "steps_per_region", "classes", "exits_per_region", "gains"})
"""Entries of a report that the message has in a form of its own, or leaves out."""


@dataclass(frozen=True)
class RegionLayout:
    """What is sampled: a canvas (height, width) in the units of its regions, for a number of images.

    A region makes at most `steps` calls; a run that saves nothing makes `fixed_steps`, if there is one to compare with.
    """

    canvas: tuple[int, int]
    regions: Sequence[Region]
    images: int
    steps: int
    fixed_steps: int | None = None


def workflow_id_of(pnginfo: object) -> str | None:
    """Returns the id of the workflow in a prompt's `extra_pnginfo`, which programs may fill with anything."""
    workflow = pnginfo.get("workflow") if isinstance(pnginfo, dict) else None
    workflow_id = workflow.get("id") if isinstance(workflow, dict) else None
    return workflow_id if isinstance(workflow_id, str) else None


class RegionDisplay:
    """Shows the page the state of one node's run; `start` and `finish` frame a run.

    Without a node's id nothing is sent. The workflow's id tells a page with several open ones whose node it is.
    """

    def __init__(
        self, node_id: str | None, workflow_id: str | None = None, clock: Callable[[], float] = perf_counter
    ) -> None:
        self._node_id, self._workflow_id, self._clock = node_id, workflow_id, clock
        self._final: dict[str, Any] | None = None

    def start(
        self, layout: RegionLayout, class_of: Callable[[Row], str] | None = None, work: RegionWork | None = None
    ) -> None:
        """Forgets the last run. `class_of` gives the letter of a region's last call, where gains decide.

        `work` holds the counts of a run that counts its calls itself.
        """
        self._layout, self._class_of, self._final = layout, class_of, None
        self._work = RegionWork() if work is None else work
        count = len(layout.regions)
        self._levels = [[0.0] * count for _ in range(layout.images)]
        self._states = [[WAITING] * count for _ in range(layout.images)]
        self._began, self._next = self._clock(), float("-inf")
        self._send("start", self._geometry)
        self._next = self._clock() + INTERVAL

    def called(self, rows: Sequence[Row], calls: int = 1) -> None:
        """Counts so many network calls on these rows for a run that does not count them itself, and shows them."""
        self._work.add_calls(rows, calls)
        self.advanced(rows, calls)

    def advanced(self, rows: Sequence[Row], calls: int = 1) -> None:
        """Shows so many network calls on these rows, which are counted already."""
        steps = self._layout.steps
        share = (self._layout.fixed_steps or steps) / steps
        for row in rows:
            self._levels[row.image][row.region_id] += calls * share
            if self._work.calls_of[row.key] >= steps:
                self._states[row.image][row.region_id] = COMPLETED
            elif self._states[row.image][row.region_id] == WAITING:
                self._states[row.image][row.region_id] = ACTIVE
        self._send("step", self._progress)

    def moved(self, row: Row, level: int, reason: str) -> None:
        """Shows that a region is at a level of the grid of steps now; with a reason, it has ended."""
        self._levels[row.image][row.region_id] = level
        if reason:
            self._states[row.image][row.region_id] = ENDED_EARLY.get(reason, COMPLETED)
        else:
            self._states[row.image][row.region_id] = ACTIVE if self._class_of is None else self._class_of(row).lower()

    def finish(self, report: Mapping[str, Any]) -> None:
        """Sends the last message, which the node's output keeps as well."""
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
        """Returns the last message as a node's output. As text: the host counts entries that are objects as files."""
        return None if self._final is None else {OUTPUT: [json.dumps(self._final)]}

    @property
    def _shown(self) -> int:
        """Tells how many images the page is shown."""
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
        """Gives the counts so far: of regions that are `done`, and the share of calls `saved` in the steps passed until now.

        `left` are the seconds that the rest takes at the pace until now.
        """
        layout, shown, work = self._layout, self._shown, self._work
        passed = sum(map(sum, self._levels))
        whole = len(layout.regions) * layout.images * (layout.fixed_steps or layout.steps)
        saved = round(1 - work.rows / passed, 4) if passed else 0.0
        share, seconds = passed / whole, self._clock() - self._began
        ended = {COMPLETED, *ENDED_EARLY.values()}
        return {
            "done": sum(state in ended for image in self._states for state in image),
            "left": round(max(0.0, seconds * (1 - share) / share), 1) if share else None,
            "calls": work.calls,
            "region_calls": work.rows,
            "passed": round(share, 4),
            "saved": None if layout.fixed_steps is None else saved,
            "counts": work.per_region(shown, len(layout.regions)),
            "states": ["".join(image) for image in self._states[:shown]],
        }

    def _send(self, phase: str, content: Callable[[], dict[str, Any]]) -> None:
        """Sends unless the last message is too fresh; content is made only for somebody who listens."""
        if self._node_id is None or self._clock() < self._next or not has_client():
            return
        send_event(EVENT, {"node": self._node_id, "workflow": self._workflow_id, "phase": phase, **content()})
        self._next = self._clock() + INTERVAL
