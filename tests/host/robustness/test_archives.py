"""Archives of kilobytes that would fill the memory when they are read are refused from their table of contents."""

import io
import zipfile
from pathlib import Path

import pytest
import torch


@pytest.fixture
def read(comfy):
    return comfy.module("host.files").read_file


def archive(path, name, size, kind=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", kind) as made:
        made.writestr(f"archive/{name}", bytes(size))
        made.writestr("archive/version", "3\n")
    return str(path)


@pytest.mark.parametrize("name", ["data.pkl", "data/0"])
def test_what_unfolds_to_far_more_than_its_file_is_refused_at_once(read, tmp_path, name):
    path = archive(tmp_path / "bomb.pth", name, 80 << 20)
    with pytest.raises(ValueError, match=rf"'bomb\.pth' could not be read .*{name}' unfolds to 80 MB"):
        read(path)


def test_large_weights_are_no_bomb(read, tmp_path):
    torch.save({"layer.weight": torch.zeros(20, 1 << 20)}, tmp_path / "large.pth")  # 80 MB of zeros, packed by nothing
    assert read(str(tmp_path / "large.pth"))["layer.weight"].shape == (20, 1 << 20)


def test_a_small_archive_that_is_packed_loads(read, tmp_path):
    whole = io.BytesIO()
    torch.save({"layer.weight": torch.zeros(1000)}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as made:
        for part in source.infolist():
            made.writestr(part.filename, source.read(part))
    assert read(str(tmp_path / "packed.pth"))["layer.weight"].shape == (1000,)


@pytest.mark.parametrize("key", ["one_step", "kappa", "sqrt_etas"])
def test_an_embedded_file_without_its_schedule_is_a_sentence(comfy, key):
    import folder_paths
    from safetensors.torch import load_file, save_file

    weights = load_file(Path(__file__).resolve().parents[3] / "models" / "weights" / "embedded_student.safetensors")
    weights.pop(key)
    file = Path(folder_paths.models_dir) / "adaptivesr" / "one_step" / f"without_{key}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, file)
    loading = comfy.module("host.resshift.loading")
    try:
        with pytest.raises(ValueError, match=rf"without_{key}\.safetensors'.*{key}"):
            loading.load_one_step(file.name)
    finally:
        file.unlink()
