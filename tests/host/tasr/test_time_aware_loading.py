"""Load Time-Aware ControlNet: files of every layout become a CONTROL_NET, and wrong ones get a sentence."""

import pytest
import torch
from adaptivesr.models.latent_control import join_control_file
from adaptivesr.tools.small_models import controls as small_controls
from adaptivesr.tools.small_models.controls import SMALL_TASR, small_latent_controlnet, small_tasr_file
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def loading(comfy):
    return comfy.module("host.control.controlnet")


@pytest.fixture(scope="module")
def folder(comfy):
    import folder_paths

    paths, _ = folder_paths.folder_names_and_paths[comfy.module("host.files").CONTROLNET]
    from pathlib import Path

    place = Path(paths[0])
    place.mkdir(parents=True, exist_ok=True)
    return place


@pytest.fixture(scope="module")
def tasr(folder):
    contents = small_tasr_file()
    torch.save(contents, folder / SMALL_TASR)
    flat = join_control_file(contents["checkpoint_controlnet"], contents["checkpoint_adapter"])
    save_file(flat, folder / "flat.safetensors")
    save_file(contents["checkpoint_controlnet"], folder / "v2.safetensors")
    save_file(contents["checkpoint_adapter"], folder / "adapters.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "flat.safetensors").read_bytes()[:5000])
    return contents


def load(loading, name, adapter=None, prediction="auto"):
    return loading.load_time_aware_control(name, adapter or loading.FROM_THE_CONTROLNET_FILE, prediction)


@pytest.mark.parametrize("name", [SMALL_TASR, "flat.safetensors"])
def test_a_tasr_file_gives_both_parts(loading, tasr, name):
    loaded = load(loading, name)
    weights = loaded.control.control_model.state_dict()
    assert set(weights) == set(tasr["checkpoint_controlnet"])
    for key, value in tasr["checkpoint_controlnet"].items():
        assert torch.equal(weights[key].half(), value)
    assert set(loaded.adapters.network.state_dict()) == set(tasr["checkpoint_adapter"])
    assert "SD 2.x (4 + 1 residuals)" in loaded.info and "lite, 5 sites" in loaded.info


def test_adapters_come_out_of_a_second_file(loading, tasr):
    assert load(loading, "v2.safetensors").adapters is None
    assert "No adapters" in load(loading, "v2.safetensors").info
    assert "lite, 5 sites" in load(loading, "v2.safetensors", "adapters.safetensors").info


@pytest.mark.parametrize(
    ("name", "prediction"),
    [
        ("tasr_v1.pth", "eps"), ("tasr_v1.pt", "eps"), ("v2.pth", "eps"), ("v1_general.pth", "eps"), ("v1_face.pth", "eps"),
        ("DiffBIR_v2.1.pt", "v"), ("sub/diffbir_v2_1.safetensors", "v"), ("my_own.pth", None), ("v21.pth", "v"),
    ],
)  # fmt: skip
def test_the_lineage_by_name(loading, name, prediction):
    assert loading.guess_prediction(name) == prediction


def test_the_lineage_is_told_and_can_be_chosen(loading, tasr):
    assert load(loading, "flat.safetensors").control.prediction is None
    assert "Lineage unknown" in load(loading, "flat.safetensors").info
    chosen = load(loading, "flat.safetensors", prediction="v")
    assert chosen.control.copy().prediction == "v" and "zero terminal SNR" in chosen.info


@pytest.mark.parametrize(
    ("name", "adapter", "sentence"),
    [
        ("adapters.safetensors", None, "holds time-aware adapters only"),
        ("v2.safetensors", "v2.safetensors", "holds no time-aware adapters"),
        ("cut.safetensors", None, "could not be read as a file of tensors"),
        ("ordinary.safetensors", None, "own Load ControlNet Model"),
        ("unet.safetensors", None, "holds|No known network"),
        ("missing.safetensors", None, "missing zero_convs.1.0.bias"),
        ("absent.safetensors", None, "expected a file that the list offers"),
    ],
)
def test_files_of_another_kind(loading, tasr, folder, name, adapter, sentence):
    if name == "ordinary.safetensors":
        save_file(small_controls.small_tile_controlnet(), folder / name)
    if name == "unet.safetensors":
        save_file({"conv_in.weight": torch.zeros(3)}, folder / name)
    if name == "missing.safetensors":
        kept = {k: v for k, v in tasr["checkpoint_controlnet"].items() if k != "zero_convs.1.0.bias"}
        save_file(kept, folder / name)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        load(loading, name, adapter)


def test_the_full_published_network_is_built_and_loaded_strictly(comfy):
    """On meta: 324 tensors, 363 153 280 parameters."""
    from pathlib import Path

    lines = (Path(__file__).resolve().parents[2] / "golden" / "keys" / "diffbir_controlnet.txt").read_text().split("\n")
    shapes = [line.split()[:2] for line in lines if line]
    keys = {key: torch.empty([int(side) for side in shape.split("x")], device="meta") for key, shape in shapes}
    networks, configs = comfy.module("host.networks"), comfy.module("models.latent_control")
    config = configs.LatentControlConfig.from_state_dict(keys)
    for arguments in (config.arguments(), networks.UNetShape()):
        network = networks.controlnet(arguments, device="meta")
        comfy.module("models.state_dict").load_weights(network, keys)
        assert len(network.state_dict()) == 324
        assert sum(parameter.numel() for parameter in network.parameters()) == 363_153_280


def test_the_node_gives_all_three(comfy, tasr):
    node = comfy.node("AdaptiveSRLoadTimeAwareControlNet")
    control, adapters, info = node.execute(SMALL_TASR, "(from the ControlNet file)").args
    assert type(control).__name__ == "LatentControl" and adapters.label in info
    stamp = node.fingerprint_inputs(SMALL_TASR, "(from the ControlNet file)")
    assert stamp == node.fingerprint_inputs(SMALL_TASR, "(from the ControlNet file)")


def test_a_control_samples_with_the_small_checkpoint(loading, tasr, folder, sample, apply):
    """The file's own network through the host's loader of checkpoints, on one more path than random small networks."""
    import comfy.sd
    from adaptivesr.tools.small_models.checkpoints import put_small_checkpoint

    path = put_small_checkpoint(folder)
    model = comfy.sd.load_checkpoint_guess_config(str(path), output_vae=False, output_clip=False)[0]
    loaded = load(loading, SMALL_TASR)
    prompts = [[[torch.zeros(1, 77, 1024), {}]] for _ in range(2)]
    given = apply(loaded.control, positive=prompts[0], negative=prompts[1])
    plain, controlled = sample(model, prompts, steps=1), sample(model, given, steps=1)
    assert torch.isfinite(controlled).all() and not torch.equal(plain, controlled)
    assert small_latent_controlnet()["input_blocks.0.0.weight"].shape == (320, 8, 3, 3)
