"""`dev.py train tasr`: a real run in a process of its own, resumed, and the list of recipes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[3]


def recipe(out, *runs):
    """The reports of runs in one process; the environment is the one that runs the tests."""
    code = (
        "import sys, types; from pathlib import Path\n"
        f"pack = types.ModuleType('adaptivesr'); pack.__path__ = [{str(ROOT)!r}]; sys.modules['adaptivesr'] = pack\n"
        "import adaptivesr.tools.train.tasr as train\n"
        "import os; host = Path(os.environ['ADAPTIVESR_HOST'])\n"
        "train.env.ensure_environment, train.env.host_source = (lambda: host), (lambda _: host)\n"
        "raise SystemExit(sum(train.main(run.split()) for run in sys.argv[1:]))\n"
    )
    common = f"--out {out} --batch 1 --adapter-every 2"
    command = [sys.executable, "-c", code, *(f"{common} {run}" for run in runs)]
    closed = {key: value for key, value in os.environ.items() if key != "ADAPTIVESR_FOLDERS"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=out.parent, env=closed)
    assert done.returncode == 0, done.stderr[-2000:]
    decoder, text, found = json.JSONDecoder(), done.stdout, []
    while (start := text.find("{\n")) >= 0:
        report, end = decoder.raw_decode(text[start:])
        found.append(report)
        text = text[start + end :]
    return found


@pytest.mark.slow
def test_it_trains_and_goes_on(tmp_path):
    (tmp_path / "photos").mkdir()  # read by its relative name, though no graph may name it
    Image.new("RGB", (80, 72), (90, 140, 60)).save(tmp_path / "photos" / "leaf.png")
    runs = "--images photos --steps 2", "--images photos --steps 1 --resume tasr_adapter_00001"
    first, second = recipe(tmp_path / "out", *runs)
    assert first["steps"] == 2 and "lite, 5 sites" in first["adapters"]
    assert second["steps"] == 3 and second["started_from"] == f"the run {first['resume']}"
    with safe_open(tmp_path / "out" / second["file"], "pt") as file:
        keys = set(file.keys())
    assert {"checkpoint_controlnet.zero_convs.0.0.weight", "checkpoint_adapter.0.0.emb.weight"} <= keys
    assert (tmp_path / "out" / f"{second['resume']}_losses.png").is_file()


def test_an_unknown_recipe_names_those_there_are():
    done = subprocess.run(
        [sys.executable, "-c", f"import runpy, sys; dev = runpy.run_path({str(ROOT / 'dev.py')!r})\n"
         "try:\n    dev['named_module']('train', 'nothing')\nexcept Exception as error:\n    print(error)"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (
        "There is no train 'nothing'; there are: cfw, embedded, mmle, noise_predictor, pfj, stablesr, tadsr, tasr."
        in done.stdout
    ), done.stderr
