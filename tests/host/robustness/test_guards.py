"""Short forms of the standing guards, and what they would say of a failure."""

import os
import time

import pytest

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="cases run in processes of their own")


@forks
def test_killed_trainings_resume(capsys):
    from adaptivesr.tools.fuzz import kills

    outcomes = kills.run(6, seed=1)
    assert outcomes.report() == 0 and outcomes.counts == {"resumed": 6}
    assert "fuzz kills, seed 1: 6 cases, 0 bad" in capsys.readouterr().out


@forks
def test_damaged_files_load_or_are_a_sentence(comfy, capsys):
    from adaptivesr.tools.fuzz import files

    outcomes = files.run(12, seed=1)
    assert outcomes.report() == 0 and sum(outcomes.counts.values()) == 12
    assert "12 cases, 0 bad" in capsys.readouterr().out


def test_a_case_is_the_same_whenever_it_runs():
    import random

    import torch
    from adaptivesr.tools.fuzz.damage import damaged

    tensors = {f"layer.{i}.weight": torch.ones(3, 3) for i in range(4)}
    for case in range(20):
        first, second = (damaged(tensors, {"a": "b 1"}, random.Random(f"3 {case}")) for _ in range(2))
        assert first[0] == second[0] and first[2] == second[2]
        assert first[1] == second[1] or first[2] != ".safetensors"  # a pickle's archive holds times


def test_a_failure_prints_what_repeats_it(capsys):
    from adaptivesr.tools.fuzz.outcomes import Outcomes

    outcomes = Outcomes("files", 5)
    outcomes.add(0, "cfw, cut", "a sentence", 0.1)
    outcomes.add(17, "cfw, NaN", "BAD KeyError: 'x'", 0.1)
    outcomes.add(18, "vq, cut", "ran", 25.0)
    assert outcomes.report() == 1
    said = capsys.readouterr().out
    assert "python dev.py fuzz files --seed 5 --case 17" in said and "--case 18" in said
    assert "3 cases, 2 bad, longest 25.0 s" in said


def test_what_a_case_takes_is_what_its_process_works():
    from adaptivesr.tools.fuzz.outcomes import HostWork

    watch = HostWork(os.getpid())
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    worked = watch.seconds()
    time.sleep(0.3)
    assert worked >= 0.15
    if os.path.exists(f"/proc/{os.getpid()}/stat"):
        assert watch.seconds() < worked + 0.25  # sleeping is no work
    watch.restart()
    assert watch.seconds() < 0.2


def test_values_and_soak_on_a_running_host(server, client, capsys):
    from adaptivesr.tools import soak
    from adaptivesr.tools.fuzz.values import judged, places, small_workflow

    assert len(places(client.object_info())) > 80
    prompt = small_workflow("one_step_sr")
    node = next(node for node in prompt.values() if node["class_type"] == "AdaptiveSROneStepDistilledSR")
    node["inputs"]["scale"] = float("nan")
    run = client.run(prompt, timeout=60)
    client.post(
        "/history", {"clear": True}
    )  # with NaN in it the host's list of jobs is no JSON: the page reports an error
    assert judged(run) == "a sentence" and "scale = nan" in run.error
    assert soak.memory_mb(server.process.pid) >= 0
