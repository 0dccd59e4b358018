"""A small client of the ComfyUI HTTP and websocket API."""

from __future__ import annotations

import http.client
import json
import mimetypes
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import websocket

Prompt = dict[str, dict[str, Any]]
FINAL_EVENTS = ("execution_success", "execution_error", "execution_interrupted")


class HostError(RuntimeError):
    """The host did not answer, closed the connection, or took too long."""


class PromptRejectedError(HostError):
    """The host refused a prompt before running it; `node_errors` maps node ids to the sentences shown on the node."""

    def __init__(self, message: str, node_errors: dict[str, list[str]]) -> None:
        super().__init__(message)
        self.node_errors = node_errors


@dataclass(frozen=True)
class Event:
    """One websocket message about a prompt, e.g. kind "progress" with data {"value", "max", "node", ...}."""

    kind: str
    data: dict[str, Any]


@dataclass(frozen=True)
class PromptRun:
    """How a prompt ended: its id, every event and the outputs by node id as the host's history has them."""

    prompt_id: str
    events: list[Event]
    outputs: dict[str, dict[str, Any]]

    @property
    def succeeded(self) -> bool:
        """Whether every node of the prompt ran to its end."""
        return self.events[-1].kind == "execution_success"

    @property
    def error(self) -> str:
        """The sentence that the failing node shows, or the name of the final event."""
        last = self.events[-1]
        return str(last.data.get("exception_message", last.kind)).strip()

    def images(self) -> list[dict[str, str]]:
        """Every image that the prompt saved or previewed, as the host names it."""
        return [image for output in self.outputs.values() for image in output.get("images", [])]


@dataclass
class Client:
    """Talks to one host under one client id. Websocket events need the context manager (`with server.client() as c`).

    Only they need the package websocket-client: `queue` and `wait` work where an installed pack finds no more than ComfyUI's packages.
    """

    url: str
    log: Path | None = None
    client_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    timeout: float = 30.0
    socket: websocket.WebSocket | None = None

    def __enter__(self) -> Client:
        import websocket  # noqa: PLC0415

        address = self.url.replace("http", "ws", 1) + f"/ws?clientId={self.client_id}"
        try:
            self.socket = websocket.create_connection(address, timeout=self.timeout)
        except (OSError, websocket.WebSocketException) as error:
            raise HostError(f"No websocket at {address}: {error}.") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def request(self, path: str, body: bytes | None = None, content_type: str = "application/json") -> bytes:
        """The answer to GET path, or to POST path if there is a body."""
        request = urllib.request.Request(
            self.url + path, data=body, headers={"Content-Type": content_type} if body else {}
        )
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                request, timeout=self.timeout
            ) as answer:
                return answer.read()
        except urllib.error.HTTPError:
            raise
        except (OSError, http.client.HTTPException) as error:  # the latter: it ended in the middle of its answer
            raise HostError(f"The host at {self.url} does not answer: {error}.") from error

    def get(self, path: str) -> Any:
        """The JSON at a path."""
        return json.loads(self.request(path))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Posts JSON; the JSON answer, or None if it is empty."""
        answer = self.request(path, json.dumps(body).encode())
        return json.loads(answer) if answer.strip() else None

    def system_stats(self) -> dict[str, Any]:
        """Versions and devices of the host."""
        return self.get("/system_stats")

    def object_info(self) -> dict[str, Any]:
        """Every node class with its inputs and outputs."""
        return self.get("/object_info")

    def history(self, prompt_id: str) -> dict[str, Any]:
        """The host's record of a finished prompt."""
        return self.get(f"/history/{prompt_id}")[prompt_id]

    def upload_image(self, file: Path) -> str:
        """Puts a picture into the host's input folder; returns the name that LoadImage takes."""
        return self.upload_bytes(file.name, file.read_bytes())

    def upload_bytes(self, name: str, content: bytes, folder: str = "input") -> str:
        """The same for a picture's bytes, under a name; folder "temp" is the one that the host empties when it starts and ends."""
        boundary = uuid.uuid4().hex
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\nContent-Type: {kind}\r\n\r\n'
        fields = {"overwrite": "true", "type": folder}
        rest = "".join(
            f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}'
            for key, value in fields.items()
        )
        body = head.encode() + content + f"{rest}\r\n--{boundary}--\r\n".encode()
        stored = json.loads(self.request("/upload/image", body, f"multipart/form-data; boundary={boundary}"))["name"]
        return stored if folder == "input" else f"{stored} [{folder}]"

    def image(self, entry: Mapping[str, str]) -> bytes:
        """The file behind an image entry of `PromptRun.images`."""
        return self.request("/view?" + urllib.parse.urlencode(entry))

    def queue(self, prompt: Prompt) -> str:
        """Queues an API-format workflow; returns its id.

        Raises:
            PromptRejectedError: the host found it invalid.
        """
        try:
            return self.post("/prompt", {"prompt": prompt, "client_id": self.client_id})["prompt_id"]
        except urllib.error.HTTPError as error:
            answer = error.read().decode("utf-8", errors="replace")
            try:
                found = json.loads(answer)
            except ValueError:
                raise HostError(f"The host answered HTTP {error.code}: {answer[:500]}") from error
            raise PromptRejectedError(
                _sentence(found["error"]), _node_sentences(found.get("node_errors") or {})
            ) from error

    def interrupt(self) -> None:
        """Asks the host to stop the running prompt."""
        self.request("/interrupt", b"{}")

    def events(self, prompt_id: str, timeout: float = 600.0) -> Iterator[Event]:
        """The prompt's events as they come, the final one included. timeout: seconds of silence that are an error."""
        if self.socket is None:
            raise HostError("Events need a connected client: use it in a with block.")
        import websocket  # noqa: PLC0415

        self.socket.settimeout(timeout)
        while True:
            try:
                message = self.socket.recv()
            except websocket.WebSocketTimeoutException as error:
                raise HostError(f"The host said nothing about prompt {prompt_id} for {timeout:.0f} s.") from error
            except (OSError, websocket.WebSocketException) as error:
                raise HostError(f"The host closed the connection while prompt {prompt_id} ran: {error}.") from error
            if not isinstance(message, str):
                continue  # a preview picture
            found = json.loads(message)
            data = found.get("data") or {}
            if data.get("prompt_id") == prompt_id:
                yield Event(found["type"], data)
                if found["type"] in FINAL_EVENTS:
                    return

    def run(
        self, prompt: Prompt, *, on_event: Callable[[Event], None] | None = None, timeout: float = 600.0
    ) -> PromptRun:
        """Queues a prompt and waits for its end, good or bad."""
        prompt_id = self.queue(prompt)
        events: list[Event] = []
        for event in self.events(prompt_id, timeout):
            events.append(event)
            if on_event is not None:
                on_event(event)
        return PromptRun(prompt_id, events, self._outputs(prompt_id))

    def wait(self, prompt_id: str, timeout: float = 600.0) -> dict[str, Any]:
        """The host's record of a queued prompt once it has ended, asked for again and again. timeout: seconds in all.

        Raises:
            HostError: the host stopped answering, or the time is over; then the prompt is interrupted.
        """
        start = time.monotonic()
        while (taken := time.monotonic() - start) < timeout:
            record = self.get(f"/history/{prompt_id}").get(prompt_id)
            if record:
                return record
            time.sleep(min(0.25, max(0.02, taken / 20)))  # nobody waits for more than a twentieth longer than it takes
        self.interrupt()
        raise HostError(f"The host at {self.url} has not ended a workflow after {timeout:.0f} s.")

    def _outputs(self, prompt_id: str) -> dict[str, dict[str, Any]]:
        """The outputs in the history, which the host writes a moment after the final event."""
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            record = self.get(f"/history/{prompt_id}").get(prompt_id)
            if record:
                return record["outputs"]
            time.sleep(0.05)
        raise HostError(f"The host has no history of prompt {prompt_id} after {self.timeout:.0f} s.")


def nodes_of_class(prompt: Prompt, class_type: str) -> list[str]:
    """The ids of a prompt's nodes of one class, whatever they are numbered."""
    return [node_id for node_id, node in prompt.items() if node["class_type"] == class_type]


def _sentence(error: Mapping[str, Any]) -> str:
    details = error.get("details") or ""
    return f"{error.get('message', 'refused')}: {details}" if details else str(error.get("message", "refused"))


def _node_sentences(errors: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    return {node_id: [_sentence(error) for error in found["errors"]] for node_id, found in errors.items()}
