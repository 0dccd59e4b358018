"""`dev.py train noise_predictor`: a real run in a process of its own, and what its file says of its start steps."""

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
    "import adaptivesr.tools.train.noise_predictor as train\n"
    "host = Path(os.environ['ADAPTIVESR_HOST'])\n"
    "train.env.ensure_environment, train.env.host_source = (lambda: host), (lambda _: host)\n"
    "raise SystemExit(train.main(sys.argv[1:]))\n"
)


@pytest.mark.slow
def test_it_trains_from_the_command_line(tmp_path):
    options = ["--out", str(tmp_path / "out"), "--steps", "1", "--batch", "1", "--taus", "150, 60"]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *options], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout[done.stdout.index("{\n") :])
    assert report["steps"] == 1 and report["taus"] == [150, 60]
    with safe_open(tmp_path / "out" / report["file"], "pt") as file:
        assert file.metadata()["taus"] == "150, 60"
    assert (tmp_path / "out" / f"{report['resume']}_samples.png").is_file()
