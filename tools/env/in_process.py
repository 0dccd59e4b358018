"""The host's modules inside this process, for checks and benchmarks that use its networks without a server."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from .server import has_accelerator


def enter_host(source: Path, *, cpu: bool | None = None) -> None:
    """Makes the host of `source` importable; on the CPU unless there is an accelerator, or as told.

    To be called before anything imports the host: it looks at its device once.
    """
    if str(source) not in sys.path:
        sys.path.insert(0, str(source))
    args = importlib.import_module("comfy.cli_args").args
    args.cpu = not has_accelerator() if cpu is None else cpu
