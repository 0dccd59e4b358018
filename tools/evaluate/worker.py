"""One ComfyUI, started here or attached to by its address, and what it does with a picture."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..env.client import Client, HostError, PromptRejectedError
from ..env.server import Server, running_host
from ..env.steps import StepError
from .graph import PromptPlan, make_plan, to_prompt, work_in
from .pictures import Decoded, UnreadableError, as_png, decode, size_of
from .scores import Judges

DONE, REFUSED, FAILED, HOST_DIED, NO_HOST = "done", "refused", "failed", "host died", "no host"
"""How a picture ends: REFUSED is final, FAILED and HOST_DIED are tried once more; NO_HOST says nothing about the picture."""
END_SECONDS = 2.0
ATTACH_SECONDS = 20.0
"""For which a worker waits for a ComfyUI that it did not start."""


@dataclass(frozen=True)
class WorkerSpec:
    """What every worker needs to know; plain values, which travel between machines.

    workflow: the file's JSON; changes: values of its inputs; url: of a ComfyUI to attach to, else one of `source` is started with `python`
    (None: ours), with the model files of `models`; threads: of a ComfyUI on a CPU (0: as many as it likes); recipe: of workers that upscale blocks of large pictures without a ComfyUI.
    """

    workflow: Mapping[str, Any]
    changes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    metrics: tuple[str, ...] = ()
    degrade: str | None = None
    scale: int = 4
    url: str | None = None
    source: str | None = None
    python: str | None = None
    models: str | None = None
    threads: int = 0
    timeout: float = 3600.0
    options: tuple[str, ...] = ()
    recipe: Mapping[str, Any] | None = None

    def as_plain(self) -> dict[str, Any]:
        """Of values that every Python reads."""
        return asdict(self)


@dataclass(frozen=True)
class PictureJob:
    """A picture to upscale: its name, its own seed, the file's bytes and those of its reference.

    Where the run degrades, `content` is the good picture, which is the reference, too. place: of a block (blocks.py); changes: inputs of this
    picture alone, by node id (overlapping.py).
    """

    name: str
    seed: int
    content: bytes
    reference: bytes | None = None
    place: tuple[int, ...] = ()
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, "Mapping[str, Any]"])


@dataclass
class PictureOutcome:
    """What became of a picture. image and small are PNGs: the result, and what it was made of where the run degrades."""

    name: str
    status: str
    error: str = ""
    notes: list[str] = field(default_factory=list[str])
    image: bytes = b""
    small: bytes = b""
    size: tuple[int, int] = (0, 0)
    result_size: tuple[int, int] = (0, 0)
    seconds: float = 0.0
    calls: int | None = None
    tflop: float | None = None
    scores: dict[str, float | None] = field(default_factory=dict[str, "float | None"])
    peak_bytes: int = 0


class Worker:
    """Holds a ComfyUI while it lives; a context manager."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self._stack = contextlib.ExitStack()
        self._server: Server | None = None
        self._client: Client | None = None
        self._plan: PromptPlan | None = None
        self._judges: Judges | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops the ComfyUI if we started it."""
        self._client, self._server = None, None
        self._stack.close()

    def ready(self) -> dict[str, Any]:
        """Starts what is needed; process ids and address of the ComfyUI, and metrics that cannot be had.

        Raises StepError if there is no ComfyUI or the workflow does not suit it.
        """
        client = self._connected()
        if self._plan is None:
            definitions = client.object_info()
            self._plan = make_plan(to_prompt(self.spec.workflow, definitions), definitions, self.spec.changes)
        if self._judges is None:
            self._judges = Judges.of(self.spec.metrics)
        process = None if self._server is None else self._server.process.pid
        return {"url": client.url, "pid": process, "left_out": self._judges.left_out}

    def definitions(self) -> dict[str, Any]:
        """The node classes of the ComfyUI."""
        return self._connected().object_info()

    def _connected(self) -> Client:
        if self._server is not None and self._server.process.poll() is not None:
            self.close()  # somebody killed it, or it ran out of memory
        if self._client is not None:
            return self._client
        self._client = self._attached() if self.spec.url else self._started()
        return self._client

    def _attached(self) -> Client:
        client, deadline = Client(str(self.spec.url).rstrip("/")), time.monotonic() + ATTACH_SECONDS
        while True:
            try:
                client.system_stats()
                return client
            except (HostError, OSError, ValueError) as error:
                if time.monotonic() > deadline:
                    raise StepError(f"No ComfyUI answers at {self.spec.url}: {error}") from error
            time.sleep(0.5)

    def _started(self) -> Client:
        spec = self.spec
        if spec.source is None:
            raise StepError("There is no ComfyUI: expected one around the pack, its folder in COMFYUI_PATH, or --url.")
        host = running_host(
            Path(spec.source),
            python=Path(spec.python or sys.executable),
            options=spec.options,
            prepare=self._prepare,
            quiet=True,
            guarded=True,
            environ={"OMP_NUM_THREADS": str(spec.threads)} if spec.threads else {},
        )
        self._server = self._stack.enter_context(host)
        return Client(self._server.url, log=self._server.log)

    def _prepare(self, base: Path) -> None:
        if self.spec.models:
            (base / "models").rmdir()
            (base / "models").symlink_to(Path(self.spec.models).resolve(), target_is_directory=True)

    def process(self, job: PictureJob) -> PictureOutcome:
        """Upscales and measures a picture; whatever goes wrong is in the outcome."""
        try:
            self.ready()
        except (StepError, HostError, OSError) as error:
            self.close()
            return PictureOutcome(job.name, NO_HOST, str(error).splitlines()[0])
        try:
            return self._upscaled(job)
        except UnreadableError as error:
            return PictureOutcome(job.name, REFUSED, str(error))
        except PromptRejectedError as error:
            sentences = [sentence for found in error.node_errors.values() for sentence in found]
            return PictureOutcome(job.name, FAILED, "; ".join(sentences) or str(error))
        except (HostError, OSError, json.JSONDecodeError) as error:
            code = self._exit_code()
            words = str(error) if code is None else f"its ComfyUI ended with code {code}"
            self.close()  # the next picture finds a fresh one, or one that answers again
            return PictureOutcome(job.name, HOST_DIED, words)

    def _exit_code(self) -> int | None:
        """With which a ComfyUI of ours has ended; None: it runs. Its connections break a moment before its end can be seen."""
        if self._server is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._server.process.wait(END_SECONDS)
        return self._server.process.returncode

    def _upscaled(self, job: PictureJob) -> PictureOutcome:
        source, reference, notes = self._inputs(job)
        outcome = PictureOutcome(job.name, DONE, notes=notes, size=source.size)
        content = as_png(source.pixels)
        outcome.small = content if self.spec.degrade else b""
        started = time.monotonic()
        record = self._run(job, content)
        status = record.get("status", {})
        if status.get("status_str") != "success":
            return PictureOutcome(job.name, FAILED, _error_in(status))
        self._collect(record["outputs"], outcome)
        outcome.seconds = round(time.monotonic() - started, 3)
        self._judge(outcome, reference)
        self._clear()
        return outcome

    def _inputs(self, job: PictureJob) -> tuple[Decoded, Decoded | None, list[str]]:
        """What goes to the workflow, what its result is compared with, and what was lost on the way."""
        source = decode(job.content)
        notes = list(source.notes)
        if self.spec.degrade:
            small, whole = degraded(source, self.spec.degrade, self.spec.scale, job.seed)
            return small, whole, notes
        reference = None
        if job.reference is not None:
            try:
                reference = decode(job.reference)
            except UnreadableError as error:
                notes.append(f"not compared: its reference {error}")
        return source, reference, notes

    def _run(self, job: PictureJob, content: bytes) -> dict[str, Any]:
        assert self._client is not None and self._plan is not None
        # Names of any letters become one of plain ones.
        mark = hashlib.blake2b(job.name.encode(), digest_size=8).hexdigest()
        name = self._client.upload_bytes(f"adaptivesr_{mark}.png", content, folder="temp")
        prompt = self._plan.for_picture(name, job.seed)
        for node, inputs in job.changes.items():
            prompt[node]["inputs"].update(inputs)
        return self._client.wait(self._client.queue(prompt), self.spec.timeout)

    def _collect(self, outputs: Mapping[str, Any], outcome: PictureOutcome) -> None:
        assert self._client is not None and self._plan is not None
        images = outputs.get(self._plan.result, {}).get("images", [])
        if not images:
            raise HostError("The workflow ended without its picture.")
        if len(images) > 1:
            outcome.notes.append(f"the first of {len(images)} pictures that the workflow gives")
        outcome.image = self._client.image(images[0])
        texts = [text for node in self._plan.reports for text in outputs.get(node, {}).get("text", [])]
        outcome.calls, outcome.tflop = work_in(texts)

    def _judge(self, outcome: PictureOutcome, reference: Decoded | None) -> None:
        assert self._judges is not None
        outcome.result_size = size_of(outcome.image)
        if not self._judges.made:
            return
        result = decode(outcome.image)
        compared = None
        if reference is not None:
            compared = cropped(reference, result.size, outcome.size)
            if compared is None:
                sizes = "x".join(map(str, result.size)), "x".join(map(str, reference.size))
                outcome.notes.append(f"not compared: it is {sizes[0]}, its reference {sizes[1]}")
        outcome.scores, notes = self._judges.measure(result.tensor, None if compared is None else compared.tensor)
        outcome.notes += notes

    def _clear(self) -> None:
        """Of a ComfyUI of ours: what it keeps on disk of a picture that we have fetched."""
        if self._server is not None:
            for path in (self._server.base / "temp").iterdir():
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def degraded(source: Decoded, preset: str, scale: int, seed: int) -> tuple[Decoded, Decoded]:
    """The small bad picture of a good one, and the good one without what does not fill a pixel of the small one.

    As Real-World Degradation makes it with that seed. Raises UnreadableError for pictures below one pixel of it.
    """
    import torch  # noqa: PLC0415  (with kornia seconds, for those who degrade)

    from ...imaging.degradation.presets import PRESETS, degrade_one  # noqa: PLC0415
    from ...sampling.noise import generator_for  # noqa: PLC0415

    width, height = (side // scale * scale for side in source.size)
    if 0 in (width, height):
        raise UnreadableError(f"is {source.size[0]}x{source.size[1]} pixels, too small to be reduced by {scale}")
    whole = Decoded(source.pixels[:height, :width])
    with torch.inference_mode():
        low, _ = degrade_one(whole.tensor, PRESETS[preset], generator_for(seed), scale)
    return Decoded(low[0].movedim(0, 2).numpy()), whole


def cropped(reference: Decoded, result: tuple[int, int], source: tuple[int, int]) -> Decoded | None:
    """The reference at the result's size: a data set's small pictures leave out what does not fill a pixel; None: another size."""
    room = [wanted // given if given else 0 for wanted, given in zip(result, source)]
    spare = [have - want for have, want in zip(reference.size, result)]
    if any(not 0 <= left < max(1, scale) for left, scale in zip(spare, room)):
        return None
    return Decoded(reference.pixels[: result[1], : result[0]])


def _error_in(status: Mapping[str, Any]) -> str:
    """The sentence of the node that failed."""
    for kind, data in reversed(status.get("messages", [])):
        if kind == "execution_error":
            return f"{data.get('node_type', 'a node')}: {str(data.get('exception_message', '')).strip()}"
        if kind == "execution_interrupted":
            return "the run was interrupted in its ComfyUI"
    return "the workflow failed without a word"
