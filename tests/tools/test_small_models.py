"""`dev.py host --small-models`: a page on which every shipped workflow finds its files."""

import contextlib
import json

import pytest
from adaptivesr.tools.env import server
from adaptivesr.tools.small_models.stand_ins import API, model_files

FOLDERS = ("models", "input")


@pytest.fixture
def started(monkeypatch, tmp_path):
    """A function that calls the verb up to the host's start; the base folder that the host would have got."""

    def call(**options):
        @contextlib.contextmanager
        def running_host(source, *, port, prepare):
            for folder in FOLDERS:
                (tmp_path / folder).mkdir()
            prepare(tmp_path)
            raise KeyboardInterrupt
            yield

        monkeypatch.setattr(server, "running_host", running_host)
        monkeypatch.setattr(server.env, "host_source", lambda environment: environment)
        with pytest.raises(KeyboardInterrupt):
            server.stay(tmp_path, server.free_port(), **options)
        return tmp_path

    return call


def files_below(base):
    return {path.name for folder in FOLDERS for path in (base / folder).rglob("*") if path.is_file()}


def test_a_host_has_no_models_of_its_own(started):
    assert files_below(started()) == set()


@pytest.mark.slow
def test_with_small_models_every_file_that_a_workflow_names_is_there(started):
    prompts = [json.loads(file.read_text(encoding="utf-8")) for file in API.glob("*.json")]
    pictures = {
        node["inputs"]["image"] for prompt in prompts for node in prompt.values() if node["class_type"] == "LoadImage"
    }
    named = {file for _, _, file in model_files(prompts)}
    assert len(named) > 5 and pictures
    assert named | pictures <= files_below(started(small_models=True))
