"""`dev.py bench startup`: seconds that importing the pack adds to the host's start (goal < 0.3).

The host imports its reader of pyproject.toml for the first pack that has one; that is a row of its own, since it is paid once
for all packs.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from ..env import environment as env
from ..env.server import PACK_NAME, has_accelerator, link_pack
from .parts.report import write_report

REPEATS = 5
GOAL_SECONDS = 0.3
LAZY = ("kornia", "pyiqa")

# Runs in a process of its own, where the host's modules are importable and nothing of ours is loaded yet.
PROBE = """
import asyncio, json, sys, time
from comfy.cli_args import args
args.cpu, args.base_directory = json.loads(sys.argv[1])
start = time.perf_counter()
import nodes
host = time.perf_counter()
import comfy_config.config_parser
reader = time.perf_counter()
before = set(sys.modules)
assert asyncio.run(nodes.load_custom_node(sys.argv[2]))
pack = time.perf_counter()
added = {name.split(".")[0] for name in set(sys.modules) - before}
print(json.dumps({"host": host - start, "reader": reader - host, "pack": pack - reader, "added": sorted(added)}))
"""


def main(argv: list[str]) -> int:
    """Imports the host and then the pack in fresh processes; prints and writes the medians."""
    if argv:
        raise SystemExit(f"startup takes no arguments, got {' '.join(argv)}")
    source = env.host_source(env.ensure_environment())
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        link_pack(base / "custom_nodes", PACK_NAME)
        runs = [_probe(source, base) for _ in range(REPEATS)]
    pack, reader, host = (statistics.median(run[key] for run in runs) for key in ("pack", "reader", "host"))
    early = sorted({name for run in runs for name in run["added"]} & set(LAZY))
    result = {
        "pack_seconds": round(pack, 4),
        "reader_seconds": round(reader, 4),
        "host_seconds": round(host, 4),
        "ratio": round(pack / host, 4),
        "runs": [round(run["pack"], 4) for run in runs],
        "imported_early": early,
    }
    lines = [
        "| what | seconds (median of 5 processes) |",
        "|---|---|",
        f"| host's core nodes | {host:.2f} |",
        f"| host's reader of pyproject.toml, once for all packs | {reader:.3f} |",
        f"| this pack, after them | {pack:.3f} |",
    ]
    write_report("startup", result, lines)
    return 0 if pack < GOAL_SECONDS and not early else 1


def _probe(source: Path, base: Path) -> dict[str, object]:
    arguments = json.dumps([not has_accelerator(), str(base)])
    command = [sys.executable, "-c", PROBE, arguments, str(base / "custom_nodes" / PACK_NAME)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])
