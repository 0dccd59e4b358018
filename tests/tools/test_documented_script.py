"""The documented script says in a sentence what is wrong with what it is given, before anything is sent."""

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "docs" / "queue_workflow.py"


@pytest.fixture
def said(tmp_path, monkeypatch):
    (tmp_path / "picture.png").write_bytes(b"a picture")

    def run(*words, picture="picture.png"):
        monkeypatch.setattr(
            sys, "argv", [str(SCRIPT), str(tmp_path / picture), "--host", "http://127.0.0.1:9/", *map(str, words)]
        )
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return str(end.value)

    return run


def test_a_workflow_of_the_page_is_told_from_one_of_the_api(said):
    assert "not in the API format" in said("--workflow", ROOT / "workflows" / "one_step_sr.json")


def test_what_is_no_workflow_is_a_sentence(said, tmp_path):
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    for name in ("broken.json", "missing.json", "picture.png"):
        assert "cannot be read as a workflow" in said("--workflow", tmp_path / name)


def test_inputs_that_the_workflow_has_not_are_named(said):
    assert "no input 'scael': expected one of" in said("--set", "scael=2")
    assert "Expected --set NAME=VALUE" in said("--set", "scale")


def test_missing_places_are_found_before_the_run(said, tmp_path):
    assert "Expected a picture and a folder" in said("--out", tmp_path / "none")
    assert "Expected a picture and a folder" in said(picture="none.png")


def test_without_a_host_it_is_a_sentence(said):
    assert "No ComfyUI answers at http://127.0.0.1:9/upload" in said()
