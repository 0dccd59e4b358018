"""What an actor does, with plain values in and out: workers may run another version of the classes than the driver only by mistake, and say so."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..env.steps import StepError
from .blocks import worker_for
from .worker import PictureJob, WorkerSpec


class RemoteSlot:
    """A worker in a process of its own."""

    def __init__(self, plain: Mapping[str, Any]) -> None:
        spec = dict(plain)
        if spec["url"] is None:
            spec["source"] = os.environ.get("COMFYUI_PATH", spec["source"])  # of this machine
        self._worker = worker_for(WorkerSpec(**spec))

    def ready(self) -> dict[str, Any]:
        """Where it runs, or `error`."""
        try:
            found = self._worker.ready()
        except StepError as error:
            return {"error": str(error)}
        place = found["url"] if self._worker.spec.url else platform.node() or "this machine"
        return {**found, "place": place, "actor": os.getpid()}

    def process(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """An outcome, as plain values."""
        return asdict(self._worker.process(PictureJob(**job)))
