"""Long steps of the developer commands: one clear line each, a heartbeat, and a sentence when something breaks."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

HEARTBEAT_SECONDS = 15.0

NETWORK_SIGNS = (
    "name resolution",
    "getaddrinfo failed",
    "nodename nor servname",
    "newconnectionerror",
    "network is unreachable",
    "connection refused",
    "connection reset",
    "connection aborted",
    "connection broken",
    "incompleteread",
    "incomplete-download",
    "incomplete download",
    "read timed out",
    "connecttimeout",
    "max retries exceeded",
    "cannot connect to proxy",
    "proxyerror",
    "sslerror",
)

Fold = Callable[[str], "tuple[str, str] | None"]  # a line of output -> (phase, detail); a new phase gets a line at once


class StepError(RuntimeError):
    """A step failed; the message is a sentence for the person at the keyboard."""


def say(text: str) -> None:
    """Prints one progress line at once, also into a pipe."""
    print(text, flush=True)


def explain(output: str, folder: Path) -> str | None:
    """The known cause behind a failed command's output, or None; folder is where it wrote."""
    low = output.lower()
    if "no space left on device" in low or "not enough space" in low or "errno 28" in low:
        return f"the disk that holds {folder} is full; free about 10 GB or point ADAPTIVESR_HOME at another disk"
    if "do not match the hashes" in low:
        return "the downloaded file does not have the expected checksum; it was discarded, try again later"
    if any(sign in low for sign in NETWORK_SIGNS):
        return "the download broke or there is no network; check the connection and run the command again"
    if "ensurepip is not available" in low or "no module named ensurepip" in low or "no module named venv" in low:
        return "this Python cannot make environments; install its venv package (Debian: apt-get install python3-venv)"
    if "permission denied" in low:
        return f"{folder} cannot be written; point ADAPTIVESR_HOME at a folder of yours"
    return None


def run_step(
    title: str,
    command: Sequence[str | Path],
    *,
    folder: Path,
    log: Path,
    fold: Fold = lambda line: None,
    environ: Mapping[str, str] | None = None,
    heartbeat: float = HEARTBEAT_SECONDS,
) -> None:
    """Runs a command quietly: its full output goes to log, `fold` picks what is worth a line.

    Raises:
        StepError: the command cannot start or fails; the message names the cause and the log.
    """
    started = time.monotonic()
    say(f"{title} ...")
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        code = _pump(title, command, log, fold, environ, heartbeat, started)
    except OSError as error:
        raise StepError(f"{title} failed: {explain(str(error), folder) or error}.") from error
    if code != 0:
        output = log.read_text(encoding="utf-8", errors="replace")
        cause = explain(output, folder) or last_error(output) or f"exit code {code}"
        raise StepError(f"{title} failed: {cause}. The whole output is in {log}.")
    say(f"{title}: done in {time.monotonic() - started:.0f} s")


def _pump(
    title: str,
    command: Sequence[str | Path],
    log: Path,
    fold: Fold,
    environ: Mapping[str, str] | None,
    heartbeat: float,
    started: float,
) -> int:
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(environ or {})},
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read_lines, args=(process, lines), daemon=True).start()
    last_said, phase, detail = started, "", ""
    try:
        with log.open("w", encoding="utf-8") as sink:
            while True:
                try:
                    line = lines.get(timeout=min(1.0, heartbeat))
                except queue.Empty:
                    line = ""
                if line is None:
                    return process.wait()
                if line:
                    sink.write(line)
                    known = phase
                    phase, detail = fold(line.strip()) or (phase, detail)
                    if phase != known:
                        last_said = -heartbeat  # due now
                now = time.monotonic()
                if now - last_said >= heartbeat:
                    say(f"  {phase or 'still working'}{detail and ': '}{detail} ({now - started:.0f} s)")
                    last_said = now
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def _read_lines(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def last_error(output: str) -> str | None:
    """The last line of a tool's output that looks like its verdict."""
    verdicts = [line.strip() for line in output.splitlines() if line.lstrip().lower().startswith(("error", "e: "))]
    return verdicts[-1].rstrip(".") if verdicts else None


@contextlib.contextmanager
def file_lock(path: Path, *, waiting_for: str) -> Iterator[None]:
    """Holds an exclusive lock on path; it vanishes with the process, so a killed owner never blocks the next."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as handle:
        started, told = time.monotonic(), -HEARTBEAT_SECONDS
        while not _try_lock(handle.fileno()):
            waited = time.monotonic() - started
            if waited - told >= HEARTBEAT_SECONDS:
                say(f"waiting for another process that makes {waiting_for} ({waited:.0f} s)")
                told = waited
            time.sleep(0.2)
        try:
            yield
        finally:
            _unlock(handle.fileno())


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _unlock(descriptor: int) -> None:
    if sys.platform == "win32":
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
