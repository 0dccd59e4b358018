"""`python -m tools.evaluate ...` from the pack's folder, with the Python that runs ComfyUI: the same as `dev.py evaluate`."""

from __future__ import annotations

import importlib
import os
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Gives the pack its importable name, as dev.py does, and runs the command; the root must not be importable, our `nodes` would hide the host's."""
    sys.path[:] = [entry for entry in sys.path if Path(entry or os.curdir).resolve() != ROOT]
    pack = types.ModuleType("adaptivesr")
    pack.__path__ = [str(ROOT)]
    sys.modules.setdefault("adaptivesr", pack)
    command = importlib.import_module("adaptivesr.tools.evaluate.main")
    steps = importlib.import_module("adaptivesr.tools.env.steps")
    try:
        return command.main(sys.argv[1:])
    except steps.StepError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
