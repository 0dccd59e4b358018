"""What would stop a training's files is found before the first step, and no name is used by two."""

import pytest


@pytest.fixture
def files(comfy, tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    return comfy.module("host.training.files")


def test_a_file_in_the_folders_place_is_found_before_the_first_step(files, tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "adaptivesr").write_text("a file")
    for runs in (files.DISTILL, files.TASR, files.MMLE, files.PFJ):
        with pytest.raises(ValueError, match="could not be written") as error:
            runs.check_start("run")
        assert str(tmp_path) not in str(error.value)


def test_a_disk_without_room_or_right_is_found_before_the_first_step(files, monkeypatch, tmp_path):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr(files.tempfile, "TemporaryFile", full)
    with pytest.raises(ValueError, match=r"could not be written \(No space left on device\)") as error:
        files.DISTILL.check_start("run")
    assert str(tmp_path) not in str(error.value)


def test_too_small_a_disk_is_a_sentence(files):
    files.DISTILL.check_start("run")
    files.check_disk(1)
    with pytest.raises(ValueError, match="GB left, and this run saves about"):
        files.check_disk(10**18)


def test_a_good_start_leaves_nothing_behind(files, tmp_path):
    files.DISTILL.check_start("run")
    assert [path for path in (tmp_path / "output").rglob("*") if path.is_file()] == []


def test_two_runs_of_one_name_never_share_a_state(files):
    files.DISTILL.check_start("run")
    assert [files.DISTILL.claim("run") for _ in range(3)] == ["run_00001", "run_00002", "run_00003"]
    assert files.DISTILL.states() == []
