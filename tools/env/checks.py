"""The `test` verb: lint, format, types, then every test, those against the real host and in the browser included."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import chromium
from . import environment as env
from .server import has_accelerator
from .steps import StepError, say

STOP_SECONDS = 30.0
MOST_WORKERS = 4  # each of them holds a host, and a browser: about 3 GB


def main(environment: Path, pytest_arguments: Sequence[str]) -> int:
    """Runs every phase in turn and stops at the first that fails; returns its exit code.

    Pytest comes last and nothing is printed after it, so that the last line is its verdict.
    """
    source = env.host_source(environment)
    oldest = env.ensure_host(env.OLDEST_HOST, environment)
    say(f"host: ComfyUI {env.host_version(source)}, {source}; oldest: {env.host_version(oldest)}, {oldest}")
    browser = _browser()
    ruff = env.script(environment, "ruff")
    types = [env.script(environment, "pyright"), "--pythonpath", env.script(environment, "python")]
    of_host = [*types, "--project", "host/pyrightconfig.json"]  # basic mode: the host itself has few types
    static: dict[str, list[str | Path]] = {
        "lint (ruff check)": [ruff, "check", "."],
        "format (ruff format --check)": [ruff, "format", "--check", "."],
        "types (pyright)": types,
        "types of host and nodes (pyright, basic)": of_host,
    }
    for title, command in static.items():
        code = _phase(title, command, source)
        if code != 0:
            return code
    say("== tests (pytest)")
    # The console script, not `python -m pytest`: that would put our root on sys.path, where our `nodes` hides the host's.
    marks = "not weights and not fullsize" + ("" if has_accelerator() else " and not gpu")
    named = any((env.ROOT / argument.split("::")[0]).exists() for argument in pytest_arguments)
    command = [
        env.script(environment, "pytest"),
        *([] if named else ["tests"]),
        *([] if named or "-m" in pytest_arguments else _workers()),
        "-m",
        marks,
        *pytest_arguments,
    ]
    page = env.ensure_frontend(env.NEWEST_FRONTEND, environment) if browser else ""
    hosts = {
        "ADAPTIVESR_HOST": str(source),
        "ADAPTIVESR_OLDEST_HOST": str(oldest),
        "ADAPTIVESR_NEWEST_FRONTEND": str(page),
    }
    # The tests' networks are tiny: more threads only wait for one another, minutes long on a busy machine.
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    return _run(command, {**hosts, **threads, "ADAPTIVESR_CHROMIUM": str(browser or "")})


def _workers() -> list[str]:
    """The whole suite uses all cores; a worker starts one host, and the tests of a file stay with one worker."""
    return ["-n", str(min(os.cpu_count() or 1, MOST_WORKERS)), "--dist", "loadfile"]


def _browser() -> Path | None:
    found = chromium.find_or_install()
    if found is None and os.environ.get("CI"):
        raise StepError("No Chromium was found and it cannot be installed here; CI must not skip the browser tests.")
    say(f"browser: {found}" if found else "browser: no Chromium found, the browser tests are skipped")
    return found


def _phase(title: str, command: Sequence[str | Path], source: Path) -> int:
    started = time.monotonic()
    say(f"== {title}")
    # Pyright asks the interpreter for its path, and finds the host there.
    code = _run(command, {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1", "PYTHONPATH": str(source)})
    say(f"== {title}: {'ok' if code == 0 else 'FAILED'} ({time.monotonic() - started:.0f} s)")
    return code


def _run(command: Sequence[str | Path], environ: Mapping[str, str]) -> int:
    words = [str(part) for part in command]
    with subprocess.Popen(words, cwd=env.ROOT, env={**os.environ, **environ}) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:  # give pytest the time to stop its host
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            process.kill()
            raise
