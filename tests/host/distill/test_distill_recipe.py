"""`dev.py train tadsr`: a real run in a process of its own, resumed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from adaptivesr.tools.small_models.resshift import SMALL_TEACHER, SMALL_VQ, put_small_resshift
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[3]


def recipe(out, *runs):
    """The reports of runs in one process; the environment is the one that runs the tests."""
    code = (
        "import sys, types; from pathlib import Path\n"
        f"pack = types.ModuleType('adaptivesr'); pack.__path__ = [{str(ROOT)!r}]; sys.modules['adaptivesr'] = pack\n"
        "import adaptivesr.tools.train.tadsr as train\n"
        "import os; host = Path(os.environ['ADAPTIVESR_HOST'])\n"
        "train.env.ensure_environment, train.env.host_source = (lambda: host), (lambda _: host)\n"
        "raise SystemExit(sum(train.main(run.split()) for run in sys.argv[1:]))\n"
    )
    common = f"--out {out} --batch 1 --generated 1 --metrics psnr"
    command = [sys.executable, "-c", code, *(f"{common} {run}" for run in runs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=out.parent)
    assert done.returncode == 0, done.stderr[-2000:]
    decoder, text, found = json.JSONDecoder(), done.stdout, []
    while (start := text.find("{\n")) >= 0:
        report, end = decoder.raw_decode(text[start:])
        found.append(report)
        text = text[start + end :]
    return found


@pytest.mark.slow
def test_both_families_train_and_go_on(tmp_path):
    put_small_resshift(tmp_path)
    folder = tmp_path / "models" / "adaptivesr"
    files = f"--checkpoint {folder / 'one_step' / SMALL_TEACHER} --autoencoder {folder / 'autoencoder' / SMALL_VQ}"
    small = "--crop 32 --teacher-steps 2"
    first, second, third = recipe(
        tmp_path / "out",
        f"{small} --steps 2",
        f"{small} --steps 1 --resume distilled_00001",
        f"{small} --steps 1 {files} --method SinSR --lr 0.001 --degradation bicubic",
    )
    assert first["steps"] == 2 and set(first["quality"]) == {"teacher, 15 steps", "student, 1 step"}
    assert second["steps"] == 3 and second["started_from"] == f"the run {first['resume']}"
    assert "/sinsr_s4_" in third["file"] and set(third["losses"]) == {"distill", "inverse", "cycle"}
    with safe_open(tmp_path / "out" / second["file"], "pt") as file:
        assert float(file.get_tensor("one_step")) == 1 and "recipe" in file.metadata()
    for kind in ("losses", "samples"):
        assert (tmp_path / "out" / f"{second['resume']}_{kind}.png").is_file()
