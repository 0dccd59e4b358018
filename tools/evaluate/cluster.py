"""Workers on a Ray cluster: an actor a slot, each with a ComfyUI of its own, on this machine or on many. Ray is imported here only.

Ray restarts an actor that dies (`max_restarts`), somewhere else if its machine is gone. It does not repeat the picture that the actor had
(`max_task_retries` 0): the dispatcher gives that to another worker, which a repeat inside the same actor would not, and counts the failure, so that
a picture that kills its workers is set aside.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from ..env import environment as env
from ..env.steps import StepError, say
from .worker import HOST_DIED, PictureJob, PictureOutcome, WorkerSpec

START_SECONDS = 600.0
"""For which a slot may wait for its place in the cluster and start a ComfyUI."""
AWAY_PAUSE = 1.0
"""Seconds between two questions whether a worker that cannot be reached is there again."""
STORE_BYTES = 512 << 20
"""Of the object store of a cluster on this machine alone: a picture and a result for each worker pass through it."""


def ray_module() -> Any:
    """Ray, without its reports to its makers; a StepError says how to get it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault(
        "RAY_worker_niceness", "0"
    )  # a ComfyUI of an actor is no background work; Ray's own choice is 15
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise StepError(
            f"--workers and --address need Ray, which could not be imported ({error}): pip install -r requirements-scale.txt."
        ) from error


def connect(ray: Any, address: str, **options: Any) -> None:
    """Joins a cluster that runs; a StepError says what may be missing."""
    try:
        ray.init(address=address, **options)
    except (ConnectionError, ray.exceptions.RayError) as error:
        raise StepError(
            f"No Ray cluster at {address} lets us in ({str(error).strip().splitlines()[0][:150]}): expected one that `ray start --head` made. "
            "Where it asks for Ray's token (`ray start` says so), set RAY_AUTH_MODE=token, with the same token on every machine."
        ) from error


def actor_class(ray: Any) -> Any:
    """The actor; defined in a function, so that it travels to machines where nothing of ours is imported yet."""

    class Slot:
        def __init__(self, root: str, plain: dict[str, Any]) -> None:
            import importlib  # noqa: PLC0415
            import os  # noqa: PLC0415
            import sys  # noqa: PLC0415
            import types  # noqa: PLC0415

            root = os.environ.get("ADAPTIVESR_PACK", root)
            if "adaptivesr" not in sys.modules:
                pack = types.ModuleType("adaptivesr")
                pack.__path__ = [root]
                sys.modules["adaptivesr"] = pack
            sys.path[:] = [
                entry for entry in sys.path if os.path.realpath(entry or os.curdir) != os.path.realpath(root)
            ]
            self._slot = importlib.import_module("adaptivesr.tools.evaluate.remote").RemoteSlot(plain)

        def ready(self) -> dict[str, Any]:
            return self._slot.ready()

        def process(self, job: dict[str, Any]) -> dict[str, Any]:
            return self._slot.process(job)

    return ray.remote(Slot)


class RaySlots:
    """Slots of the dispatcher that are actors; a context manager that ends them all."""

    work_elsewhere = True

    def __init__(self, specs: Sequence[WorkerSpec], address: str | None) -> None:
        self._ray = ray_module()
        self._specs = list(specs)
        self._address = address
        self._actors: dict[int, Any] = {}
        self._refs: dict[Any, tuple[int, PictureJob | None]] = {}
        self._free: set[int] = set()
        self._labels: dict[int, str] = {}
        self._errors: list[str] = []
        self._restarts = 0
        self._away_since: dict[int, float] = {}
        self.left_out: dict[str, str] = {}
        self.facts: dict[int, dict[str, Any]] = {}

    def __enter__(self) -> RaySlots:
        terminated = signal.getsignal(signal.SIGTERM)
        quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
        if self._address:
            connect(self._ray, self._address, **quiet)
        else:
            self._ray.init(
                address="local",
                num_cpus=len(self._specs),
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                **quiet,
            )
        signal.signal(signal.SIGTERM, terminated)  # Ray's own prints a trace and ends the process at once
        gpus = self._ray.cluster_resources().get("GPU", 0) >= len(self._specs)
        share = {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": 1}
        kind = actor_class(self._ray).options(max_restarts=-1, max_task_retries=0, **share)
        for number, spec in enumerate(self._specs):
            self._actors[number] = kind.remote(str(env.ROOT), spec.as_plain())
            self._labels[number] = str(number + 1)
            self._ask_ready(number)
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self._actors.values():
            self._ray.kill(actor, no_restart=True)  # its ComfyUI ends with it (tools/env/guard.py)
        self._ray.shutdown()

    def _ask_ready(self, slot: int) -> None:
        self._refs[self._actors[slot].ready.remote()] = (slot, None)

    def free(self) -> list[int]:
        """Workers whose ComfyUI is up and that have no picture."""
        return sorted(self._free)

    def any_left(self) -> bool:
        """Whether a worker is there, or may still come up."""
        return bool(self._free or self._refs)

    def submit(self, slot: int, job: PictureJob) -> None:
        """Gives a picture to a worker."""
        self._free.discard(slot)
        self._refs[self._actors[slot].process.remote(asdict(job))] = (slot, job)

    def next(self) -> tuple[int, PictureOutcome] | None:
        """The next that ends, and how; None: a worker came up, or went."""
        done, _ = self._ray.wait(list(self._refs), num_returns=1, timeout=START_SECONDS)
        if not done:
            if not any(job for _, job in self._refs.values()):
                raise StepError(
                    f"No worker came up within {START_SECONDS:.0f} s: the cluster has {self._ray.cluster_resources()}, expected a GPU or a CPU "
                    f"for each of {len(self._specs)}."
                )
            return None
        slot, job = self._refs.pop(done[0])
        try:
            found = self._ray.get(done[0])
        except self._ray.exceptions.RayError as error:
            return self._died(slot, job, error)
        if job is None:
            self._came_up(slot, found)
            return None
        self._free.add(slot)
        return slot, PictureOutcome(**found)

    def _came_up(self, slot: int, found: dict[str, Any]) -> None:
        if error := found.get("error"):
            self._errors.append(error)
            say(f"worker {self.label(slot)}: {error}")
            self.retire(slot)
            if not self._actors:
                raise StepError(f"No worker could start: {self._errors[0]}")
            return
        self._away_since.pop(slot, None)
        self.left_out.update(found["left_out"])
        self.facts[slot] = found
        self._labels[slot] = f"{slot + 1} at {found['place']}"
        self._free.add(slot)
        say(f"worker {self.label(slot)} is ready")

    def _died(self, slot: int, job: PictureJob | None, error: Exception) -> tuple[int, PictureOutcome] | None:
        reason = f"its worker died ({str(error).strip().splitlines()[0][:150]})"
        if isinstance(error, self._ray.exceptions.ActorUnavailableError):
            self._wait_for(slot, reason)
        elif job is None:
            self._restarts += 1
            if self._restarts > 3 * len(self._specs):
                raise StepError(f"Workers die as they start: {reason}")
        if slot in self._actors:
            self._ask_ready(slot)  # waits until Ray has started it again
        return None if job is None else (slot, PictureOutcome(job.name, HOST_DIED, reason))

    def _wait_for(self, slot: int, reason: str) -> None:
        """A moment, for a worker of which Ray does not know yet whether it is dead: it answers at once that it cannot be reached."""
        away_since = self._away_since.setdefault(slot, time.monotonic())
        if time.monotonic() - away_since > START_SECONDS:
            say(f"worker {self.label(slot)} is given up after {START_SECONDS:.0f} s: {reason}")
            self.retire(slot)
        else:
            time.sleep(AWAY_PAUSE)

    def retire(self, slot: int) -> None:
        """Ends a worker for good."""
        self._free.discard(slot)
        actor = self._actors.pop(slot, None)
        self._refs = {ref: entry for ref, entry in self._refs.items() if entry[0] != slot}
        if actor is not None:
            self._ray.kill(actor, no_restart=True)

    def label(self, slot: int) -> str:
        """Its number and where it runs."""
        return self._labels[slot]


def slots_in(address: str, threads: int) -> int:
    """Workers that a cluster has room for: one a GPU, else one for so many cores."""
    ray = ray_module()
    connect(ray, address, log_to_driver=False, logging_level="ERROR")
    try:
        found = ray.cluster_resources()
    finally:
        ray.shutdown()
    return int(found.get("GPU", 0)) or max(1, int(found.get("CPU", 1)) // max(1, threads))


@contextlib.contextmanager
def ray_slots(
    spec: WorkerSpec, *, workers: int, urls: Sequence[str], address: str | None
) -> Iterator[tuple[RaySlots, dict[str, str]]]:
    """Workers of a cluster (address None: of one that is made for them), and the metrics that they cannot have, known once one is up."""
    specs = [replace(spec, url=url) for url in urls] if urls else [spec] * workers
    say(f"starting {len(specs)} workers on {'the cluster at ' + address if address else 'this machine'} ...")
    with RaySlots(specs, address) as slots:
        yield slots, slots.left_out
