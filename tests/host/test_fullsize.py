"""Published sizes on fake CUDA tensors: the product's own path from a node's function to its result."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def table(*arguments):
    """What the command prints; its exit code is checked."""
    # A process of its own: the host takes PyTorch's attention only where it is told so before its first import.
    words = [sys.executable, str(ROOT / "dev.py"), "fullsize", *arguments]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_one_step_and_regions_run_in_half_precision():
    printed = table("quick")
    assert "One-Step Distilled SR, TAD-SR, 1 step" in printed
    regions = next(line for line in printed.splitlines() if "Tiled Region Sampler, SD 2.1" in line)
    assert "| 2 + 0 |" in regions, "two calls a step, each waits once: for its check of overflow"


@pytest.mark.fullsize
@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
def test_the_whole_list_runs_in_every_dtype(dtype):
    table("--dtype", dtype)
