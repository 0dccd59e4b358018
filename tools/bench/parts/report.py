"""How every benchmark writes its results: JSON and a table, with the machine named."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

RESULTS = Path(__file__).resolve().parents[1] / "results"


def machine() -> str:
    """Processor, threads and torch of this run, in words."""
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        device = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    return f"{device}, {platform.system()}, Python {platform.python_version()}, torch {torch.__version__}"


def write_report(name: str, result: Mapping[str, object], lines: Sequence[str]) -> None:
    """Prints the table and writes `results/<name>.json` and `.md`."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"machine": machine(), **result}, indent=1) + "\n"
    (RESULTS / f"{name}.json").write_text(content, encoding="utf-8")
    text = "\n".join([f"# {name}", "", f"Machine: {machine()}.", "", *lines, ""])
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    print("\n".join(lines), flush=True)
