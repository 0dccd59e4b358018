"""Safetensors files that end in zeros without holding them on the disk."""

import torch
from adaptivesr.tools.small_models.text_encoders import clip_l, open_clip_h, save_with_zeros
from safetensors.torch import load_file


def parameters(shapes):
    return sum(torch.Size(shape).numel() for _, shape in shapes)


def test_tensors_come_back_and_the_rest_is_zero(tmp_path):
    kept = {"one": torch.arange(6.0).reshape(2, 3), "scalar": torch.tensor(0.5), "odd": torch.ones(3)}
    save_with_zeros(kept, {"none": (5, 7), "bias": (5,)}, tmp_path / "file.safetensors")
    loaded = load_file(tmp_path / "file.safetensors")
    assert sorted(loaded) == ["bias", "none", "odd", "one", "scalar"]
    assert all(torch.equal(loaded[key].float(), value) for key, value in kept.items())
    assert loaded["none"].shape == (5, 7) and not loaded["none"].any() and not loaded["bias"].any()
    assert {value.dtype for value in loaded.values()} == {torch.float16}


def test_zeros_take_no_place_where_the_file_system_has_holes(tmp_path):
    path = tmp_path / "file.safetensors"
    save_with_zeros({"one": torch.ones(4)}, {"none": (4096, 4096)}, path)
    status = path.stat()
    assert status.st_size > 32_000_000
    assert not hasattr(status, "st_blocks") or status.st_blocks * 512 < 100_000


def test_sizes_are_those_of_the_published_encoders():
    assert parameters(clip_l()) == 123_060_480
    assert parameters(open_clip_h()) == 354_032_640
