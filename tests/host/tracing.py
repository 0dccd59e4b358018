"""How many functions of the pack stand between a node and what it computes."""

import os
import sys
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Paths:
    """The deepest chain of the pack's own frames, as `file:function`, at the calls of one function."""

    def __init__(self, function):
        self.function, self.deepest = function, []

    def __call__(self, frame, event, _):
        if event == "call" and frame.f_code.co_name == self.function.split(":")[1]:
            chain = [name for name in (own_name(f) for f in outwards(frame)) if name is not None][::-1]
            if chain and chain[-1] == self.function and len(chain) > len(self.deepest):
                self.deepest = chain


def outwards(frame):
    """A frame and all that called it."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def own_name(frame):
    """`file:function` of a frame of the pack, None for others and for tests; the host imports the pack through a link."""
    path = Path(os.path.realpath(frame.f_code.co_filename))
    if not path.is_relative_to(ROOT) or path.is_relative_to(ROOT / "tests"):
        return None
    return f"{path.relative_to(ROOT).as_posix()}:{frame.f_code.co_name}"


@contextmanager
def paths_to(function):
    """Watches the calls of a function of the pack, "file:function", in this thread."""
    paths = Paths(function)
    sys.setprofile(paths)
    try:
        yield paths
    finally:
        sys.setprofile(None)
