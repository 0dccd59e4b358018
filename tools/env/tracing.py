"""Which functions of the pack lie on the stack when one of them is called: what a reader has to walk through."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

PACK = Path(__file__).resolve().parents[2]
VALUES = PACK / "host" / "values.py"


def _ours(frame: FrameType | None) -> list[str]:
    """`file:function` of the pack's frames on a stack from a node's `execute` on, the outermost first.

    Tests, comprehensions and the check of values that every node's `execute` is wrapped in are left out.
    """
    found: list[str] = []
    while frame is not None:
        code, file = frame.f_code, Path(frame.f_code.co_filename).resolve()
        if file.is_relative_to(PACK) and not file.is_relative_to(PACK / "tests") and not code.co_name.startswith("<"):
            if file == VALUES:
                break
            found.append(f"{file.relative_to(PACK).as_posix()}:{code.co_name}")
        frame = frame.f_back
    return found[::-1]


@contextmanager
def stacks(is_goal: Callable[[CodeType], bool]) -> Iterator[list[list[str]]]:
    """Collects the pack's stacks at every call of a function for which is_goal(code) holds."""
    found: list[list[str]] = []

    def profile(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and is_goal(frame.f_code):
            found.append(_ours(frame))

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield found
    finally:
        sys.setprofile(before)
