"""The cache folder: half-made things are made again, broken ones are explained in a sentence."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path, PurePosixPath

import pytest
from adaptivesr.tools.env import environment as env
from adaptivesr.tools.env import steps

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTIVESR_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def archive(path: Path, files: dict[str, bytes]) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_cache_is_where_the_variable_says(cache):
    assert env.home() == cache


def test_compiled_modules_are_kept_in_the_cache_and_nowhere_else(cache, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    env.keep_bytecode()
    cache.mkdir()
    (cache / "probe.py").write_text("", encoding="utf-8")
    subprocess.run([sys.executable, "-c", "import probe"], cwd=cache, check=True)
    assert [path.name.split(".")[0] for path in (cache / "bytecode").rglob("probe*")] == ["probe"]
    assert not list(cache.glob("__pycache__"))


def test_the_environment_is_named_by_its_requirements():
    assert env.environment_key("a==1\n") == env.environment_key("a==1\n")
    assert env.environment_key("a==1\n") != env.environment_key("a==2\n")


def test_what_is_complete_is_not_made_again_and_what_is_half_made_is(tmp_path, capsys):
    folder = tmp_path / "cache" / "thing"
    with env.making(folder, "the thing") as fresh:
        assert fresh
        folder.mkdir()
    with env.making(folder, "the thing") as fresh:
        assert not fresh
    (folder / env.MARKER).unlink()
    (folder / "left over").touch()
    with env.making(folder, "the thing") as fresh:
        assert fresh and not folder.exists()
        folder.mkdir()
    assert env.is_complete(folder) and "half made" in capsys.readouterr().out


def test_what_fails_half_way_is_not_complete(tmp_path):
    folder = tmp_path / "thing"
    with pytest.raises(steps.StepError), env.making(folder, "the thing"):
        folder.mkdir()
        raise steps.StepError("no")
    assert folder.exists() and not env.is_complete(folder)


def test_an_environment_whose_python_vanished_is_made_again(tmp_path):
    folder = tmp_path / "thing"
    with env.making(folder, "the thing"):
        folder.mkdir()
    with env.making(folder, "the thing", needs=folder / "bin" / "python") as fresh:
        assert fresh
        folder.mkdir()


def test_a_wrong_checksum_is_said_and_the_file_is_removed(tmp_path):
    file = tmp_path / "host.tar.gz"
    file.write_bytes(b"something else")
    with pytest.raises(steps.StepError, match=r"host\.tar\.gz has sha256 [0-9a-f]{64}, expected 00"):
        env.verify(file, "00" * 32)
    assert not file.exists()


def test_only_the_host_is_unpacked_and_nothing_outside_its_folder(tmp_path):
    file = tmp_path / "host.tar.gz"
    files = {"p-1/vendor/ComfyUI/main.py": b"1", "p-1/vendor/ComfyUI/comfy/a.py": b"2", "p-1/other.py": b"3"}
    files |= {"p-1/vendor/ComfyUI/../../../../evil.py": b"4"}
    archive(file, files)
    env.unpack(file, PurePosixPath("vendor/ComfyUI"), tmp_path / "a" / "b" / "host")
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.py")}
    assert written == {"a/b/host/main.py", "a/b/host/comfy/a.py"}


def test_a_truncated_archive_is_a_sentence(tmp_path):
    file = tmp_path / "host.tar.gz"
    archive(file, {"p-1/vendor/ComfyUI/main.py": os.urandom(5000)})
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(steps.StepError, match="damaged"):
        env.unpack(file, PurePosixPath("vendor/ComfyUI"), tmp_path / "host")


def test_a_host_that_is_complete_is_not_fetched(cache):
    folder = cache / "hosts" / env.PINNED_HOST.version
    folder.mkdir(parents=True)
    (folder / env.MARKER).touch()
    assert env.ensure_host(env.PINNED_HOST, cache / "no environment") == folder


def test_a_comfyui_path_without_a_main_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(steps.StepError, match=r"no main\.py"):
        env.host_source(tmp_path)
    (tmp_path / "main.py").touch()
    assert env.host_source(tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk"),
        ("Failed to establish a new connection: [Errno -3] Temporary failure in name resolution", "no network"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "checksum"),
        ("The virtual environment was not created because ensurepip is not available", "python3-venv"),
    ],
)
def test_known_failures_are_explained(output, words, tmp_path):
    assert words in (steps.explain(output, tmp_path) or "")


def test_a_failing_step_names_its_cause_and_its_log(tmp_path, capsys):
    command = [sys.executable, "-c", "print('chatter'); print('ERROR: no such thing.'); raise SystemExit(3)"]
    with pytest.raises(steps.StepError, match=r"doing it failed: ERROR: no such thing\. .*step\.log"):
        steps.run_step("doing it", command, folder=tmp_path, log=tmp_path / "step.log")
    assert "chatter" not in capsys.readouterr().out
    assert "chatter" in (tmp_path / "step.log").read_text(encoding="utf-8")


def test_a_silent_step_has_a_heartbeat(tmp_path, capsys):
    command = [sys.executable, "-c", "import time; time.sleep(0.8)"]
    steps.run_step("waiting", command, folder=tmp_path, log=tmp_path / "step.log", heartbeat=0.1)
    assert "still working" in capsys.readouterr().out


def test_two_makers_take_turns(tmp_path, capsys):
    inside, order = threading.Event(), []

    def second() -> None:
        inside.wait()
        with steps.file_lock(tmp_path / "x.lock", waiting_for="it"):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with steps.file_lock(tmp_path / "x.lock", waiting_for="it"):
        inside.set()
        thread.join(0.5)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert "waiting for another process" in capsys.readouterr().out


def test_the_command_ends_with_a_sentence_and_no_traceback(tmp_path):
    home = tmp_path / "file instead of a folder"
    home.touch()
    environ = {**os.environ, "ADAPTIVESR_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "dev.py", "demo"], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr


def test_an_unknown_verb_is_refused_before_anything_is_made(cache):
    done = subprocess.run([sys.executable, "dev.py", "dance"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "dance" in done.stderr and not cache.exists()


def test_every_requirement_is_pinned():
    lines = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert all("==" in line and "://" not in line for line in wanted)
    ours = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    assert set(ours) <= {line.split("==")[0] for line in wanted}


def test_ci_runs_the_test_command_and_nothing_else():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.startswith("#!/usr/bin/env bash\nset -euo pipefail\n") and "dev.py test\n" in script
