"""`dev.py train stablesr` and `dev.py train cfw`: real runs in processes of their own, the second of which goes on with the first."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[3]
CODE = (
    "import importlib, os, sys, types; from pathlib import Path\n"
    f"pack = types.ModuleType('adaptivesr'); pack.__path__ = [{str(ROOT)!r}]; sys.modules['adaptivesr'] = pack\n"
    "train = importlib.import_module(f'adaptivesr.tools.train.{sys.argv[1]}')\n"
    "host = Path(os.environ['ADAPTIVESR_HOST'])\n"
    "train.env.ensure_environment, train.env.host_source = (lambda: host), (lambda _: host)\n"
    "raise SystemExit(train.main(sys.argv[2:]))\n"
)
FAST = ["--batch", "1", "--crop", "64", "--size", "small", "--precision", "float32", "--threads", "1"]
TRIPLES = ["--triples", "4", "--sampling-steps", "1", "--adversarial-after", "1"]


def train(recipe, folder, *options):
    command = [sys.executable, "-c", CODE, recipe, "--out", str(folder / "out"), *FAST, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout[done.stdout.index("{\n") :])


def keys_of(folder, report):
    with safe_open(folder / "out" / report["file"], "pt") as file:
        return list(file.keys())


@pytest.mark.slow
def test_stablesr_trains_from_the_command_line_and_goes_on(tmp_path):
    first = train("stablesr", tmp_path, "--steps", "1")
    second = train("stablesr", tmp_path, "--steps", "2", "--resume", first["resume"])
    assert (first["steps"], second["steps"]) == (1, 3)
    assert any(key.startswith("structcond_stage_model.") for key in keys_of(tmp_path, second))


@pytest.mark.slow
def test_cfw_trains_from_the_command_line_and_goes_on_with_its_triples(tmp_path):
    first = train("cfw", tmp_path, "--steps", "1", *TRIPLES)
    triples = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("triples_*/*.safetensors")}
    second = train("cfw", tmp_path, "--steps", "2", *TRIPLES, "--resume", first["resume"])
    assert (first["steps"], second["steps"], second["triples"]) == (1, 3, 4)
    assert second["started_from"] == f"the run {first['resume']}"
    assert set(second["losses"]) == {"l1", "perceptual", "adversarial", "discriminator"}
    keys = keys_of(tmp_path, second)
    assert keys and all(key.startswith("decoder.fusion_layer_") for key in keys)
    assert len(triples) == 1 and all(path.stat().st_mtime_ns == made for path, made in triples.items())
    assert len(list((tmp_path / "out").rglob("triples_*/*.safetensors"))) == 1
    assert (tmp_path / "out" / f"{second['resume']}_losses.png").is_file()
