"""Ray on this machine: the same bytes as one worker, and kills of what can be killed: nothing lost, nothing done twice."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from adaptivesr.tools.env.steps import StepError
from adaptivesr.tools.evaluate import cluster
from adaptivesr.tools.evaluate import main as command
from adaptivesr.tools.evaluate.worker import WorkerSpec

from .conftest import alive, workflow

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="kills processes"),
]
pytest.importorskip("ray", reason="Ray is not installed")
ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120


@pytest.fixture
def words(source, workflow_file, tmp_path):
    """Arguments of a run of two workers."""

    def of(folder, output="out", workers=2):
        run = [str(workflow_file), "--input", str(folder), "--output", str(tmp_path / output), "--metrics", "", "--cpu"]
        return [*run, *(["--workers", str(workers)] if workers else [])]

    return of


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s for {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def driver(arguments):
    """A run in a process of its own, as an installed pack starts it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.evaluate", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A shell's job in the background hands on that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        text=True,
        encoding="utf-8",
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def finished(process):
    text = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 0, text
    return text


def results(folder):
    return {file.name: file.read_bytes() for file in (folder / "pictures").iterdir()}


def test_two_workers_give_the_bytes_of_one_and_survive_kills_of_a_host_and_of_an_actor(
    words, pictures, diary, tmp_path, monkeypatch
):
    folder = pictures(18)
    assert command.main(words(folder, "one", workers=0)) == 0
    alone = results(tmp_path / "one")
    (first,) = diary.hosts()
    done, begun = diary.count("ends"), diary.count("begins")
    monkeypatch.setenv("STAND_IN_DELAY", "0.4")
    killed: list[int] = []  # pictures that hosts began and did not end

    def both_work():
        return diary.count("begins") - diary.count("ends") - len(killed) == 2

    with driver(words(folder)) as process:
        wait_for(lambda: diary.count("ends") >= done + 3 and both_work(), "three pictures, and two under way")
        hosts = [found for found in diary.hosts() if found != first]
        assert len(hosts) == 2 and len({actor for _, actor in hosts}) == 2, "a host for each of two actors"
        os.kill(hosts[0][0], signal.SIGKILL)
        killed.append(hosts[0][0])
        wait_for(lambda: len(diary.hosts()) == 4, "a host instead of the killed one")
        # The picture of this kill is done before the next: two kills would set it aside.
        under_way = [tmp_path / "out" / "records" / f"p{i:02}.png.json" for i in range(diary.count("begins") - begun)]
        wait_for(lambda: all(record.exists() for record in under_way), "the pictures that were under way")
        wait_for(both_work, "pictures in both workers' hands")
        os.kill(hosts[1][1], signal.SIGKILL)
        wait_for(lambda: not alive(hosts[1][0]), "the end of the host whose actor was killed")
        text = finished(process)
    assert results(tmp_path / "out") == alone
    assert "its ComfyUI ended with code -9; tried once more" in text and "its worker died" in text
    assert diary.count("ends") - done <= 18 + 2, "at most the two that were under way are done again"
    wait_for(lambda: not any(alive(host) for host, _ in diary.hosts()), "the end of all hosts")


def test_a_killed_driver_leaves_nothing_behind_and_goes_on_and_so_does_one_that_was_stopped(
    words, pictures, diary, tmp_path, monkeypatch
):
    folder = pictures(16)
    monkeypatch.setenv("STAND_IN_DELAY", "0.4")
    records = tmp_path / "out" / "records"

    def kept():
        return len(list(records.glob("*.json"))) if records.is_dir() else 0

    def nothing_runs():
        return not any(alive(pid) for pair in diary.hosts() for pid in pair)

    with driver(words(folder)) as process:
        wait_for(lambda: kept() >= 3, "three records")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    wait_for(nothing_runs, "the end of hosts and actors of the killed driver")
    before, first = results(tmp_path / "out"), kept()
    with driver(words(folder)) as process:
        wait_for(lambda: kept() >= first + 3, "three more")
        process.send_signal(signal.SIGINT)
        text = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 130 and f"{kept()} of 16 pictures are done; the same command goes on" in text
    assert f"{first} of 16 pictures are done already; {16 - first} are left" in text
    wait_for(nothing_runs, "the end of hosts and actors of the stopped driver")
    second, begun = kept(), diary.count("begins")
    assert command.main(words(folder, workers=0)) == 0
    assert diary.count("begins") - begun == 16 - second and len(results(tmp_path / "out")) == 16
    assert before.items() <= results(tmp_path / "out").items()


class InThisProcess:
    """What the slots ask of Ray, without processes: an actor's methods run when their results are asked for."""

    exceptions = types.SimpleNamespace(RayError=ArithmeticError, ActorUnavailableError=ZeroDivisionError)
    away = 0

    def init(self, **_):
        pass

    def shutdown(self):
        pass

    def kill(self, actor, *, no_restart):
        actor.end()

    def cluster_resources(self):
        return {"CPU": 2.0}

    def remote(self, kind):
        def actor(*given):
            made = kind(*given)
            return types.SimpleNamespace(
                ready=types.SimpleNamespace(remote=lambda: made.ready), end=made._slot._worker.close
            )

        return types.SimpleNamespace(options=lambda **_: types.SimpleNamespace(remote=actor))

    def wait(self, refs, **_):
        return refs[:1], refs[1:]

    def get(self, ref):
        if self.away:
            self.away -= 1
            raise self.exceptions.ActorUnavailableError("The actor is temporarily unavailable")
        return ref()


def test_a_workflow_that_suits_no_worker_ends_the_run_with_a_sentence(
    words, pictures, workflow_file, diary, monkeypatch, capsys
):
    workflow_file.write_text(
        workflow_file.read_text(encoding="utf-8").replace("AdaptiveSRUpscale", "Unknown"), encoding="utf-8"
    )
    monkeypatch.setattr(cluster, "ray_module", InThisProcess)
    monkeypatch.setattr(sys, "path", list(sys.path))  # which an actor changes for its process
    with pytest.raises(StepError, match="No worker could start: This ComfyUI has no node 'Unknown'"):
        command.main(words(pictures(1)))
    assert len(diary.hosts()) == 2 and not any(alive(host) for host, _ in diary.hosts())
    said = capsys.readouterr().out
    assert all(f"worker {number}: This ComfyUI has no node" in said for number in (1, 2))


def test_a_worker_that_cannot_be_reached_for_a_while_is_waited_for(words, pictures, source, monkeypatch):
    monkeypatch.setattr(cluster, "ray_module", InThisProcess)
    monkeypatch.setattr(cluster, "AWAY_PAUSE", 0)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(InThisProcess, "away", 20)
    spec = WorkerSpec(workflow(), source=str(source))
    with cluster.RaySlots([spec], None) as slots:
        for _ in range(20):
            assert slots.next() is None and slots.free() == []
        assert slots.next() is None and slots.free() == [0]
    monkeypatch.setattr(cluster, "START_SECONDS", -1)
    with cluster.RaySlots([spec], None) as slots:
        assert slots.next() is None and not slots.any_left(), "given up"


def test_a_cluster_that_lets_nobody_in_is_a_sentence():
    def init(**_):
        raise ConnectionError("Failed to connect\nand more")

    ray = types.SimpleNamespace(init=init, exceptions=types.SimpleNamespace(RayError=RuntimeError))
    with pytest.raises(StepError, match=r"at 10\.0\.0\.1:6379 lets us in \(Failed to connect\).*RAY_AUTH_MODE=token"):
        cluster.connect(ray, "10.0.0.1:6379")


def test_ray_is_known_to_one_module_only():
    named = [file.name for file in (ROOT / "tools").rglob("*.py") if '"ray"' in file.read_text(encoding="utf-8")]
    imported = [file for file in ROOT.glob("*/**/*.py") if "import ray\n" in file.read_text(encoding="utf-8")]
    assert named == ["cluster.py"] and [file.name for file in imported if "tests" not in file.parts] == []
