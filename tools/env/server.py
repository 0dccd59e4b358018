"""Starts a real ComfyUI with this pack as a child process, and always stops what it started."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from . import environment as env
from .client import Client, HostError
from .steps import StepError, say

PACK_NAME = "ComfyUI-AdaptiveSR"
OUR_PREFIX = "AdaptiveSR"
START_SECONDS = 240.0
TAIL_LINES = 40


@dataclass(frozen=True)
class Server:
    """A running host: where it listens, its base directory (models, input, output, ...) and its log."""

    url: str
    base: Path
    log: Path
    process: subprocess.Popen[bytes]

    def client(self) -> Client:
        """A new API client; use it as a context manager."""
        return Client(self.url, log=self.log)

    def log_text(self) -> str:
        """What the host has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def check_port(port: int) -> None:
    """Raises a StepError with a sentence if the port is taken."""
    with socket.socket() as probe:
        if os.name == "posix":  # a port in TIME_WAIT is usable; on Windows the option would hide a listener
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise StepError(
                f"Port {port} is in use or not allowed ({error}); choose another with --port, or stop what listens there."
            ) from error


def has_accelerator() -> bool:
    """Whether torch sees a GPU that the host would use."""
    import torch  # noqa: PLC0415  (seconds; only those who start a host need it)

    return torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available()


def link_pack(custom_nodes: Path, name: str, root: Path = env.ROOT) -> None:
    """Makes the pack visible to the host under the given folder name: a link where the system allows one, else a copy."""
    custom_nodes.mkdir(parents=True, exist_ok=True)
    try:
        (custom_nodes / name).symlink_to(root, target_is_directory=True)
    except OSError:  # Windows without the right to make links
        ignored = shutil.ignore_patterns(".git", "__pycache__", ".*_cache", "demo_output", "train_output")
        shutil.copytree(root, custom_nodes / name, ignore=ignored)


def _nothing(base: Path) -> None:
    """No models, no pictures."""


def _put_small_models(base: Path) -> None:
    # torch, and half a minute of writing: for those who ask only
    importlib.import_module("adaptivesr.tools.small_models.stand_ins").put_for_shipped_workflows(base)


@contextlib.contextmanager
def running_host(
    source: Path,
    *,
    python: Path | None = None,
    port: int | None = None,
    pack_names: Sequence[str] = (PACK_NAME,),
    options: Sequence[str] = (),
    prepare: Callable[[Path], None] = _nothing,
    quiet: bool = False,
    guarded: bool = False,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Starts the host of `source` with the pack linked under each of pack_names, and stops it at the end of the block.

    `prepare` may put models and pictures into the base directory before the start. The host's files live in a temporary folder that is removed as well. On Ctrl-C and SIGTERM it is stopped too.
    With `guarded` it also ends, and its folder goes, when this process is killed so that nothing of it runs any more. environ: variables of its process.

    Raises:
        StepError: the port is taken, the host does not start, or the pack does not load; with the log's tail.
    """
    if port is not None:
        check_port(port)
    port = port or free_port()
    base = Path(tempfile.mkdtemp(prefix="adaptivesr-host-"))
    process = None
    with _signals_as_interrupt() as ignore_signals:
        try:
            for folder in ("models", "input", "output", "temp", "user"):
                (base / folder).mkdir()
            for name in pack_names:
                link_pack(base / "custom_nodes", name)
            prepare(base)
            say_unless(quiet, f"starting ComfyUI {env.host_version(source)} on port {port} ...")
            started = time.monotonic()
            process = _start(source, python or Path(sys.executable), port, base, options, guarded, environ or {})
            server = Server(f"http://127.0.0.1:{port}", base, base / "host.log", process)
            _wait_until_ready(server, started, quiet)
            _check_pack(server)
            say_unless(quiet, f"ComfyUI is ready at {server.url} ({time.monotonic() - started:.0f} s)")
            yield server
        finally:
            ignore_signals()
            if process is not None:
                stop(process)
                if process.stdin is not None:
                    process.stdin.close()
            shutil.rmtree(base, ignore_errors=True)


def say_unless(quiet: bool, text: str) -> None:
    """Progress for people; tests keep quiet."""
    if not quiet:
        say(text)


def _start(
    source: Path,
    python: Path,
    port: int,
    base: Path,
    options: Sequence[str],
    guarded: bool,
    environ: Mapping[str, str],
) -> subprocess.Popen[bytes]:
    guard = [str(Path(__file__).with_name("guard.py")), str(base)] if guarded else []
    command = [str(python), *guard, str(source / "main.py"), "--port", str(port), "--base-directory", str(base)]
    command += ["--database-url", "sqlite:///:memory:", "--disable-api-nodes", "--disable-auto-launch"]
    command += [*options] if "--cpu" in options or has_accelerator() else ["--cpu", *options]
    groups = {"start_new_session": True} if os.name == "posix" else {"creationflags": 0x200}  # CREATE_NEW_PROCESS_GROUP
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTEST_CURRENT_TEST")}
    with (base / "host.log").open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=source,
            stdin=subprocess.PIPE if guarded else subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**clean, **environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
            **groups,
        )


def _wait_until_ready(server: Server, started: float, quiet: bool) -> None:
    told = started
    while True:
        try:
            server.client().system_stats()
            return
        except HostError:
            pass
        now = time.monotonic()
        if server.process.poll() is not None:
            raise StepError(f"ComfyUI ended with code {server.process.returncode} while starting.{tail(server)}")
        if now - started > START_SECONDS:
            raise StepError(f"ComfyUI did not answer within {START_SECONDS:.0f} s.{tail(server)}")
        if now - told >= 10:
            say_unless(quiet, f"  still starting ({now - started:.0f} s)")
            told = now
        time.sleep(0.25)


def _check_pack(server: Server) -> None:
    # Old hosts also fail on extras of their own; only packs under our base directory count.
    failed = [line for line in server.log_text().splitlines() if "IMPORT FAILED" in line and "custom_nodes" in line]
    if failed:
        raise StepError(f"ComfyUI could not import the pack.{tail(server)}")
    if not any(name.startswith(OUR_PREFIX) for name in server.client().object_info()):
        raise StepError(f"ComfyUI started, but none of the pack's nodes is listed.{tail(server)}")


def tail(server: Server) -> str:
    """The end of the host's log, ready to be appended to a sentence."""
    lines = server.log_text().splitlines()[-TAIL_LINES:]
    return "\n--- end of the host's log ---\n" + "\n".join(lines)


def stop(process: subprocess.Popen[bytes], patience: float = 10.0) -> None:
    """Ends the host and every process it started: politely, then for good."""
    _signal_group(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    _signal_group(process, getattr(signal, "SIGKILL", signal.SIGTERM))
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
    elif process.poll() is None:
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)


@contextlib.contextmanager
def _signals_as_interrupt() -> Iterator[Callable[[], None]]:
    """Makes SIGTERM and SIGHUP act like Ctrl-C for the block, so that its `finally` runs.

    Yields a function after which none of the three disturbs the block any more; the first of them calls it, too.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def ignore() -> None:
        for number in previous:
            signal.signal(number, signal.SIG_IGN)

    def leave(number: int, frame: FrameType | None) -> None:
        ignore()
        raise KeyboardInterrupt(f"signal {number}")

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    previous = {number: signal.getsignal(number) for number in numbers}
    previous = {number: handler for number, handler in previous.items() if handler != signal.SIG_IGN}
    for number in previous:
        signal.signal(number, leave)
    try:
        yield ignore
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def stay(environment: Path, port: int, *, small_models: bool = False) -> int:
    """The `host` verb: runs the host with the pack, its log on the screen, until Ctrl-C or until it ends.

    small_models: with stand-ins under the names of all files that shipped workflows load.
    """
    check_port(port)
    with running_host(
        env.host_source(environment), port=port, prepare=_put_small_models if small_models else _nothing
    ) as server:
        if small_models:
            say(
                "Every model file of the example workflows is a small stand-in: nothing in them is learned, pictures are of no use."
            )
        say(f"open {server.url} in a browser; Ctrl-C stops it. Files are in {server.base} and are removed at the end.")
        with server.log.open(encoding="utf-8", errors="replace") as log:
            while server.process.poll() is None:
                text = log.read()
                if text:
                    print(text, end="", flush=True)
                time.sleep(0.5)
        raise StepError(f"ComfyUI ended with code {server.process.returncode}.{tail(server)}")
