"""`dev.py train stablesr`: real runs in processes of their own, the second of which goes on with the first."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[3]
CODE = (
    "import os, sys, types; from pathlib import Path\n"
    f"pack = types.ModuleType('adaptivesr'); pack.__path__ = [{str(ROOT)!r}]; sys.modules['adaptivesr'] = pack\n"
    "import adaptivesr.tools.train.stablesr as train\n"
    "host = Path(os.environ['ADAPTIVESR_HOST'])\n"
    "train.env.ensure_environment, train.env.host_source = (lambda: host), (lambda _: host)\n"
    "raise SystemExit(train.main(sys.argv[1:]))\n"
)
FAST = ["--batch", "1", "--crop", "64", "--size", "small", "--precision", "float32", "--threads", "1"]


def train(folder, *options):
    command = [sys.executable, "-c", CODE, "--out", str(folder / "out"), *FAST, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout[done.stdout.index("{\n") :])


@pytest.mark.slow
def test_it_trains_from_the_command_line_and_goes_on(tmp_path):
    first = train(tmp_path, "--steps", "1")
    second = train(tmp_path, "--steps", "2", "--resume", first["resume"])
    assert (first["steps"], second["steps"]) == (1, 3)
    with safe_open(tmp_path / "out" / second["file"], "pt") as file:
        assert any(key.startswith("structcond_stage_model.") for key in file.keys())  # noqa: SIM118  not a dict
