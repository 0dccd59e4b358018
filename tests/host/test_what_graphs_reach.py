"""What whoever queues graphs can reach: folders that the owner opened, and text that the page cannot run."""

from pathlib import Path

import pytest


@pytest.fixture
def files(comfy):
    return comfy.module("host.files")


def test_folders_below_input_output_and_models_are_open(files, comfy, tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.delenv("ADAPTIVESR_FOLDERS", raising=False)
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    assert files.allowed_folder(" photos ") == tmp_path / "input" / "photos"
    assert files.allowed_folder(f'"{tmp_path / "input" / "a b"}"') == tmp_path / "input" / "a b"
    assert files.allowed_folder(folder_paths.get_output_directory())


@pytest.mark.parametrize(
    "text", ["/", "/proc/self", "~root", "../..", "photos/../../..", "a\0b", "x" * 5000, "{tmp}", "{tmp}/secret"]
)
def test_all_others_are_refused_with_one_sentence(files, tmp_path, monkeypatch, text):
    import folder_paths

    monkeypatch.delenv("ADAPTIVESR_FOLDERS", raising=False)
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "base" / "input"))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "base" / "output"))
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "base" / "models"))
    (tmp_path / "secret").mkdir()
    named = text.replace("{tmp}", str(tmp_path))
    if text == "~root":  # a folder of that name below input, not somebody's home
        assert files.allowed_folder(named) == tmp_path / "base" / "input" / "~root"
        return
    with pytest.raises(
        ValueError, match=r"expected one below ComfyUI's input, output or models folder.*ADAPTIVESR_FOLDERS"
    ):
        files.allowed_folder(named)


def test_the_owner_opens_further_folders(files, tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTIVESR_FOLDERS", str(tmp_path))
    assert files.allowed_folder(str(tmp_path / "set")) == tmp_path / "set"
    with pytest.raises(ValueError, match="expected one below"):
        files.allowed_folder(f"{tmp_path}-other")


def test_a_command_opens_the_folder_that_it_names(files, comfy, tmp_path, monkeypatch):
    standalone = comfy.module("host.standalone")
    monkeypatch.setenv("ADAPTIVESR_FOLDERS", str(tmp_path / "open"))
    monkeypatch.chdir(tmp_path)
    assert standalone.opened_folder(None) == ""
    named = standalone.opened_folder(Path("photos"))
    assert files.allowed_folder(named) == tmp_path / "photos" == Path(named)
    assert files.allowed_folder(str(tmp_path / "open" / "set")), "what was open stays open"
    with pytest.raises(ValueError, match="expected one below"):
        files.allowed_folder(str(tmp_path / "other"))


def test_a_state_is_one_that_the_list_offers(comfy):
    runs = comfy.module("host.training.files").DISTILL
    for name in ("../../x", "nothing", "", "a\0b"):
        with pytest.raises(ValueError, match="There is no saved run"):
            runs.saved_state(name)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "x" * 300, "é" * 100, "a\0b"])
def test_a_name_that_cannot_be_a_files_is_refused_before_the_first_step(comfy, name):
    with pytest.raises(ValueError, match="for a file's name"):
        comfy.module("host.training.files").check_name(name)


@pytest.mark.parametrize(
    "text",
    [
        "<img src=x onerror=alert(1)>",
        "a &lt;b&gt;",
        "see http://x.y",
        "javascript:alert(1)",
        "www.x.y",
        "\x1b[31m\u202ered",
        "z" * 9000,
    ],
)
def test_text_for_the_page_is_inert(comfy, text):
    shown = comfy.module("host.runtime").inert(text)
    assert (
        not set("<>&\x1b\u202e") & set(shown)
        and "://" not in shown
        and "javascript:" not in shown
        and "www." not in shown
    )
    assert len(shown) <= 4004


def test_ordinary_lines_stay_as_they_are(comfy):
    line = "TAD-SR, 15 steps: 512 x 512 -> 2048 x 2048 in 1.2 s, tau 0.002 (file: a_b-1.safetensors)"
    assert comfy.module("host.runtime").inert(line).replace("\u203a", ">") == line
