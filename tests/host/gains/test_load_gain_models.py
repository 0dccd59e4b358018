"""Files of AdaDiffSR's parts: what is loaded, what is refused, and to which MODEL they belong."""

import os

import pytest
import torch
from safetensors.torch import save_file

BASE = ("0123456789abcdef", "a base")


def test_the_loader_gives_networks_and_facts(comfy, put, parts):
    tensors = parts()
    node = comfy.node("AdaptiveSRLoadMMLEPFJ")
    name = put(BASE, tensors, tau=2e-3, t_half=400.0)
    assert name in node.define_schema().inputs[0].options
    loaded, text = node.execute(name).args
    assert text == (
        "MMLE for latents of 4 channels, PFJ for an LR condition of 4 channels; 3 metrics (psnr, nlpd, sharpness). For a base."
    )
    assert (loaded.info.tau, loaded.info.t_half, loaded.metrics) == (2e-3, 400.0, ("psnr", "nlpd", "sharpness"))
    assert all(torch.equal(value, tensors[key]) for key, value in loaded.network.state_dict().items())
    assert not loaded.is_dynamic() or loaded.patcher.is_dynamic()


def test_stored_precision_does_not_change_the_computing_one(host, put, parts):
    tensors = {key: value.half() for key, value in parts().items()}
    loaded = host.load_gain_models(put(BASE, tensors))
    if not loaded.patcher.is_dynamic():
        assert {value.dtype for value in loaded.network.state_dict().values()} == {torch.float32}


def test_the_host_can_make_an_unshared_copy(host, put):
    loaded = host.load_gain_models(put(BASE))
    copy = loaded.patcher.clone(force_deepcopy=True)
    assert copy.model is not loaded.network
    assert all(torch.equal(a, b) for a, b in zip(copy.model.parameters(), loaded.network.parameters()))


def test_the_list_offers_the_embedded_file_and_what_training_wrote(comfy, folder):
    import folder_paths

    node = comfy.node("AdaptiveSRLoadMMLEPFJ")
    assert "embedded: teacher, 15 steps" in node.define_schema().inputs[0].options
    trained = os.path.join(folder_paths.get_output_directory(), "adaptivesr", "gain_models")
    assert trained in folder_paths.get_folder_paths("adaptivesr_gain_models")
    assert folder in folder_paths.get_folder_paths("adaptivesr_gain_models")


def damaged(folder, kind, parts):
    path = os.path.join(folder, f"{kind}.safetensors")
    match kind:
        case "truncated":
            save_file(parts(), path)
            with open(path, "r+b") as file:
                file.truncate(os.path.getsize(path) // 2)
        case "without_metadata":
            save_file(parts(), path)
        case "other_kind":
            save_file({"quantize.embedding.weight": torch.zeros(4, 3)}, path)
        case "text":
            with open(path, "w", encoding="utf-8") as file:
                file.write("not a model")
    return f"{kind}.safetensors"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", "'truncated.safetensors' could not be read as a file of tensors"),
        ("text", "'text.safetensors' could not be read as a file of tensors"),
        ("without_metadata", "'without_metadata.safetensors': The file has no metadata entry"),
        ("other_kind", "'other_kind.safetensors'.*missing"),
    ],
)
def test_files_that_cannot_be_used_are_refused_by_name(host, folder, parts, kind, message):
    import folder_paths

    name = damaged(folder, kind, parts)
    folder_paths.filename_list_cache.clear()
    with pytest.raises(ValueError, match=message):
        host.load_gain_models(name)


def test_a_file_of_another_kind_is_named(comfy, host, folder):
    import shutil

    import folder_paths

    source = comfy.module("host.files").EMBEDDED_WEIGHTS / "embedded_student.safetensors"
    shutil.copy(source, os.path.join(folder, "student.safetensors"))
    folder_paths.filename_list_cache.clear()
    with pytest.raises(ValueError, match=r"'student.safetensors' is of another kind .* an MMLE regressor"):
        host.load_gain_models("student.safetensors")


def test_more_metrics_than_the_networks_have_are_refused(host, put, parts, metrics):
    with pytest.raises(ValueError, match="networks have 3 gains, the metadata names 2"):
        host.load_gain_models(put(BASE, parts(), metrics=metrics[:2]))
