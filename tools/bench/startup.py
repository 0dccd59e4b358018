"""`dev.py bench startup`: seconds that importing the pack adds to the host's start (goal < 0.1).

The host imports its reader of pyproject.toml for the first pack that has one; that is a row of its own, since it is paid once
for all packs. So is a full round of Python's collector over all of the host's objects, where one falls into the import.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..env import environment as env
from ..env.server import PACK_NAME, has_accelerator, link_pack
from .parts.report import write_report

REPEATS = 5
GOAL_SECONDS = 0.1
LAZY = ("kornia", "pyiqa")

# Runs in a process of its own, where the host's modules are importable and nothing of ours is loaded yet.
PROBE = """
import asyncio, gc, json, sys, time
from comfy.cli_args import args
args.cpu, args.base_directory = json.loads(sys.argv[1])
start = time.perf_counter()
import nodes
host = time.perf_counter()
import comfy_config.config_parser
reader = time.perf_counter()
before = set(sys.modules)
rounds = []
gc.callbacks.append(lambda phase, _: rounds.append(time.perf_counter()))
processor, start_pack = time.process_time(), time.perf_counter()
assert asyncio.run(nodes.load_custom_node(sys.argv[2]))
pack, processor = time.perf_counter() - start_pack, time.process_time() - processor
collector = sum(rounds[1::2]) - sum(rounds[::2])
added = {name.split(".")[0] for name in set(sys.modules) - before}
modules = len(set(sys.modules) - before)
found = {"host": host - start, "reader": reader - host, "pack": pack, "collector": collector, "modules": modules}
print(json.dumps({**found, "processor": processor, "added": sorted(added)}))
"""


def main(argv: list[str]) -> int:
    """Imports the host and then the pack in fresh processes; prints and writes the least of their times."""
    if argv:
        raise SystemExit(f"startup takes no arguments, got {' '.join(argv)}")
    source = env.host_source(env.ensure_environment())
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        link_pack(base / "custom_nodes", PACK_NAME)
        _probe(source, base)  # leaves compiled modules behind
        runs = [_probe(source, base) for _ in range(REPEATS)]
    least = {key: min(run[key] for run in runs) for key in ("host", "reader", "pack", "processor")}
    quiet = min(run["pack"] - run["collector"] for run in runs)
    early = sorted({name for run in runs for name in run["added"]} & set(LAZY))
    result = {
        **{f"{key}_seconds": round(value, 4) for key, value in least.items()},
        "pack_seconds_without_collector": round(quiet, 4),
        "ratio": round(quiet / least["host"], 4),
        "runs": [{key: round(run[key], 4) for key in ("pack", "collector", "processor")} for run in runs],
        "modules": runs[0]["modules"],
        "imported_early": early,
    }
    lines = [
        f"| what | seconds (least of {REPEATS} processes) |",
        "|---|---|",
        f"| host's core nodes | {least['host']:.2f} |",
        f"| host's reader of pyproject.toml, once for all packs | {least['reader']:.3f} |",
        f"| this pack, after them: {runs[0]['modules']} modules | {least['pack']:.3f} |",
        f"| the same without rounds of Python's collector that fell into it | {quiet:.3f} |",
        f"| the same, of the processor, such rounds included | {least['processor']:.3f} |",
    ]
    write_report("startup", result, lines)
    return 0 if quiet < GOAL_SECONDS and not early else 1


def _probe(source: Path, base: Path) -> dict[str, Any]:
    arguments = json.dumps([not has_accelerator(), str(base)])
    command = [sys.executable, "-c", PROBE, arguments, str(base / "custom_nodes" / PACK_NAME)]
    keeping = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, cwd=source, env=keeping, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])
