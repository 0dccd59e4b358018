"""A case in a process of its own, with limits of time and memory, so that a crash or a hang is an outcome too."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from ..env.environment import ROOT

SECONDS, MEMORY = 30, 6 << 30


def outcome_of(case: Callable[[], str]) -> tuple[str, float]:
    """How case() ended in a forked child, and the seconds that it took: its word, 'a sentence', or what is BAD about it."""
    reading, writing = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reading)
        answer = "BAD end: no answer"
        try:
            torch.set_num_threads(1)  # the threads of the parent's pool are not in its child, which would wait for them
            _limit()
            answer = case()
        except BaseException as error:  # noqa: BLE001  whatever a case raises is its outcome
            answer = judged(error)
        finally:
            os.write(writing, json.dumps(answer).encode()[:60000])
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - started
    if said:
        return str(json.loads(said)), seconds
    ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return ("BAD hang: no answer in time" if ended == signal.SIGALRM else f"BAD crash: signal {ended}"), seconds


def _limit() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(SECONDS)


def judged(error: BaseException) -> str:
    """'a sentence' for an error that the pack raises itself, in one line of words; else BAD with where it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if str(ROOT) in os.path.realpath(frame.filename)]
    text = str(error).strip()
    raised_here = bool(own) and own[-1] is frames[-1] and isinstance(error, (ValueError, FileNotFoundError))
    if raised_here and len(text) > 40 and "\n" not in text:
        return "a sentence"
    place = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
    return f"BAD {type(error).__name__}: {text[:200]} at {place}"
