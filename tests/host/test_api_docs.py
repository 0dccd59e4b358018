"""The commands of docs/api.md, run as they stand there against a real server."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    """A working folder as the page assumes it: the checkout's files and a picture."""
    for name in ("workflows", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    Image.new("RGB", (40, 24), (200, 120, 40)).save(tmp_path / "photo.png")
    return tmp_path


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="curl or jq is not installed")
def test_the_curl_commands_make_a_picture(server, folder):
    script = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)[0]
    assert script.startswith("HOST=http://127.0.0.1:8188\n")
    run(["bash", "-eu", "-c", script.replace("http://127.0.0.1:8188", server.url)], folder)
    with Image.open(folder / "upscaled.png") as picture:
        assert picture.size == (80, 48)


def test_the_script_changes_inputs_saves_pictures_and_prints_reports(server, folder):
    script = [sys.executable, "docs/queue_workflow.py", "photo.png", "--host", server.url]
    text = run([*script, "--set", "scale=3", "--set", "color_fix=adain", "--set", "filename_prefix=api_docs"], folder)
    (picture,) = folder.glob("api_docs*.png")
    with Image.open(picture) as found:
        assert found.size == (120, 72)
    assert picture.name in text and '"output": "120x72"' in text and '"denoise_rows": 1' in text


def test_a_refused_workflow_ends_with_the_hosts_sentence(server, folder):
    script = [sys.executable, "docs/queue_workflow.py", "photo.png", "--host", server.url, "--set", "scale=1000"]
    done = subprocess.run(script, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "bigger than max" in done.stderr
